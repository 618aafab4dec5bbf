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
