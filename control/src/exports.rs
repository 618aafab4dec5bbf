//! What the cluster shares with its peers: Services for their mirrors,
//! endpoints for their discovery, and the gateway's table. All three say the
//! same, since they come from one function.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Result;
use aws_lc_rs::hmac;
use mesh_core::{endpoint::EndpointId, identity::SpiffeId, link::Link, ports};
use mesh_proto::{convert::socket_addr_to_proto, v1};

use crate::snapshot::{Name, Service, Snapshot};

/// The key that makes endpoint ids unguessable; the same in all replicas.
pub(crate) struct EndpointKey(hmac::Key);

impl EndpointKey {
    /// # Errors
    /// If the key is too short to be one.
    pub(crate) fn new(key: &[u8]) -> Result<Self> {
        anyhow::ensure!(key.len() >= 32, "the key of endpoint ids is too short");
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// The id of a pod of a Service, for one peer only.
    fn id(&self, peer: &Link, service: &str, pod: &str) -> EndpointId {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [peer.trust_domain.as_str(), service, pod] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let tag = context.sign();
        let first = tag.as_ref().first_chunk::<8>().copied().unwrap_or_default();
        EndpointId(u64::from_be_bytes(first))
    }
}

/// An endpoint that is shared with one peer.
struct Exported {
    id: EndpointId,
    ip: IpAddr,
    /// Whether new requests may go there.
    ready: bool,
    identity: SpiffeId,
    zone: String,
    /// The Service's port, and where it leads.
    ports: Vec<(u16, u16, mesh_core::destination::Protocol)>,
}

/// The endpoints of `service` that `peer` may reach: pods with a sidecar.
fn exported(
    snapshot: &Snapshot,
    key: &EndpointKey,
    peer: &Link,
    name: &Name,
    service: &Service,
) -> Vec<Exported> {
    if !peer.export || !service.is_exported_to(&peer.cluster) {
        return Vec::new();
    }
    let mut endpoints = BTreeMap::new();
    for slice in snapshot.endpoints.get(name).into_iter().flatten() {
        for member in slice.members.iter().filter(|member| is_safe(member.ip)) {
            let Some(pod_name) = &member.pod else {
                continue;
            };
            let pod_name = (name.0.clone(), pod_name.clone());
            let Some(pod) = snapshot.pods.get(&pod_name) else {
                continue;
            };
            if !pod.ips.contains(&member.ip) {
                continue;
            }
            let ports: Vec<_> = service
                .ports
                .iter()
                .filter_map(|port| Some((port.port, slice.target(port)?, port.protocol)))
                .filter(|(_, target, _)| !ports::is_proxy_port(*target))
                .filter(|(_, target, _)| snapshot.sidecar(&pod_name, *target).is_some())
                .collect();
            let Some(identity) = pod.identity.clone() else {
                continue;
            };
            if ports.is_empty() {
                continue;
            }
            let id = key.id(peer, &service.uid, &pod.uid);
            endpoints.insert(
                id,
                Exported {
                    id,
                    ip: member.ip,
                    ready: member.ready,
                    identity,
                    zone: member.zone.clone(),
                    ports,
                },
            );
        }
    }
    endpoints.into_values().collect()
}

/// Addresses that no pod has: nobody is led there from outside.
fn is_safe(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local())
        }
    }
}

/// The Services that `peer` may mirror.
pub(crate) fn services(
    snapshot: &Snapshot,
    key: &EndpointKey,
    peer: &Link,
    cluster_uid: &str,
) -> v1::ExportedServices {
    let shared = snapshot.services.iter();
    let shared = shared.filter(|(_, service)| peer.export && service.is_exported_to(&peer.cluster));
    let services = shared.map(|(name, service)| {
        let ready = exported(snapshot, key, peer, name, service);
        let ready = ready.iter().filter(|endpoint| endpoint.ready).count();
        v1::ExportedService {
            namespace: name.0.clone(),
            name: name.1.clone(),
            ports: service
                .ports
                .iter()
                .map(|port| v1::ExportedServicePort {
                    name: port.name.clone(),
                    port: port.port.into(),
                    app_protocol: port.app_protocol.clone(),
                })
                .collect(),
            labels: own(&service.labels),
            annotations: own(&service.annotations),
            ready_endpoints: u32::try_from(ready).unwrap_or(u32::MAX),
        }
    });
    v1::ExportedServices {
        cluster: snapshot.links.cluster.to_string(),
        cluster_uid: cluster_uid.to_owned(),
        bundle: Some(v1::Bundle {
            trust_domain: snapshot.links.trust_domain.to_string(),
            roots: snapshot.links.roots.clone(),
        }),
        gateway_hosts: snapshot.gateway_hosts.clone(),
        services: services.collect(),
    }
}

