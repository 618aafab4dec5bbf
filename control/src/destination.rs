//! What an address means.

mod imported;

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use mesh_core::{
    destination::{
        Backend, Destination, Distribution, Endpoint, MeshPeer, Protocol, Service as Meaning,
        ServiceRef,
    },
    ports,
};
use mesh_proto::v1::ExportedEndpoints;

use crate::{
    routes::routes,
    snapshot::{Mirror, Name, Service, ServicePort, Snapshot},
};

/// What peers last said of the Services that are mirrored here.
pub(crate) type Remote = HashMap<Mirror, Heard>;

/// What a peer said of one Service.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) endpoints: Arc<ExportedEndpoints>,
    /// It has fallen silent since.
    pub(crate) stale: bool,
}

/// The weight of an endpoint of which nothing else is known.
const WEIGHT: u32 = 10_000;

/// What `address` means to a workload of this cluster.
pub(crate) fn destination(
    snapshot: &Snapshot,
    remote: &Remote,
    address: SocketAddr,
) -> Destination {
    if let Some(name) = snapshot.service_ips.get(&address.ip()) {
        return service(snapshot, remote, name, address.port());
    }
    match snapshot.pod_ips.get(&address.ip()) {
        Some(pod) => Destination::Pod {
            endpoint: local_endpoint(snapshot, address, pod),
            protocol: protocol(snapshot, pod, address.port()),
        },
        None => Destination::Unknown,
    }
}

/// Whether all of it is known; else a peer has not said anything yet.
pub(crate) fn is_known(destination: &Destination) -> bool {
    match destination {
        Destination::Service(service) => {
            let mut backends = service.backends.iter().chain(&service.route_backends);
            backends.all(|backend| backend.is_known)
        }
        Destination::Pod { .. } | Destination::Unknown | Destination::UndefinedPort => true,
    }
}

fn service(snapshot: &Snapshot, remote: &Remote, name: &Name, port: u16) -> Destination {
    let found = snapshot.services.get(name);
    let declared = found.and_then(|service| service.ports.iter().find(|p| p.port == port));
    let Some(declared) = declared else {
        return Destination::UndefinedPort;
    };
    let (distribution, members) = members(snapshot, name);
    let backends = members
        .into_iter()
        .map(|(member, weight)| backend(snapshot, remote, (name.0.clone(), member), port, weight));
    let routes = routes(snapshot, remote, name, port);
    Destination::Service(Meaning {
        reference: reference(name, port),
        protocol: declared.protocol,
        distribution,
        backends: backends.collect(),
        routes: routes.http,
        tls_routes: routes.tls,
        route_backends: routes.backends,
    })
}

/// The Services that answer for `name`, in order, with their weights.
fn members(snapshot: &Snapshot, name: &Name) -> (Distribution, Vec<(String, u32)>) {
    let Some(split) = snapshot
        .splits
        .get(name)
        .filter(|split| !split.backends.is_empty())
    else {
        return (Distribution::FirstAvailable, vec![(name.1.clone(), 1)]);
    };
    let mut members = split.backends.clone();
    match &split.primary {
        None => (Distribution::RandomAvailable, members),
        Some(primary) => {
            // A stable sort: the others keep their order.
            members.sort_by_key(|(service, _)| service != primary);
            (Distribution::FirstAvailable, members)
        }
    }
}

/// A Service as one that answers for others, or for itself.
pub(crate) fn backend(
    snapshot: &Snapshot,
    remote: &Remote,
    name: Name,
    port: u16,
    weight: u32,
) -> Backend {
    let service = snapshot.services.get(&name);
    let declared = service.and_then(|service| {
        let port = service
            .ports
            .iter()
            .find(|declared| declared.port == port)?;
        Some((service, port))
    });
    match declared {
        None => Backend::own(reference(&name, port), weight, Vec::new()),
        Some((
            Service {
                mirror: Some(mirror),
                ..
            },
            port,
        )) => {
            let backend = Backend::own(reference(&name, port.port), weight, Vec::new());
            imported::backend(snapshot, remote, mirror, backend)
        }
        Some((_, declared)) => {
            let endpoints = local_endpoints(snapshot, &name, declared);
            Backend::own(reference(&name, port), weight, endpoints)
        }
    }
}

