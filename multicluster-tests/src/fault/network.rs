//! Between clusters: cut, one way or both, and ports that refuse or swallow.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

use super::Fault;
use crate::{
    cluster::Cluster,
    command::{run, run_with_input},
    network::WAN,
};

/// Which way packets are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the first cluster to the second.
    Forth,
    /// Both ways.
    Both,
}

/// No packet passes from `a` to `b`, nor back if `way` says so. Nobody is told.
///
/// # Errors
/// If the lab is down.
pub fn cut(a: &Cluster, b: &Cluster, way: Way) -> Result<Fault> {
    let mut rules = vec![format!("{} drop", between(a, b))];
    if way == Way::Both {
        rules.push(format!("{} drop", between(b, a)));
    }
    let arrow = if way == Way::Both { "<->" } else { "->" };
    filter(format!("cut {} {arrow} {}", a.name(), b.name()), &rules)
}

/// Connections from `a` to `port` in `b` are refused, also those that are open.
///
/// # Errors
/// If the lab is down.
pub fn refuse(a: &Cluster, b: &Cluster, port: u16) -> Result<Fault> {
    let rule = format!("{} tcp dport {port} reject with tcp reset", between(a, b));
    let what = format!("port {port} of {} refuses {}", b.name(), a.name());
    filter(what, &[rule])
}

/// What `a` sends to `port` in `b` is swallowed, and so are the answers.
///
/// # Errors
/// If the lab is down.
pub fn black_hole(a: &Cluster, b: &Cluster, port: u16) -> Result<Fault> {
    let rules = [
        format!("{} tcp dport {port} drop", between(a, b)),
        format!("{} tcp sport {port} drop", between(b, a)),
    ];
    let what = format!(
        "port {port} of {} swallows what {} sends",
        b.name(),
        a.name()
    );
    filter(what, &rules)
}

/// The same for one address of `b`; others are not concerned.
///
/// # Errors
/// If the lab is down.
pub fn black_hole_address(a: &Cluster, b: &Cluster, address: IpAddr, port: u16) -> Result<Fault> {
    let family = if address.is_ipv4() { "ip" } else { "ip6" };
    let (there, back) = (between(a, b), between(b, a));
    let rules = [
        format!("{there} {family} daddr {address} tcp dport {port} drop"),
        format!("{back} {family} saddr {address} tcp sport {port} drop"),
    ];
    let what = format!("port {port} at {address} swallows what {} sends", a.name());
    filter(what, &rules)
}

fn between(a: &Cluster, b: &Cluster) -> String {
    let (a, b) = (a.site().bridge(), b.site().bridge());
    format!("iifname {a} oifname {b}")
}

/// Rules that come before the firewall's, in a table of their own.
fn filter(what: String, rules: &[String]) -> Result<Fault> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let table = format!("fault-{}-{number}", std::process::id());
    let chain = format!(
        "table inet {table} {{\n chain forward {{\n  \
         type filter hook forward priority filter - 10; policy accept;\n  {}\n }}\n}}\n",
        rules.join("\n  ")
    );
    run_with_input("ip", &["netns", "exec", WAN, "nft", "-f", "-"], &chain)
        .with_context(|| what.clone())?;
    Ok(Fault::new(what, move || {
        let words = ["netns", "exec", WAN, "nft", "delete", "table", "inet"];
        run("ip", &[&words[..], &[&table]].concat())?;
        Ok(())
    }))
}