/// Only what has a meaning for the mesh leaves the cluster.
fn own(entries: &BTreeMap<String, String>) -> std::collections::HashMap<String, String> {
    let ours = entries
        .iter()
        .filter(|(key, _)| key.as_str() == mesh_api::names::OPAQUE_PORTS);
    ours.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The endpoints of one Service that `peer`'s proxies may use.
pub(crate) fn endpoints(
    snapshot: &Snapshot,
    key: &EndpointKey,
    peer: &Link,
    name: &Name,
) -> v1::ExportedEndpoints {
    let service = snapshot.services.get(name);
    let service = service.filter(|service| peer.export && service.is_exported_to(&peer.cluster));
    let Some(service) = service else {
        return v1::ExportedEndpoints::default();
    };
    let ready = exported(snapshot, key, peer, name, service).into_iter();
    let ready = ready.filter(|endpoint| endpoint.ready);
    v1::ExportedEndpoints {
        exported: true,
        authority: format!("{}.{}.svc.cluster.local", name.1, name.0),
        endpoints: ready
            .map(|endpoint| v1::ExportedEndpoint {
                id: endpoint.id.0,
                identity: endpoint.identity.to_string(),
                zone: endpoint.zone,
                ports: endpoint.ports.iter().map(port_to_proto).collect(),
            })
            .collect(),
    }
}

fn port_to_proto(
    (service, target, protocol): &(u16, u16, mesh_core::destination::Protocol),
) -> v1::ExportedEndpointPort {
    use mesh_core::destination::Protocol;
    let protocol = match protocol {
        Protocol::Detect => v1::Protocol::Detect,
        Protocol::Http1 => v1::Protocol::Http1,
        Protocol::Http2 => v1::Protocol::Http2,
        Protocol::Opaque => v1::Protocol::Opaque,
    };
    v1::ExportedEndpointPort {
        service_port: (*service).into(),
        target_port: (*target).into(),
        protocol: protocol.into(),
    }
}

/// Everything that the gateway may connect anyone to. Endpoints that are about
/// to end stay until they are gone, so that what is under way is finished.
pub(crate) fn table(snapshot: &Snapshot, key: &EndpointKey) -> v1::GatewayTable {
    let mut routes = Vec::new();
    for peer in snapshot.links.links.iter().filter(|link| link.export) {
        for (name, service) in &snapshot.services {
            for endpoint in exported(snapshot, key, peer, name, service) {
                let address = (endpoint.ip, ports::INBOUND).into();
                routes.push(v1::gateway_table::Route {
                    id: endpoint.id.0,
                    trust_domain: peer.trust_domain.to_string(),
                    address: Some(socket_addr_to_proto(address)),
                    service: Some(v1::ServiceRef {
                        namespace: name.0.clone(),
                        name: name.1.clone(),
                        port: service.ports.first().map_or(0, |port| port.port.into()),
                    }),
                });
            }
        }
    }
    v1::GatewayTable { routes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{key, link, snapshot};

    fn ids(message: &v1::ExportedEndpoints) -> Vec<u64> {
        message
            .endpoints
            .iter()
            .map(|endpoint| endpoint.id)
            .collect()
    }

    #[test]
    fn m14_a_peer_reads_its_exports_and_nothing_else() {
        let snapshot = snapshot();
        let west = link("west");
        let message = services(&snapshot, &key(), &west, "uid");
        let names: Vec<_> = message.services.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            ["web"],
            "neither vault, nor api (north only), nor a mirror"
        );
        let name = |name: &str| ("shop".to_owned(), name.to_owned());
        assert!(endpoints(&snapshot, &key(), &west, &name("web")).exported);
        for hidden in ["vault", "api", "web-north", "nothing"] {
            let message = endpoints(&snapshot, &key(), &west, &name(hidden));
            assert_eq!(message, v1::ExportedEndpoints::default(), "{hidden}");
        }
    }

    #[test]
    fn an_id_is_one_peers_alone() {
        let (snapshot, web) = (snapshot(), ("shop".to_owned(), "web".to_owned()));
        let west = endpoints(&snapshot, &key(), &link("west"), &web);
        let north = endpoints(&snapshot, &key(), &link("north"), &web);
        assert_eq!(ids(&west).len(), 1);
        assert_ne!(ids(&west), ids(&north));
    }

    #[test]
    fn g4_unsafe_addresses_get_no_id() {
        for ip in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "224.0.0.1",
        ] {
            assert!(!is_safe(ip.parse().unwrap()), "{ip}");
        }
        assert!(is_safe("10.42.0.7".parse().unwrap()));
    }

    #[test]
    fn the_table_keeps_what_is_about_to_end_and_the_feed_does_not() {
        let mut snapshot = snapshot();
        let web = ("shop".to_owned(), "web".to_owned());
        snapshot.endpoints.get_mut(&web).unwrap()[0].members[0].ready = false;
        assert!(ids(&endpoints(&snapshot, &key(), &link("west"), &web)).is_empty());
        assert_eq!(
            table(&snapshot, &key()).routes.len(),
            3,
            "web twice, api once"
        );
    }
}
