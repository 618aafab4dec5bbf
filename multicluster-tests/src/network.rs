//! The internet between the clusters, and each cluster's node in it.
//!
//! `mesh-wan` is a network namespace with a bridge per cluster, a veth to the
//! machine, no default route, and a firewall that drops and counts everything
//! between clusters but the opened ports.

use anyhow::{Context as _, Result};

use crate::{
    addresses::{Family, IpFamilies, Site, on_link},
    cluster::Node,
    command::{ip, run, run_with_input},
};

/// The namespace that plays the internet.
pub const WAN: &str = "mesh-wan";
/// The machine's own end of its veth to the WAN.
pub const HOST_LINK: &str = "mesh-host";
/// The port that is open between clusters from the start: the gateway's.
pub const GATEWAY_PORT: u16 = 4143;

/// The network namespace of a cluster's first node.
#[must_use]
pub fn node_namespace(cluster: &str) -> String {
    format!("mesh-{cluster}")
}

/// Makes the WAN, its link to the machine, and its firewall.
///
/// The machine has a route into the WAN for each family, and no cluster has an
/// address for the machine's sake: what has IPv6 alone has nothing else.
///
/// # Errors
/// If a command fails.
pub(crate) fn make_wan(families: IpFamilies) -> Result<()> {
    // The hosts that are no clusters have nothing but IPv4.
    let families = match families {
        IpFamilies::V4 => families,
        IpFamilies::Dual | IpFamilies::V6 => IpFamilies::Dual,
    };
    ip(&format!("netns add {WAN}"))?;
    make_router(WAN, families)?;
    ip(&format!("-n {WAN} link set lo up"))?;
    ip(&format!(
        "link add {HOST_LINK} type veth peer name host0 netns {WAN}"
    ))?;
    for family in families.all() {
        let (router, machine) = (Site::MACHINE.router(*family), Site::machine(*family));
        let (router, machine) = (on_link(router), on_link(machine));
        ip(&format!("-n {WAN} address add {router} dev host0"))?;
        ip(&format!("address add {machine} dev {HOST_LINK}"))?;
    }
    ip(&format!("-n {WAN} link set host0 up"))?;
    ip(&format!("link set {HOST_LINK} up"))?;
    for family in families.all() {
        let (lab, router) = (family.lab(), Site::MACHINE.router(*family));
        ip(&format!("route add {lab} via {router} dev {HOST_LINK}"))?;
        // Packets for a lab that is down go nowhere.
        ip(&format!("route replace {}", black_hole(*family)))?;
        // What nodes of one cluster say to each other does not cross the firewall.
        sysctl(WAN, bridge_filter(*family), "0")?;
    }
    run_with_input("ip", &["netns", "exec", WAN, "nft", "-f", "-"], FIREWALL)
        .context("the WAN's firewall")?;
    Ok(())
}

/// The route of the machine's that outlives the lab's others.
pub(crate) fn black_hole(family: Family) -> String {
    format!("blackhole {} metric 4096", family.lab())
}

/// Lets a namespace route, and its addresses be of use at once. Links take
/// these settings when they are made.
fn make_router(namespace: &str, families: IpFamilies) -> Result<()> {
    for family in families.all() {
        match family {
            Family::V4 => sysctl(namespace, "net.ipv4.ip_forward", "1")?,
            Family::V6 => {
                sysctl(namespace, "net.ipv6.conf.default.accept_dad", "0")?;
                sysctl(namespace, "net.ipv6.conf.all.forwarding", "1")?;
            }
        }
    }
    Ok(())
}

/// Whether bridges show packets to the firewall.
const fn bridge_filter(family: Family) -> &'static str {
    match family {
        Family::V4 => "net.bridge.bridge-nf-call-iptables",
        Family::V6 => "net.bridge.bridge-nf-call-ip6tables",
    }
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
pub(crate) fn make_site(site: Site, families: IpFamilies) -> Result<()> {
    let bridge = site.bridge();
    ip(&format!("-n {WAN} link add {bridge} type bridge"))?;
    for family in families.all() {
        let router = on_link(site.router(*family));
        ip(&format!("-n {WAN} address add {router} dev {bridge}"))?;
    }
    ip(&format!("-n {WAN} link set {bridge} up"))?;
    Ok(())
}

/// Makes a node's namespace, on the bridge of its cluster.
///
/// # Errors
/// If a command fails.
pub(crate) fn make_node(node: Node<'_>) -> Result<()> {
    let (site, families) = (node.cluster.site(), node.cluster.families());
    let (name, bridge, port) = (node.namespace(), site.bridge(), site.port(node.number));
    ip(&format!("netns add {name}"))?;
    make_router(&name, families)?;
    ip(&format!("-n {name} link set lo up"))?;
    ip(&format!(
        "-n {name} link add eth0 type veth peer name {port} netns {WAN}"
    ))?;
    ip(&format!("-n {WAN} link set {port} master {bridge} up"))?;
    for family in families.all() {
        let address = on_link(node.address(*family));
        ip(&format!("-n {name} address add {address} dev eth0"))?;
    }
    ip(&format!("-n {name} link set eth0 up"))?;
    for family in families.all() {
        let router = site.router(*family);
        ip(&format!("-n {name} route add default via {router}"))?;
        sysctl(&name, bridge_filter(*family), "1")?;
    }
    run_with_input(
        "ip",
        &["netns", "exec", &name, "nft", "-f", "-"],
        &masquerading(families),
    )
    .context("the node's masquerading")?;
    Ok(())
}

/// What pods send out of their cluster comes from the node.
fn masquerading(families: IpFamilies) -> String {
    let rule = |family: &Family| {
        let (version, pods) = match family {
            Family::V4 => ("ip", family.pods()),
            Family::V6 => ("ip6", family.pods()),
        };
        format!("  {version} saddr {pods} {version} daddr != {pods} oifname \"eth0\" masquerade\n")
    };
    let rules: String = families.all().iter().map(rule).collect();
    format!(
        "table inet lab {{\n chain postrouting {{\n  \
         type nat hook postrouting priority srcnat + 10;\n{rules} }}\n}}\n"
    )
}

/// Tells every node of a cluster where the others' pods are.
///
/// # Errors
/// If a command fails.
pub(crate) fn connect_nodes(nodes: &[Node<'_>]) -> Result<()> {
    for node in nodes {
        for other in nodes.iter().filter(|other| other.number != node.number) {
            for family in node.cluster.families().all() {
                let (network, via) = (other.pod_network(*family), other.address(*family));
                let name = node.namespace();
                ip(&format!("-n {name} route add {network} via {via}"))?;
            }
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
