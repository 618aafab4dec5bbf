//! Who may reach which port of a pod.

use mesh_core::{destination::Protocol, inbound::InboundPolicy};

use crate::snapshot::{Name, Snapshot, WELL_KNOWN};

/// The policy of one pod; none while policies cannot be read. Of a pod that
/// nobody knows nothing can be reached.
pub(crate) fn policy(snapshot: &Snapshot, pod: &Name) -> Option<InboundPolicy> {
    let policies = snapshot.policies.as_ref()?;
    let mut policy = ports(snapshot, pod);
    let Some(facts) = snapshot.pods.get(pod).map(|pod| &pod.policy) else {
        return Some(policy);
    };
    let default = policies.default_of(&pod.0, facts);
    policy.default_rules = default.rule().into_iter().collect();
    for (port, restricted) in policies.restricted(&pod.0, facts) {
        if let Some(protocol) = restricted.protocol {
            policy.protocols.insert(port, protocol);
        }
        policy.servers.insert(port, restricted.rules);
    }
    let probes = facts.probes.iter();
    policy.probes = probes
        .map(|(port, path)| (*port, path.as_str().into()))
        .collect();
    Some(policy)
}

/// What its ports speak, and which of them are exported to whom.
fn ports(snapshot: &Snapshot, pod: &Name) -> InboundPolicy {
    let mut policy = InboundPolicy::default();
    for (name, service) in &snapshot.services {
        if name.0 != pod.0 {
            continue;
        }
        for slice in snapshot.endpoints.get(name).into_iter().flatten() {
            let is_member = |m: &crate::snapshot::Member| m.pod.as_ref() == Some(&pod.1);
            if !slice.members.iter().any(is_member) {
                continue;
            }
            for port in &service.ports {
                let Some(target) = slice.target(port) else {
                    continue;
                };
                let known = policy.protocols.entry(target).or_insert(port.protocol);
                // What one of two Services declares opaque comes as bytes through it.
                if port.protocol != Protocol::Detect && *known != Protocol::Opaque {
                    *known = port.protocol;
                }
                let peers = snapshot.links.links.iter().filter(|link| link.export);
                for peer in peers.filter(|link| service.is_exported_to(&link.cluster)) {
                    let key = (peer.trust_domain.clone(), target);
                    let service = format!("{}/{}", name.0, name.1);
                    policy.exported.insert(key, service.into());
                }
            }
        }
    }
    match snapshot.pods.get(pod).map(|pod| &pod.opaque) {
        Some(Some(declared)) => {
            let opaque = declared.iter().map(|port| (*port, Protocol::Opaque));
            policy.protocols.extend(opaque);
        }
        // Of what Services lead to, they have said what it is.
        Some(None) => {
            for port in WELL_KNOWN {
                policy.protocols.entry(port).or_insert(Protocol::Opaque);
            }
        }
        None => {}
    }
    policy
        .protocols
        .retain(|_, protocol| *protocol != Protocol::Detect);
    policy
}

#[cfg(test)]
mod property;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::snapshot;

    #[test]
    fn g16_exported_ports_are_those_of_exported_services() {
        let policy = policy(&snapshot(), &("shop".to_owned(), "web-1".to_owned())).unwrap();
        let mut exported: Vec<_> = policy
            .exported
            .keys()
            .map(|(trust_domain, port)| (trust_domain.to_string(), *port))
            .collect();
        exported.sort();
        // api, which leads to 9000 of the same pod, is exported to north only.
        let expected = [("north", 8080), ("north", 9000), ("west", 8080)];
        assert_eq!(exported, expected.map(|(td, port)| (td.to_owned(), port)));
    }

    /// With what `web` says of its port 80, which leads to this one, and with what the
    /// pod declares.
    fn protocol(target: u16, of_service: Protocol, declared: Option<Vec<u16>>) -> Protocol {
        let mut snapshot = snapshot();
        let name = |name: &str| ("shop".to_owned(), name.to_owned());
        let web = snapshot.services.get_mut(&name("web")).unwrap();
        web.ports[0].protocol = of_service;
        for (_, port) in &mut snapshot.endpoints.get_mut(&name("web")).unwrap()[0].ports {
            *port = target;
        }
        snapshot.pods.get_mut(&name("web-1")).unwrap().opaque = declared;
        policy(&snapshot, &name("web-1")).unwrap().protocol(3306)
    }

    #[test]
    fn a_well_known_port_is_opaque_unless_somebody_says_what_it_is() {
        use Protocol::{Detect, Http1, Opaque};
        for (target, of_service, declared, expected) in [
            (8080, Detect, None, Opaque),
            (8080, Detect, Some(vec![]), Detect),
            (8080, Detect, Some(vec![3306]), Opaque),
            (3306, Detect, None, Detect),
            (3306, Http1, None, Http1),
            (3306, Opaque, None, Opaque),
            (3306, Http1, Some(vec![3306]), Opaque),
        ] {
            let found = protocol(target, of_service, declared.clone());
            assert_eq!(found, expected, "{target} {of_service:?} {declared:?}");
        }
    }

    #[test]
    fn a_pod_that_nobody_knows_is_reached_by_nobody_from_outside() {
        let policy = policy(&snapshot(), &("shop".to_owned(), "ghost".to_owned()));
        assert_eq!(policy, Some(InboundPolicy::default()));
    }

    #[test]
    fn while_policies_cannot_be_read_nothing_is_said() {
        let mut unread = snapshot();
        unread.policies = None;
        let policy = policy(&unread, &("shop".to_owned(), "web-1".to_owned()));
        assert_eq!(policy, None);
    }
}
