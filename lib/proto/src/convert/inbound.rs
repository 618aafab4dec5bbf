use mesh_core::inbound::InboundPolicy;

use super::{
    InvalidMessage,
    destination::{protocol_from_proto, protocol_to_proto},
    parse, port_from_proto,
};
use crate::v1;

/// A pod's inbound policy.
///
/// # Errors
/// Names the field that is wrong.
pub fn inbound_policy_from_proto(
    message: v1::InboundPolicy,
) -> Result<InboundPolicy, InvalidMessage> {
    let mut policy = InboundPolicy::default();
    for port in message.ports {
        let number = port_from_proto("ports.port", port.port)?;
        let protocol = protocol_from_proto(port.protocol());
        policy.protocols.insert(number, protocol);
    }
    for exported in message.exported_ports {
        let number = port_from_proto("exported_ports.port", exported.port)?;
        let trust_domain = parse("exported_ports.trust_domain", &exported.trust_domain)?;
        policy
            .exported
            .insert((trust_domain, number), exported.service.into());
    }
    Ok(policy)
}

/// The message of a pod's inbound policy; equal policies make equal messages.
#[must_use]
pub fn inbound_policy_to_proto(policy: &InboundPolicy) -> v1::InboundPolicy {
    let mut ports: Vec<_> = policy
        .protocols
        .iter()
        .map(|(port, protocol)| v1::InboundPort {
            port: (*port).into(),
            protocol: protocol_to_proto(*protocol).into(),
        })
        .collect();
    ports.sort_by_key(|port| port.port);
    let mut exported_ports: Vec<_> = policy
        .exported
        .iter()
        .map(|((trust_domain, port), service)| v1::ExportedPort {
            trust_domain: trust_domain.to_string(),
            port: (*port).into(),
            service: service.to_string(),
        })
        .collect();
    exported_ports.sort_by(|a, b| (&a.trust_domain, a.port).cmp(&(&b.trust_domain, b.port)));
    v1::InboundPolicy {
        ports,
        exported_ports,
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::destination::Protocol;

    use super::*;

    #[test]
    fn a_policy_survives_its_message() {
        let policy = InboundPolicy {
            protocols: [(8080, Protocol::Http1), (5432, Protocol::Opaque)].into(),
            exported: [(("west".parse().unwrap(), 8080), "shop/web".into())].into(),
        };
        let message = inbound_policy_to_proto(&policy);
        assert_eq!(inbound_policy_from_proto(message), Ok(policy));
    }
}
