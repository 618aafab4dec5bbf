//! What the cluster shares with its peers: Services for their mirrors,
//! endpoints for their discovery, and the gateway's table. All three say the
//! same, since they come from one function.

mod condition;
mod delta;
mod endpoint_delta;
mod key;
mod members;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use mesh_core::{endpoint::EndpointId, link::Link, ports};
use mesh_proto::{convert::socket_addr_to_proto, v1};

use self::members::{Members, Port, members};
pub(crate) use self::{
    condition::{Said, condition},
    delta::Sent,
    endpoint_delta::SentEndpoints,
    key::EndpointKey,
};
use crate::snapshot::{Name, Service, Snapshot};

/// The weight of an endpoint of which nothing else is known.
const WEIGHT: u32 = 10_000;

/// The members of `service` that `peer` may reach; none if it is not exported
/// there.
fn exported<'a>(
    snapshot: &'a Snapshot,
    peer: &Link,
    name: &Name,
    service: &Service,
) -> Option<Members<'a>> {
    let shared = peer.export && service.is_exported_to(&peer.cluster);
    shared.then(|| members(snapshot, name, service))
}

/// The Services that `peer` may mirror.
pub(crate) fn services(
    snapshot: &Snapshot,
    peer: &Link,
    cluster_uid: &str,
) -> v1::ExportedServices {
    let services = snapshot.services.iter().filter_map(|(name, service)| {
        let members = exported(snapshot, peer, name, service)?;
        let ready = members.shared.values().filter(|pod| pod.ready).count();
        Some(v1::ExportedService {
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
        })
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
        partial: false,
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
    let members = service.and_then(|service| exported(snapshot, peer, name, service));
    let (Some(service), Some(members)) = (service, members) else {
        return v1::ExportedEndpoints::default();
    };
    let identities: BTreeSet<_> = members.shared.values().map(|pod| pod.identity).collect();
    let ready = members.shared.iter().filter(|(_, pod)| pod.ready);
    let endpoints = ready.map(|(uid, pod)| v1::ExportedEndpoint {
        id: key.endpoint(peer, &service.uid, uid).0,
        identity: pod.identity.to_string(),
        zone: pod.zone.to_owned(),
        ports: pod.ports.iter().map(port_to_proto).collect(),
        weight: WEIGHT,
    });
    v1::ExportedEndpoints {
        exported: true,
        authority: format!("{}.{}.svc.cluster.local", name.1, name.0),
        endpoints: endpoints.collect(),
        id: key.export(peer, &service.uid).0,
        identities: identities.into_iter().map(ToString::to_string).collect(),
        ports: members.uniform_ports().iter().map(port_to_proto).collect(),
        version: String::new(),
    }
}

fn port_to_proto(port: &Port) -> v1::ExportedEndpointPort {
    use mesh_core::destination::Protocol;
    let protocol = match port.protocol {
        Protocol::Detect => v1::Protocol::Detect,
        Protocol::Http1 => v1::Protocol::Http1,
        Protocol::Http2 => v1::Protocol::Http2,
        Protocol::Opaque => v1::Protocol::Opaque,
    };
    v1::ExportedEndpointPort {
        service_port: port.service.into(),
        target_port: port.target.into(),
        protocol: protocol.into(),
    }
}

/// Everything that the gateway may connect anyone to. Endpoints that are about
/// to end stay until they are gone, so that what is under way is finished.
pub(crate) fn table(snapshot: &Snapshot, key: &EndpointKey) -> v1::GatewayTable {
    let mut routes = Vec::new();
    for peer in snapshot.links.links.iter().filter(|link| link.export) {
        for (name, service) in &snapshot.services {
            let Some(members) = exported(snapshot, peer, name, service) else {
                continue;
            };
            let route = |id: EndpointId| v1::gateway_table::Route {
                id: id.0,
                trust_domain: peer.trust_domain.to_string(),
                service: Some(v1::ServiceRef {
                    namespace: name.0.clone(),
                    name: name.1.clone(),
                    port: service.ports.first().map_or(0, |port| port.port.into()),
                }),
                ..Default::default()
            };
            for (uid, pod) in &members.shared {
                routes.push(v1::gateway_table::Route {
                    address: Some(socket_addr_to_proto(sidecar(pod.ip))),
                    ..route(key.endpoint(peer, &service.uid, uid))
                });
            }
            if !members.shared.is_empty() {
                let pods = members.shared.values();
                routes.push(v1::gateway_table::Route {
                    members: pods.map(member_to_proto).collect(),
                    ..route(key.export(peer, &service.uid))
                });
            }
        }
    }
    v1::GatewayTable { routes }
}

fn member_to_proto(pod: &members::Shared<'_>) -> v1::gateway_table::Member {
    v1::gateway_table::Member {
        address: Some(socket_addr_to_proto(sidecar(pod.ip))),
        ready: pod.ready,
    }
}

fn sidecar(pod: IpAddr) -> std::net::SocketAddr {
    (pod, ports::INBOUND).into()
}

#[cfg(test)]
mod tests;
