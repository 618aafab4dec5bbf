//! `mesh install`: the control plane, as a manifest.

use anyhow::Context;
use clap::Args;
use mesh_core::{cluster::ClusterName, identity::TrustDomain};

use crate::{
    args::ImageArgs,
    manifests::{control, crds, images::Images},
    yaml::print,
};

/// Options of `mesh install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The name of this cluster, as others will see it
    #[arg(long, value_name = "NAME")]
    cluster: ClusterName,
    /// The name of its root of trust; the cluster's name unless given
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// Print the custom resource definitions alone
    #[arg(long)]
    crds_only: bool,
    #[command(flatten)]
    images: ImageArgs,
}

/// The manifest.
///
/// # Errors
/// If an option is wrong.
pub(crate) fn run(args: InstallArgs) -> anyhow::Result<String> {
    let mut objects = crds::definitions()?;
    if !args.crds_only {
        let trust_domain =
            match args.trust_domain {
                Some(trust_domain) => trust_domain,
                None => args.cluster.as_str().parse().context(
                    "the cluster's name is no trust domain: give one with --trust-domain",
                )?,
            };
        let images = Images::try_from(args.images)?;
        objects.extend(control::objects(&args.cluster, &trust_domain, &images));
    }
    Ok(print::stream(&objects))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::yaml::{read, split};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: InstallArgs,
    }

    fn install(line: &str) -> String {
        let line = Line::try_parse_from(line.split(' ')).unwrap();
        run(line.args).unwrap()
    }

    fn kinds(manifest: &str) -> Vec<String> {
        split::documents(manifest)
            .iter()
            .map(|document| {
                let object = read::document(document.text).unwrap().unwrap();
                let part = |pointer| {
                    object
                        .pointer(pointer)
                        .unwrap()
                        .as_str()
                        .unwrap()
                        .to_owned()
                };
                format!("{} {}", part("/kind"), part("/metadata/name"))
            })
            .collect()
    }

    #[test]
    fn the_control_plane_and_its_resources_are_printed_in_the_order_of_need() {
        assert_eq!(
            kinds(&install("mesh --cluster west")),
            [
                "CustomResourceDefinition links.mesh.dev",
                "CustomResourceDefinition trafficsplits.split.smi-spec.io",
                "CustomResourceDefinition servers.mesh.dev",
                "CustomResourceDefinition authorizationpolicies.mesh.dev",
                "CustomResourceDefinition meshtlsauthentications.mesh.dev",
                "CustomResourceDefinition networkauthentications.mesh.dev",
                "Namespace mesh-system",
                "ServiceAccount mesh-control",
                "ClusterRole mesh-control",
                "ClusterRoleBinding mesh-control",
                "Role mesh-control",
                "RoleBinding mesh-control",
                "ConfigMap mesh-config",
                "Service mesh-control",
                "Deployment mesh-control",
            ]
        );
        assert_eq!(kinds(&install("mesh --cluster west --crds-only")).len(), 6);
    }

    #[test]
    fn the_same_options_print_the_same_bytes() {
        let line = "mesh --cluster west --registry example.com/mesh --image-tag 1";
        assert_eq!(install(line), install(line));
        assert!(install(line).contains("image: \"example.com/mesh/mesh-control:1\"\n"));
    }

    #[test]
    fn the_trust_domain_is_the_cluster_unless_given() {
        assert!(install("mesh --cluster west").contains("trust-domain: west\n"));
        let manifest = install("mesh --cluster west --trust-domain corp.example");
        assert!(manifest.contains("trust-domain: corp.example\n"));
    }

    #[test]
    fn no_key_is_printed() {
        let manifest = install("mesh --cluster west");
        assert!(!manifest.contains("PRIVATE") && !manifest.contains("kind: Secret"));
    }

    #[test]
    fn a_cluster_needs_a_legal_name() {
        for bad in ["West", "a.b", "-a", "a\nb"] {
            assert!(Line::try_parse_from(["mesh", "--cluster", bad]).is_err());
        }
    }
}
