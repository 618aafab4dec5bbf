//! What the user types. Each command turns its arguments into options that
//! hold parsed values; nothing after that sees raw text.

use clap::{Args, Parser, Subcommand};

use crate::{
    check::CheckArgs,
    explain::{ExplainArgs, LinkCheckArgs},
    inject_command::InjectArgs,
    install::InstallArgs,
    multicluster::{
        dns_command::DnsArgs, exports::ExportsArgs, gateways::GatewaysArgs,
        install::MulticlusterInstallArgs, link::LinkArgs, services::ServicesArgs,
        unlink::UnlinkArgs,
    },
    trust::Trust,
    uninstall::UninstallArgs,
    version::VersionArgs,
};

/// Joins Kubernetes clusters into one service mesh.
#[derive(Debug, Parser)]
#[command(name = "mesh", disable_version_flag = true)]
pub(crate) struct Mesh {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the version of this program, and of what a cluster runs
    Version(VersionArgs),
    /// Print the objects of the control plane, for `kubectl apply -f -`
    Install(InstallArgs),
    /// Print the objects of the control plane, for `kubectl delete -f -`
    Uninstall(UninstallArgs),
    /// Add the sidecar to the pods of a manifest, for `kubectl apply -f -`
    Inject(InjectArgs),
    /// Look for what is wrong with the mesh in a cluster
    Check(CheckArgs),
    /// Show why a call does or does not get through, hop by hop
    Explain(ExplainArgs),
    /// Join clusters
    #[command(subcommand)]
    Multicluster(Multicluster),
    /// The roots of trust of a cluster
    #[command(subcommand)]
    Trust(Trust),
}

/// The commands that join clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum Multicluster {
    /// Print the objects of gateway and mirror, for `kubectl apply -f -`
    Install(MulticlusterInstallArgs),
    /// Print the objects of gateway and mirror, for `kubectl delete -f -`
    Uninstall,
    /// List the gateways of the linked clusters, each tried from here
    Gateways(GatewaysArgs),
    /// List what this cluster shares, with whom, and why not
    Exports(ExportsArgs),
    /// List the mirrors of what linked clusters share
    Services(ServicesArgs),
    /// Print or install the DNS rule for names such as web.east
    Dns(DnsArgs),
    /// Link this cluster and another, on both sides
    Link(LinkArgs),
    /// Remove a link, on both sides
    Unlink(UnlinkArgs),
    /// Try the links from end to end, and name the first hop that is broken
    Check(LinkCheckArgs),
    /// Show why a call does or does not get through, hop by hop
    Explain(ExplainArgs),
}

/// Which images to run.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Where the images are
    #[arg(long, default_value = "mesh.dev", value_name = "NAME")]
    pub(crate) registry: String,
    /// Their version
    #[arg(long, default_value = "dev", value_name = "TAG")]
    pub(crate) image_tag: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Mesh::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        let line = |line: &str| Mesh::try_parse_from(line.split(' ')).map(|_| ());
        for good in [
            "mesh uninstall --crds",
            "mesh explain web.east -n shop --from client-1 --port 80 -o json",
            "mesh multicluster explain web-east",
            "mesh multicluster check east --context west",
            "mesh multicluster uninstall",
            "mesh multicluster gateways -o json",
            "mesh multicluster exports",
            "mesh multicluster services",
            "mesh multicluster dns --install",
            "mesh multicluster link --cluster east --direction trust-only",
            "mesh multicluster link --cluster east -o yaml --output-dir links",
            "mesh multicluster link --cluster east --file east.yaml --fingerprint AB",
        ] {
            assert!(line(good).is_ok(), "{good}");
        }
        for bad in [
            "mesh explain",
            "mesh explain web --port 0",
            "mesh multicluster link --cluster east --file east.yaml",
            "mesh multicluster link --cluster east --output-dir links",
            "mesh multicluster link --cluster east --file e.yaml --fingerprint AB --direction both",
        ] {
            assert!(line(bad).is_err(), "{bad}");
        }
    }
}
