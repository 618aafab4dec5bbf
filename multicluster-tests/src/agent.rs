//! What a cloud does for Services of type LoadBalancer: gives each an address
//! of the WAN on the node, and writes it to the Service's status.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{cluster::Cluster, command::ip};

/// How long to wait before the watch is opened again.
const AGAIN: Duration = Duration::from_millis(500);

/// Serves `cluster` until the process is ended. Runs in the node's namespace.
///
/// # Errors
/// Never returns one while the cluster can be asked at all.
pub fn run(cluster: &Cluster, kubeconfig: &str) -> Result<()> {
    let mut given = BTreeMap::new();
    loop {
        if let Err(error) = watch(cluster, kubeconfig, &mut given) {
            eprintln!("the watch has ended: {error:#}");
        }
        std::thread::sleep(AGAIN);
    }
}

/// Addresses by Service, `namespace/name`.
type Given = BTreeMap<String, Ipv4Addr>;

fn watch(cluster: &Cluster, kubeconfig: &str, given: &mut Given) -> Result<()> {
    let mut child = Command::new(cluster.kubectl_program())
        .args([
            "--kubeconfig",
            kubeconfig,
            "get",
            "services",
            "--all-namespaces",
        ])
        .args(["--watch", "--output-watch-events", "--output=json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("kubectl does not start")?;
    let events = child.stdout.take().context("kubectl's standard output")?;
    for event in serde_json::Deserializer::from_reader(events.take(u64::MAX)).into_iter() {
        let event: Value = event?;
        if let Err(error) = apply(cluster, given, &event) {
            eprintln!("{error:#}");
        }
    }
    child.wait()?;
    Ok(())
}

fn apply(cluster: &Cluster, given: &mut Given, event: &Value) -> Result<()> {
    let service = &event["object"];
    let (Some(namespace), Some(name)) = (
        service["metadata"]["namespace"].as_str(),
        service["metadata"]["name"].as_str(),
    ) else {
        return Ok(());
    };
    let key = format!("{namespace}/{name}");
    let wanted = service["spec"]["type"] == "LoadBalancer" && event["type"] != "DELETED";
    if !wanted {
        if let Some(address) = given.remove(&key) {
            ip(&format!("address delete {address}/32 dev eth0"))?;
        }
        return Ok(());
    }
    let current = current_address(service);
    let address = match given.get(&key).copied().or(current) {
        Some(address) => address,
        None => free_address(cluster, given).context("no address is left")?,
    };
    given.insert(key, address);
    ip(&format!("address replace {address}/32 dev eth0"))?;
    if current != Some(address) {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        cluster.kubectl(&[
            "-n",
            namespace,
            "patch",
            "service",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ])?;
    }
    Ok(())
}

fn current_address(service: &Value) -> Option<Ipv4Addr> {
    service["status"]["loadBalancer"]["ingress"][0]["ip"]
        .as_str()?
        .parse()
        .ok()
}

fn free_address(cluster: &Cluster, given: &Given) -> Option<Ipv4Addr> {
    (0..150)
        .map(|n| cluster.site().load_balancer(n))
        .find(|address| !given.values().any(|taken| taken == address))
}
