//! What a cloud does for Services of type LoadBalancer: gives each an address
//! of the WAN on the node, one for each of its families, and writes them to the
//! Service's status.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::IpAddr,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    addresses::{Family, IpFamilies, alone},
    cluster::Cluster,
    command::ip,
};

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
type Given = BTreeMap<String, Vec<IpAddr>>;

/// On a Service: how many addresses of a family it wants, if not one.
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
        let taken = |address: &IpAddr| given.values().flatten().any(|other| other == address);
        let of_family = |family: Family| {
            let all = (0..100).map(|n| cluster.site().load_balancer(family, n));
            let free = all.filter(|address| !taken(address));
            addresses(service, family, &before, free)
        };
        families(service).into_iter().flat_map(of_family).collect()
    } else {
        Vec::new()
    };
    if !addresses.is_empty() {
        given.insert(key, addresses.clone());
    }
    for gone in before.iter().filter(|old| !addresses.contains(old)) {
        ip(&format!("address delete {} dev eth0", alone(*gone)))?;
    }
    for address in &addresses {
        ip(&format!("address replace {} dev eth0", alone(*address)))?;
    }
    if wanted && current(service) != addresses {
        publish(cluster, namespace, name, &addresses)?;
    }
    Ok(())
}

/// The families of a Service, the first one first.
fn families(service: &Value) -> Vec<Family> {
    let names = service["spec"]["ipFamilies"].as_array();
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    let known = IpFamilies::Dual.all().iter();
    names
        .filter_map(|name| known.clone().find(|family| family.name() == name).copied())
        .collect()
}

/// The addresses of one family of a Service: what it asks for, else what it
/// has, and as many more of the `free` ones as it wants.
fn addresses(
    service: &Value,
    family: Family,
    given: &[IpAddr],
    free: impl Iterator<Item = IpAddr>,
) -> Vec<IpAddr> {
    let count = service["metadata"]["annotations"][COUNT]
        .as_str()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1)
        .clamp(1, MOST);
    let of_family = |address: &IpAddr| Family::of(*address) == family;
    let asked = service["spec"]["loadBalancerIP"].as_str();
    let asked = asked.and_then(|address| address.parse().ok());
    let known = match asked.filter(of_family) {
        Some(asked) => vec![asked],
        None if given.is_empty() => current(service),
        None => given.to_vec(),
    };
    let known = known.into_iter().filter(of_family);
    let mut all: Vec<IpAddr> = known.take(count).collect();
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
fn current(service: &Value) -> Vec<IpAddr> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let addresses = ingress.into_iter().flatten();
    addresses
        .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
        .collect()
}

fn publish(cluster: &Cluster, namespace: &str, name: &str, addresses: &[IpAddr]) -> Result<()> {
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
    use crate::addresses::Site;

    fn given(service: Value, before: &[&str]) -> Vec<String> {
        given_of(Family::V4, &service, before)
    }

    fn given_of(family: Family, service: &Value, before: &[&str]) -> Vec<String> {
        let before: Vec<IpAddr> = before.iter().map(|text| text.parse().unwrap()).collect();
        let free = (0..10).map(|n| Site::new(1).load_balancer(family, n));
        let addresses = addresses(service, family, &before, free);
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_keeps_its_address_unless_it_asks_for_another() {
        let old = "10.99.1.107";
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

    #[test]
    fn a_service_has_addresses_of_each_of_its_families() {
        let dual = json!({"spec": {"ipFamilies": ["IPv6", "IPv4"]}});
        assert_eq!(families(&dual), [Family::V6, Family::V4]);
        let asks = json!({"spec": {"loadBalancerIP": "fd99:0:1::200"}});
        let old = ["10.99.1.107", "fd99:0:1::108"];
        assert_eq!(given_of(Family::V6, &dual, &[]), ["fd99:0:1::100"]);
        assert_eq!(given_of(Family::V6, &dual, &old), ["fd99:0:1::108"]);
        assert_eq!(given_of(Family::V6, &asks, &old), ["fd99:0:1::200"]);
        assert_eq!(given_of(Family::V4, &asks, &old), ["10.99.1.107"]);
    }
}
