//! `mesh multicluster install`: gateway and mirror, as a manifest.

use clap::Args;
use mesh_api::names;

use crate::{
    args::ImageArgs,
    manifests::{
        gateway::{self, ServiceType},
        images::Images,
        mirror,
        namespace::namespace,
    },
    yaml::print,
};

/// Options of `mesh multicluster install`.
#[derive(Debug, Args)]
pub(crate) struct MulticlusterInstallArgs {
    /// How many gateways
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    gateway_replicas: u16,
    /// How other clusters reach the gateway
    #[arg(long, value_enum, default_value = "LoadBalancer", value_name = "TYPE")]
    gateway_service_type: ServiceType,
    #[command(flatten)]
    images: ImageArgs,
}

/// The manifest.
///
/// # Errors
/// If an option is wrong.
pub(crate) fn run(args: MulticlusterInstallArgs) -> anyhow::Result<String> {
    let images = Images::try_from(args.images)?;
    let options = gateway::Options {
        replicas: args.gateway_replicas,
        service_type: args.gateway_service_type,
    };
    let mut objects = vec![namespace(names::MULTICLUSTER_NAMESPACE)];
    objects.extend(gateway::objects(&options, &images));
    objects.extend(mirror::objects(&images));
    Ok(print::stream(&objects))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: MulticlusterInstallArgs,
    }

    fn install(line: &str) -> String {
        run(Line::try_parse_from(line.split(' ')).unwrap().args).unwrap()
    }

    #[test]
    fn gateway_and_mirror_are_printed() {
        let manifest = install("mesh");
        for line in [
            "  name: mesh-multicluster\n",
            "    mesh.dev/roots: \"true\"\n",
            "  type: LoadBalancer\n",
            "        image: \"mesh.dev/mesh-gateway:dev\"\n",
            "        image: \"mesh.dev/mesh-mirror:dev\"\n",
        ] {
            assert!(manifest.contains(line), "{line}");
        }
    }

    #[test]
    fn the_gateway_never_gets_a_token_for_the_api_server() {
        let manifest = install("mesh --gateway-replicas 3 --gateway-service-type NodePort");
        let gateway = manifest
            .split("---\n")
            .find(|d| d.contains("replicas: 3"))
            .unwrap();
        assert!(gateway.contains("automountServiceAccountToken: false\n"));
        assert!(manifest.contains("  type: NodePort\n"));
    }

    #[test]
    fn no_gateways_at_all_are_refused() {
        assert!(Line::try_parse_from(["mesh", "--gateway-replicas", "0"]).is_err());
    }
}
