use std::{collections::HashMap, iter};

use linkerd2_proxy_api::destination as stock;
use mesh_core::{
    destination::{
        Backend, Destination, Distribution, Endpoint, MeshPeer, Protocol, Service, ServiceRef,
    },
    identities::Identities,
    identity::SpiffeId,
};

use super::{
    InvalidMessage, parse, port_from_proto,
    route::{
        routes_from_proto, routes_to_proto,
        tls::{tls_routes_from_proto, tls_routes_to_proto},
    },
    socket_addr_from_proto, socket_addr_to_proto,
};
use crate::v1;

/// What discovery said.
///
/// # Errors
/// Names the field that is wrong.
pub fn destination_from_proto(message: v1::Destination) -> Result<Destination, InvalidMessage> {
    use v1::destination::Kind;
    let protocol = protocol_from_proto(message.pod_protocol());
    match message.kind {
        None => Err(InvalidMessage::missing("destination")),
        Some(Kind::Unknown(_)) => Ok(Destination::Unknown),
        Some(Kind::UndefinedPort(_)) => Ok(Destination::UndefinedPort),
        Some(Kind::Pod(endpoint)) => Ok(Destination::Pod {
            endpoint: endpoint_from_proto(endpoint)?,
            protocol,
        }),
        Some(Kind::Service(service)) => Ok(Destination::Service(service_from_proto(service)?)),
    }
}

/// The message of a destination.
#[must_use]
pub fn destination_to_proto(destination: &Destination) -> v1::Destination {
    use v1::destination::{Kind, UndefinedPort, Unknown};
    let mut message = v1::Destination::default();
    message.kind = Some(match destination {
        Destination::Unknown => Kind::Unknown(Unknown {}),
        Destination::UndefinedPort => Kind::UndefinedPort(UndefinedPort {}),
        Destination::Pod { endpoint, protocol } => {
            message.set_pod_protocol(protocol_to_proto(*protocol));
            Kind::Pod(endpoint_to_proto(endpoint))
        }
        Destination::Service(service) => Kind::Service(service_to_proto(service)),
    });
    message
}

fn service_from_proto(message: v1::Service) -> Result<Service, InvalidMessage> {
    let protocol = message.protocol();
    let distribution = distribution_from_proto(message.distribution());
    let backends = |messages: Vec<v1::Backend>| -> Result<Vec<Backend>, InvalidMessage> {
        messages.into_iter().map(backend_from_proto).collect()
    };
    let route_backends = backends(message.route_backends)?;
    Ok(Service {
        reference: reference_from_proto(message.reference)?,
        protocol: protocol_from_proto(protocol),
        distribution,
        backends: backends(message.backends)?,
        routes: routes_from_proto(message.http_routes, route_backends.len())?,
        tls_routes: tls_routes_from_proto(message.tls_routes, route_backends.len())?,
        route_backends,
    })
}

fn service_to_proto(service: &Service) -> v1::Service {
    v1::Service {
        reference: Some(reference_to_proto(&service.reference)),
        protocol: protocol_to_proto(service.protocol).into(),
        distribution: distribution_to_proto(service.distribution).into(),
        backends: service.backends.iter().map(backend_to_proto).collect(),
        http_routes: routes_to_proto(&service.routes),
        tls_routes: tls_routes_to_proto(&service.tls_routes),
        route_backends: service
            .route_backends
            .iter()
            .map(backend_to_proto)
            .collect(),
    }
}

pub(crate) const fn distribution_from_proto(distribution: v1::Distribution) -> Distribution {
    match distribution {
        v1::Distribution::FirstAvailable => Distribution::FirstAvailable,
        v1::Distribution::RandomAvailable => Distribution::RandomAvailable,
    }
}

pub(crate) const fn distribution_to_proto(distribution: Distribution) -> v1::Distribution {
    match distribution {
        Distribution::FirstAvailable => v1::Distribution::FirstAvailable,
        Distribution::RandomAvailable => v1::Distribution::RandomAvailable,
    }
}

fn backend_from_proto(message: v1::Backend) -> Result<Backend, InvalidMessage> {
    let cluster = match message.cluster.as_str() {
        "" => None,
        name => Some(parse("backend.cluster", name)?),
    };
    let endpoints = message
        .endpoints
        .into_iter()
        .map(endpoint_from_proto)
        .collect::<Result<_, _>>()?;
    Ok(Backend {
        service: reference_from_proto(message.service)?,
        weight: message.weight,
        cluster,
        endpoints,
        is_known: !message.endpoints_unknown,
        fallback: message.fallback.map(endpoint_from_proto).transpose()?,
        is_stale: message.endpoints_stale,
    })
}

