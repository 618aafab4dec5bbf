//! Names that do not resolve.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Fault;
use crate::{
    cluster::Cluster,
    command::{run, run_with_input},
    network::node_namespace,
};

const NAMESPACE: &str = "kube-system";
/// Rules of others, which CoreDNS includes.
const RULES: &str = "coredns-custom";

/// What DNS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is no such name.
    NxDomain,
    /// The server cannot tell.
    ServFail,
}

/// `name`, and all below it, is answered so in `cluster`, as soon as CoreDNS
/// has read the rule.
///
/// # Errors
/// If the API server does not take the rule.
pub fn answer(cluster: &Cluster, name: &str, answer: Answer) -> Result<Fault> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let key = format!("fault-{}-{number}.override", std::process::id());
    let code = match answer {
        Answer::NxDomain => "NXDOMAIN",
        Answer::ServFail => "SERVFAIL",
    };
    let rule = format!("template ANY ANY {name} {{\n    rcode {code}\n}}\n");
    let what = format!("{}: {name} is {code}", cluster.name());
    let cluster = cluster.clone();
    // Another's rules may have made it.
    let _ = cluster.kubectl(&["-n", NAMESPACE, "create", "configmap", RULES]);
    write(&cluster, &key, json!(rule))?;
    Ok(Fault::new(what, move || write(&cluster, &key, json!(null))))
}

fn write(cluster: &Cluster, key: &str, value: serde_json::Value) -> Result<()> {
    let patch = json!({"data": {key: value}}).to_string();
    let words = ["-n", NAMESPACE, "patch", "configmap", RULES];
    cluster.kubectl(&[&words[..], &["--type=merge", "-p", &patch]].concat())?;
    Ok(())
}

/// Nobody in `cluster` gets any answer: questions are swallowed.
///
/// # Errors
/// If the cluster is down.
pub fn silence(cluster: &Cluster) -> Result<Fault> {
    let what = format!("{}: DNS does not answer", cluster.name());
    let namespace = node_namespace(cluster.name());
    let table = format!("fault-dns-{}", std::process::id());
    let chain = |hook: &str| {
        format!(
            " chain {hook} {{\n  type filter hook {hook} priority filter - 10\n  \
             udp dport 53 drop\n  tcp dport 53 drop\n }}\n"
        )
    };
    // Pods reach CoreDNS through the bridge, which shows packets to `forward`.
    let chains = [chain("forward"), chain("output")].concat();
    let rules = format!("table inet {table} {{\n{chains}}}\n");
    let nft = ["netns", "exec", &namespace, "nft"];
    run_with_input("ip", &[&nft[..], &["-f", "-"]].concat(), &rules)
        .with_context(|| what.clone())?;
    Ok(Fault::new(what, move || {
        let nft = [
            "netns", "exec", &namespace, "nft", "delete", "table", "inet",
        ];
        run("ip", &[&nft[..], &[&table]].concat())?;
        Ok(())
    }))
}
