//! A load balancer that gets another address.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Fault;
use crate::cluster::Cluster;

/// The Service gets an address that it never had; at the end it gets the old
/// one back.
///
/// # Errors
/// If the Service has no address, or the API server is away.
pub fn change_address(cluster: &Cluster, namespace: &str, service: &str) -> Result<Fault> {
    let path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}";
    let words = ["-n", namespace, "get", "service", service, path];
    let old = cluster.kubectl(&words)?;
    let new = other(&old).with_context(|| format!("{namespace}/{service} has no address"))?;
    let what = format!("{}: {service} moved from {old} to {new}", cluster.name());
    let (cluster, namespace, service) = (cluster.clone(), namespace.to_owned(), service.to_owned());
    ask(&cluster, &namespace, &service, &json!(new))?;
    Ok(Fault::new(what, move || {
        ask(&cluster, &namespace, &service, &json!(old))?;
        ask(&cluster, &namespace, &service, &json!(null))
    }))
}

/// An address of the same network, far from those that are given in turn.
fn other(address: &str) -> Option<String> {
    // IPv6 addresses of the WAN have the same digits.
    let (network, last) = address.split_at(address.rfind(['.', ':'])? + 1);
    let last: u8 = last.parse().ok()?;
    Some(format!("{network}{}", last.checked_add(100)?))
}

/// Asks for an address, as users of clouds do.
fn ask(cluster: &Cluster, namespace: &str, service: &str, address: &Value) -> Result<()> {
    let patch = json!({"spec": {"loadBalancerIP": address}}).to_string();
    let words = ["-n", namespace, "patch", "service", service];
    cluster.kubectl(&[&words[..], &["--type=merge", "-p", &patch]].concat())?;
    Ok(())
}