fn backend_to_proto(backend: &Backend) -> v1::Backend {
    v1::Backend {
        service: Some(reference_to_proto(&backend.service)),
        weight: backend.weight,
        cluster: backend
            .cluster
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        endpoints: backend.endpoints.iter().map(endpoint_to_proto).collect(),
        endpoints_unknown: !backend.is_known,
        fallback: backend.fallback.as_ref().map(endpoint_to_proto),
        endpoints_stale: backend.is_stale,
    }
}

fn endpoint_from_proto(message: v1::Endpoint) -> Result<Endpoint, InvalidMessage> {
    let stock = message
        .address
        .ok_or_else(|| InvalidMessage::missing("endpoint.address"))?;
    Ok(Endpoint {
        address: socket_addr_from_proto("endpoint.address.addr", stock.addr)?,
        mesh: mesh_peer(stock.tls_identity, &message.identities, stock.protocol_hint)?,
        authority: stock
            .authority_override
            .map(|authority| authority.authority_override.into()),
        weight: stock.weight,
        pod: message.pod.into(),
        zone: message.zone.into(),
    })
}

fn mesh_peer(
    identity: Option<stock::TlsIdentity>,
    others: &[String],
    hint: Option<stock::ProtocolHint>,
) -> Result<Option<MeshPeer>, InvalidMessage> {
    use stock::tls_identity::Strategy;
    let Some(identity) = identity else {
        return Ok(None);
    };
    let Some(Strategy::UriLikeIdentity(identity)) = identity.strategy else {
        let reason = "is not a SPIFFE id";
        return Err(InvalidMessage::new("endpoint.tls_identity", reason));
    };
    let port = hint
        .and_then(|hint| hint.opaque_transport)
        .ok_or_else(|| InvalidMessage::missing("endpoint.protocol_hint.opaque_transport"))?
        .inbound_port;
    let first = parse("endpoint.tls_identity", &identity.uri);
    let others = others.iter().map(|id| parse("endpoint.identities", id));
    let identities = iter::once(first)
        .chain(others)
        .collect::<Result<Vec<SpiffeId>, _>>()?;
    Ok(Some(MeshPeer {
        identity: Identities::any_of(identities)
            .ok_or_else(|| InvalidMessage::missing("endpoint.tls_identity"))?,
        port: port_from_proto("endpoint.protocol_hint.opaque_transport", port)?,
    }))
}

fn endpoint_to_proto(endpoint: &Endpoint) -> v1::Endpoint {
    let stock = stock::WeightedAddr {
        addr: Some(socket_addr_to_proto(endpoint.address)),
        weight: endpoint.weight,
        metric_labels: HashMap::new(),
        tls_identity: endpoint.mesh.as_ref().map(tls_identity),
        protocol_hint: endpoint.mesh.as_ref().map(protocol_hint),
        authority_override: endpoint
            .authority
            .as_ref()
            .map(|authority| stock::AuthorityOverride {
                authority_override: authority.to_string(),
            }),
        http2: None,
        resource_ref: None,
    };
    v1::Endpoint {
        address: Some(stock),
        pod: endpoint.pod.to_string(),
        zone: endpoint.zone.to_string(),
        identities: other_identities(endpoint.mesh.as_ref()),
    }
}

/// All but the first, which [`tls_identity`] names.
fn other_identities(peer: Option<&MeshPeer>) -> Vec<String> {
    let all = peer.map_or(&[][..], |peer| peer.identity.as_slice());
    all.iter().skip(1).map(ToString::to_string).collect()
}

fn tls_identity(peer: &MeshPeer) -> stock::TlsIdentity {
    use stock::tls_identity::{Strategy, UriLikeIdentity};
    let first = peer.identity.as_slice().first();
    stock::TlsIdentity {
        strategy: Some(Strategy::UriLikeIdentity(UriLikeIdentity {
            uri: first.map(ToString::to_string).unwrap_or_default(),
        })),
        server_name: None,
    }
}

fn protocol_hint(peer: &MeshPeer) -> stock::ProtocolHint {
    stock::ProtocolHint {
        protocol: None,
        opaque_transport: Some(stock::protocol_hint::OpaqueTransport {
            inbound_port: peer.port.into(),
        }),
    }
}

