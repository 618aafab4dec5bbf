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
type Given = BTreeMap<String, Vec<Ipv4Addr>>;

/// On a Service: how many addresses it wants, if not one.
const COUNT: &str = "lab.mesh.dev/addresses";
/// More are not given.
const MOST: usize = 4;

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
    let before = given.remove(&key).unwrap_or_default();
    let addresses = if wanted {
        let taken = |address: &Ipv4Addr| given.values().flatten().any(|other| other == address);
        let all = (0..100).map(|n| cluster.site().load_balancer(n));
        addresses(service, &before, all.filter(|address| !taken(address)))
    } else {
        Vec::new()
    };
    if !addresses.is_empty() {
        given.insert(key, addresses.clone());
    }
    for gone in before.iter().filter(|old| !addresses.contains(old)) {
        ip(&format!("address delete {gone}/32 dev eth0"))?;
    }
    for address in &addresses {
        ip(&format!("address replace {address}/32 dev eth0"))?;
    }
    if wanted && current(service) != addresses {
        publish(cluster, namespace, name, &addresses)?;
    }
    Ok(())
}

/// The addresses of a Service: what it asks for, else what it has, and as many
/// more of the `free` ones as it wants.
fn addresses(
    service: &Value,
    given: &[Ipv4Addr],
    free: impl Iterator<Item = Ipv4Addr>,
) -> Vec<Ipv4Addr> {
    let count = service["metadata"]["annotations"][COUNT]
        .as_str()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1)
        .clamp(1, MOST);
    let asked = service["spec"]["loadBalancerIP"].as_str();
    let known = match asked.and_then(|address| address.parse().ok()) {
        Some(asked) => vec![asked],
        None if given.is_empty() => current(service),
        None => given.to_vec(),
    };
    let mut all: Vec<Ipv4Addr> = known.into_iter().take(count).collect();
    for address in free {
        if all.len() == count {
            break;
        }
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// The addresses that its status shows.
fn current(service: &Value) -> Vec<Ipv4Addr> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let addresses = ingress.into_iter().flatten();
    addresses
        .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
        .collect()
}

fn publish(cluster: &Cluster, namespace: &str, name: &str, addresses: &[Ipv4Addr]) -> Result<()> {
    let ingress: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let status = json!({"status": {"loadBalancer": {"ingress": ingress}}}).to_string();
    cluster.kubectl(&[
        "-n",
        namespace,
        "patch",
        "service",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free() -> impl Iterator<Item = Ipv4Addr> {
        (100..110).map(|n| Ipv4Addr::new(10, 99, 1, n))
    }

    fn given(service: Value, before: &[[u8; 4]]) -> Vec<String> {
        let before: Vec<Ipv4Addr> = before.iter().map(|octets| (*octets).into()).collect();
        let addresses = addresses(&service, &before, free());
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_keeps_its_address_unless_it_asks_for_another() {
        let old = [10, 99, 1, 107];
        let shown = json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.99.1.108"}]}}});
        let asks = json!({"spec": {"loadBalancerIP": "10.99.1.200"}});
        let two = json!({"metadata": {"annotations": {COUNT: "2"}}});
        assert_eq!(given(json!({}), &[]), ["10.99.1.100"]);
        assert_eq!(given(json!({}), &[old]), ["10.99.1.107"]);
        assert_eq!(given(shown, &[]), ["10.99.1.108"]);
        assert_eq!(given(asks, &[old]), ["10.99.1.200"]);
        assert_eq!(given(two.clone(), &[old]), ["10.99.1.107", "10.99.1.100"]);
        assert_eq!(given(two, &[]), ["10.99.1.100", "10.99.1.101"]);
        let many = json!({"metadata": {"annotations": {COUNT: "1000"}}});
        assert_eq!(given(many, &[]).len(), MOST);
    }
}
