//! The internet between the clusters, and each cluster's node in it.
//!
//! `mesh-wan` is a network namespace with a bridge per cluster, a veth to the
//! machine, no default route, and a firewall that drops and counts everything
//! between clusters but the opened ports.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::{
    cluster::{Node, POD_NETWORK},
    command::{ip, run, run_with_input},
};

/// The namespace that plays the internet.
pub const WAN: &str = "mesh-wan";
/// The machine's own end of its veth to the WAN.
pub const HOST_LINK: &str = "mesh-host";
/// Everything in the lab, as the machine routes it.
const LAB_NETWORK: &str = "10.99.0.0/16";
/// The port that is open between clusters from the start: the gateway's.
pub const GATEWAY_PORT: u16 = 4143;

/// The place of one cluster in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site(u8);

impl Site {
    /// The `index`th cluster, from 1.
    #[must_use]
    pub const fn new(index: u8) -> Self {
        Self(index)
    }

    /// The address of the `n`th node, from 1.
    #[must_use]
    pub const fn node(self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.0, 9 + n)
    }

    /// The `n`th address for Services of type LoadBalancer.
    #[must_use]
    pub const fn load_balancer(self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.0, 100 + n)
    }

    /// The cluster's interface in the WAN.
    #[must_use]
    pub fn bridge(self) -> String {
        format!("br{}", self.0)
    }

    const fn router(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.0, 1)
    }
}

/// The network namespace of a cluster's first node.
#[must_use]
pub fn node_namespace(cluster: &str) -> String {
    format!("mesh-{cluster}")
}

/// Makes the WAN, its link to the machine, and its firewall.
///
/// # Errors
/// If a command fails.
pub fn make_wan() -> Result<()> {
    ip(&format!("netns add {WAN}"))?;
    ip(&format!("-n {WAN} link set lo up"))?;
    ip(&format!(
        "link add {HOST_LINK} type veth peer name host0 netns {WAN}"
    ))?;
    ip(&format!("-n {WAN} address add 10.99.0.1/24 dev host0"))?;
    ip(&format!("-n {WAN} link set host0 up"))?;
    ip(&format!("address add 10.99.0.2/24 dev {HOST_LINK}"))?;
    ip(&format!("link set {HOST_LINK} up"))?;
    ip(&format!(
        "route add {LAB_NETWORK} via 10.99.0.1 dev {HOST_LINK}"
    ))?;
    // Packets for a lab that is down go nowhere.
    ip(&format!(
        "route replace blackhole {LAB_NETWORK} metric 4096"
    ))?;
    sysctl(WAN, "net.ipv4.ip_forward", "1")?;
    // What nodes of one cluster say to each other does not cross the firewall.
    sysctl(WAN, "net.bridge.bridge-nf-call-iptables", "0")?;
    run_with_input("ip", &["netns", "exec", WAN, "nft", "-f", "-"], FIREWALL)
        .context("the WAN's firewall")?;
    Ok(())
}

/// The WAN's firewall. What comes out of a relay it has judged on its way in.
pub const FIREWALL: &str = "
table inet lab {
    set opened { type inet_service; elements = { 4143 } }
    counter dropped {}
    chain relayed {
        type filter hook prerouting priority raw;
        iifname \"relay*\" notrack
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        iifname \"relay*\" accept
        ct state established,related accept
        iifname \"host0\" accept
        tcp dport @opened accept
        counter name \"dropped\" drop
    }
}
";

/// Makes the bridge of a cluster in the WAN.
///
/// # Errors
/// If a command fails.
pub(crate) fn make_site(site: Site) -> Result<()> {
    let (bridge, router) = (site.bridge(), site.router());
    ip(&format!("-n {WAN} link add {bridge} type bridge"))?;
    ip(&format!("-n {WAN} address add {router}/24 dev {bridge}"))?;
    ip(&format!("-n {WAN} link set {bridge} up"))?;
    Ok(())
}

/// Makes a node's namespace, on the bridge of its cluster.
///
/// # Errors
/// If a command fails.
pub(crate) fn make_node(node: Node<'_>) -> Result<()> {
    let site = node.cluster.site();
    let (name, bridge, router) = (node.namespace(), site.bridge(), site.router());
    ip(&format!("netns add {name}"))?;
    ip(&format!("-n {name} link set lo up"))?;
    let port = format!("port{}n{}", site.0, node.number);
    ip(&format!(
        "-n {name} link add eth0 type veth peer name {port} netns {WAN}"
    ))?;
    ip(&format!("-n {WAN} link set {port} master {bridge} up"))?;
    let address = node.address();
    ip(&format!("-n {name} address add {address}/24 dev eth0"))?;
    ip(&format!("-n {name} link set eth0 up"))?;
    ip(&format!("-n {name} route add default via {router}"))?;
    sysctl(&name, "net.ipv4.ip_forward", "1")?;
    sysctl(&name, "net.bridge.bridge-nf-call-iptables", "1")?;
    let masquerade = format!(
        "table inet lab {{\n chain postrouting {{\n  \
         type nat hook postrouting priority srcnat + 10;\n  \
         ip saddr {POD_NETWORK} ip daddr != {POD_NETWORK} oifname \"eth0\" masquerade\n }}\n}}\n"
    );
    run_with_input(
        "ip",
        &["netns", "exec", &name, "nft", "-f", "-"],
        &masquerade,
    )
    .context("the node's masquerading")?;
    Ok(())
}

/// Tells every node of a cluster where the others' pods are.
///
/// # Errors
/// If a command fails.
pub(crate) fn connect_nodes(nodes: &[Node<'_>]) -> Result<()> {
    for node in nodes {
        for other in nodes.iter().filter(|other| other.number != node.number) {
            let (network, via) = (other.pod_network(), other.address());
            let name = node.namespace();
            ip(&format!("-n {name} route add {network} via {via}"))?;
        }
    }
    Ok(())
}

pub(crate) fn sysctl(namespace: &str, name: &str, value: &str) -> Result<()> {
    let setting = format!("{name}={value}");
    run(
        "ip",
        &["netns", "exec", namespace, "sysctl", "-q", "-w", &setting],
    )?;
    Ok(())
}

/// Lets TCP connections to `port` pass between clusters.
///
/// # Errors
/// If the lab is down.
pub fn open_port(port: u16) -> Result<()> {
    change_opened("add", port)
}

/// Takes [`open_port`] back; connections that are open stay.
///
/// # Errors
/// If the lab is down.
pub fn close_port(port: u16) -> Result<()> {
    change_opened("delete", port)
}

fn change_opened(verb: &str, port: u16) -> Result<()> {
    let element = format!("{{ {port} }}");
    run(
        "ip",
        &[
            "netns", "exec", WAN, "nft", verb, "element", "inet", "lab", "opened", &element,
        ],
    )?;
    Ok(())
}

/// How many packets between clusters the firewall has dropped.
///
/// # Errors
/// If the lab is down.
pub fn dropped_packets() -> Result<u64> {
    let text = run(
        "ip",
        &[
            "netns", "exec", WAN, "nft", "list", "counter", "inet", "lab", "dropped",
        ],
    )?;
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    words
        .nth(1)
        .and_then(|count| count.parse().ok())
        .with_context(|| format!("no packet count in {text:?}"))
}

/// The firewall, as `nft` shows it.
///
/// # Errors
/// If the lab is down.
pub fn firewall() -> Result<String> {
    run(
        "ip",
        &["netns", "exec", WAN, "nft", "list", "table", "inet", "lab"],
    )
}