/// A port of a Service.
///
/// # Errors
/// If it is missing or has no port.
pub(crate) fn reference_from_proto(
    message: Option<v1::ServiceRef>,
) -> Result<ServiceRef, InvalidMessage> {
    let message = message.ok_or_else(|| InvalidMessage::missing("service"))?;
    Ok(ServiceRef {
        namespace: message.namespace.into(),
        name: message.name.into(),
        port: port_from_proto("service.port", message.port)?,
    })
}

/// The message of a port of a Service.
#[must_use]
pub(crate) fn reference_to_proto(reference: &ServiceRef) -> v1::ServiceRef {
    v1::ServiceRef {
        namespace: reference.namespace.to_string(),
        name: reference.name.to_string(),
        port: reference.port.into(),
    }
}

pub(crate) const fn protocol_from_proto(protocol: v1::Protocol) -> Protocol {
    match protocol {
        v1::Protocol::Detect => Protocol::Detect,
        v1::Protocol::Http1 => Protocol::Http1,
        v1::Protocol::Http2 => Protocol::Http2,
        v1::Protocol::Opaque => Protocol::Opaque,
    }
}

pub(crate) const fn protocol_to_proto(protocol: Protocol) -> v1::Protocol {
    match protocol {
        Protocol::Detect => v1::Protocol::Detect,
        Protocol::Http1 => v1::Protocol::Http1,
        Protocol::Http2 => v1::Protocol::Http2,
        Protocol::Opaque => v1::Protocol::Opaque,
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::route::{HttpRoutes, tls::TlsRoutes};

    use super::*;

    fn remote_endpoint() -> Endpoint {
        Endpoint {
            address: "[fd6d:6573:6800:1::7]:8080".parse().unwrap(),
            mesh: Some(MeshPeer {
                identity: "spiffe://east/ns/shop/sa/web"
                    .parse::<SpiffeId>()
                    .unwrap()
                    .into(),
                port: 4143,
            }),
            authority: Some("web.shop.svc.cluster.local".into()),
            weight: 10_000,
            pod: "".into(),
            zone: "a".into(),
        }
    }

    fn whole_export() -> Endpoint {
        let ids = ["web", "web-canary"]
            .map(|name| format!("spiffe://east/ns/shop/sa/{name}").parse().unwrap());
        let mut endpoint = remote_endpoint();
        endpoint.mesh.as_mut().unwrap().identity = Identities::any_of(ids).unwrap();
        endpoint
    }

    fn service() -> Service {
        let reference = ServiceRef {
            namespace: "shop".into(),
            name: "web-east".into(),
            port: 80,
        };
        Service {
            reference: reference.clone(),
            protocol: Protocol::Detect,
            distribution: Distribution::FirstAvailable,
            backends: [true, false]
                .map(|is_known| Backend {
                    service: reference.clone(),
                    weight: 1,
                    cluster: Some("east".parse().unwrap()),
                    endpoints: vec![remote_endpoint()],
                    is_known,
                    fallback: is_known.then(whole_export),
                    is_stale: !is_known,
                })
                .to_vec(),
            routes: HttpRoutes::default(),
            tls_routes: TlsRoutes::default(),
            route_backends: Vec::new(),
        }
    }

    #[test]
    fn every_kind_of_destination_survives_its_message() {
        for destination in [
            Destination::Unknown,
            Destination::UndefinedPort,
            Destination::Pod {
                endpoint: remote_endpoint(),
                protocol: Protocol::Opaque,
            },
            Destination::Service(service()),
        ] {
            let message = destination_to_proto(&destination);
            assert_eq!(destination_from_proto(message), Ok(destination));
        }
    }

    #[test]
    fn an_impossible_message_is_refused_by_field() {
        let mut message = destination_to_proto(&Destination::Pod {
            endpoint: remote_endpoint(),
            protocol: Protocol::Detect,
        });
        let Some(v1::destination::Kind::Pod(endpoint)) = &mut message.kind else {
            unreachable!("a pod was converted");
        };
        endpoint.address.as_mut().unwrap().tls_identity = Some(stock::TlsIdentity::default());
        let error = destination_from_proto(message).unwrap_err();
        assert!(error.to_string().starts_with("endpoint.tls_identity"));
        assert!(destination_from_proto(v1::Destination::default()).is_err());
    }
}