fn local_endpoints(snapshot: &Snapshot, name: &Name, port: &ServicePort) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for slice in snapshot.endpoints.get(name).into_iter().flatten() {
        let Some(target) = slice.target(port) else {
            continue;
        };
        for member in slice.members.iter().filter(|member| member.ready) {
            let address = SocketAddr::new(member.ip, target);
            // An address in a link's prefix means something only from a feed.
            if is_linked(snapshot, address) {
                continue;
            }
            let pod = (name.0.clone(), member.pod.clone().unwrap_or_default());
            endpoints.push(Endpoint {
                zone: member.zone.as_str().into(),
                ..local_endpoint(snapshot, address, &pod)
            });
        }
    }
    endpoints.sort_by_key(|endpoint| endpoint.address);
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    endpoints
}

fn is_linked(snapshot: &Snapshot, address: SocketAddr) -> bool {
    match address {
        SocketAddr::V6(v6) => snapshot.links.endpoint(*v6.ip()).is_some(),
        SocketAddr::V4(_) => false,
    }
}

fn local_endpoint(snapshot: &Snapshot, address: SocketAddr, pod: &Name) -> Endpoint {
    let mesh = snapshot
        .sidecar(pod, address.port())
        .map(|identity| MeshPeer {
            identity: identity.into(),
            port: ports::INBOUND,
        });
    Endpoint {
        address,
        mesh,
        authority: None,
        weight: WEIGHT,
        pod: pod.1.as_str().into(),
        zone: "".into(),
    }
}

/// What a pod's own address speaks: what Services say of the port is for those
/// who ask a Service.
fn protocol(snapshot: &Snapshot, pod: &Name, port: u16) -> Protocol {
    let pod = snapshot.pods.get(pod);
    if pod.is_some_and(|pod| pod.is_opaque(port)) {
        Protocol::Opaque
    } else {
        Protocol::Detect
    }
}

fn reference(name: &Name, port: u16) -> ServiceRef {
    ServiceRef {
        namespace: name.0.as_str().into(),
        name: name.1.as_str().into(),
        port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{CLUSTER_IPS, snapshot, split};

    fn meaning(snapshot: &Snapshot, remote: &Remote, address: &str) -> Meaning {
        match destination(snapshot, remote, address.parse().unwrap()) {
            Destination::Service(service) => service,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_service_leads_to_its_ready_endpoints_by_identity() {
        let web = meaning(
            &snapshot(),
            &Remote::new(),
            &format!("{}:80", CLUSTER_IPS.web),
        );
        assert_eq!(web.protocol, Protocol::Detect);
        let endpoint = &web.backends[0].endpoints[0];
        assert_eq!(endpoint.address.to_string(), "10.42.0.7:8080");
        let peer = endpoint.mesh.as_ref().unwrap();
        assert_eq!(peer.identity.to_string(), "spiffe://east/ns/shop/sa/web");
    }

    #[test]
    fn a_port_that_is_not_declared_and_an_address_that_nobody_has() {
        let of = |address: &str| destination(&snapshot(), &Remote::new(), address.parse().unwrap());
        assert_eq!(
            of(&format!("{}:81", CLUSTER_IPS.web)),
            Destination::UndefinedPort
        );
        assert_eq!(of("192.0.2.1:80"), Destination::Unknown);
        for (address, expected) in [
            ("10.42.0.7:8080", Protocol::Detect),
            ("10.42.0.7:3306", Protocol::Opaque),
        ] {
            let Destination::Pod { protocol, .. } = of(address) else {
                panic!("{address} is a pod's");
            };
            assert_eq!(protocol, expected, "{address}");
        }
    }

    #[test]
    fn a_split_with_a_primary_is_ordered_and_one_without_is_weighted() {
        let mut snapshot = snapshot();
        let web = ("shop".to_owned(), "web".to_owned());
        snapshot
            .splits
            .insert(web.clone(), split(Some("web-north")));
        let address = format!("{}:80", CLUSTER_IPS.web);
        let ordered = meaning(&snapshot, &Remote::new(), &address);
        let names: Vec<_> = ordered.backends.iter().map(|b| &*b.service.name).collect();
        assert_eq!(names, ["web-north", "web"]);
        assert_eq!(ordered.distribution, Distribution::FirstAvailable);

        snapshot.splits.insert(web, split(None));
        let weighted = meaning(&snapshot, &Remote::new(), &address);
        assert_eq!(weighted.distribution, Distribution::RandomAvailable);
    }
}
