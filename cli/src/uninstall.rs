//! `mesh uninstall` and `mesh multicluster uninstall`: what `kubectl delete`
//! needs to know of what the install commands print.

use clap::Args;
use mesh_api::names;
use serde_json::{Value, json};

use crate::{
    manifests::{
        control, crds,
        gateway::{self, ServiceType},
        images::Images,
        mirror,
        namespace::namespace,
    },
    yaml::print,
};

/// Options of `mesh uninstall`.
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// Remove the custom resource definitions too, and with them every Link
    /// and every TrafficSplit
    #[arg(long)]
    crds: bool,
}

/// The control plane.
///
/// # Errors
/// Never, for the objects that it is made of.
pub(crate) fn control_plane(args: &UninstallArgs) -> anyhow::Result<String> {
    let any = "any".parse()?;
    let trust_domain = "any".parse()?;
    let mut objects = Vec::new();
    if args.crds {
        objects.extend(crds::definitions()?);
    }
    objects.extend(control::objects(&any, &trust_domain, &images()));
    Ok(deletion(CONTROL_PLANE, &objects))
}

/// Gateway and mirror.
pub(crate) fn multicluster() -> String {
    let options = gateway::Options {
        replicas: 1,
        service_type: ServiceType::ClusterIp,
    };
    let mut objects = vec![namespace(names::MULTICLUSTER_NAMESPACE)];
    objects.extend(gateway::objects(&options, &images()));
    objects.extend(mirror::objects(&images()));
    deletion(MULTICLUSTER, &objects)
}

const CONTROL_PLANE: &str = "\
# Pods with a sidecar need mesh-control: take their sidecars out first. The
# ConfigMaps mesh-roots in other namespaces stay; nothing uses them then.
";
const MULTICLUSTER: &str = "\
# Run `mesh multicluster unlink` for each link first: mesh-mirror removes the
# Services that it made only while it runs.
";

/// The names of `objects`, last made first.
fn deletion(comment: &str, objects: &[Value]) -> String {
    let named: Vec<Value> = objects.iter().rev().map(named).collect();
    format!("{comment}{}", print::stream(&named))
}

fn named(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut named = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {"name": metadata["name"]},
    });
    if let Some(namespace) = metadata.get("namespace") {
        named["metadata"]["namespace"] = namespace.clone();
    }
    named
}

/// Names of images play no part in what is deleted.
fn images() -> Images {
    Images {
        registry: "mesh.dev".into(),
        tag: "dev".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{read, split};

    fn names_of(manifest: &str) -> Vec<String> {
        let documents = split::documents(manifest);
        let objects = documents
            .iter()
            .filter_map(|document| read::document(document.text).unwrap());
        objects
            .map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]))
            .collect()
    }

    #[test]
    fn all_that_install_makes_is_named_and_the_namespace_goes_last() {
        let manifest = control_plane(&UninstallArgs { crds: false }).unwrap();
        let names = names_of(&manifest);
        assert_eq!(names.first().unwrap(), "\"Deployment\" \"mesh-control\"");
        assert_eq!(names.last().unwrap(), "\"Namespace\" \"mesh-system\"");
        assert_eq!(names.len(), 9);
        assert!(!manifest.contains("image:"));
        assert_eq!(
            manifest,
            control_plane(&UninstallArgs { crds: false }).unwrap()
        );

        let names = names_of(&multicluster());
        assert_eq!(names.last().unwrap(), "\"Namespace\" \"mesh-multicluster\"");
        assert!(names.contains(&"\"ClusterRole\" \"mesh-mirror\"".into()));
        assert!(names.contains(&"\"Service\" \"mesh-gateway\"".into()));
    }

    #[test]
    fn links_and_splits_of_users_are_deleted_only_on_request() {
        let without = control_plane(&UninstallArgs { crds: false }).unwrap();
        assert!(!without.contains("CustomResourceDefinition"));
        let with = control_plane(&UninstallArgs { crds: true }).unwrap();
        assert_eq!(with.matches("CustomResourceDefinition").count(), 6);
    }
}
