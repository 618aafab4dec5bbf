use std::collections::HashMap;

use ipnet::IpNet;
use linkerd2_proxy_api::net;
use mesh_core::{
    authorization::{Clients, Network, Origin, Rule},
    inbound::InboundPolicy,
};

use super::{
    InvalidMessage,
    destination::{protocol_from_proto, protocol_to_proto},
    parse, port_from_proto,
};
use crate::v1::{self, inbound_rule};

/// A pod's inbound policy.
///
/// # Errors
/// Names the field that is wrong. A rule that is not understood whole could
/// admit somebody whom it should not.
pub fn inbound_policy_from_proto(
    message: v1::InboundPolicy,
) -> Result<InboundPolicy, InvalidMessage> {
    let mut policy = InboundPolicy {
        default_rules: rules_from_proto(message.default_rules)?,
        servers: servers_from_proto(message.servers)?,
        ..InboundPolicy::default()
    };
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
    for probe in message.probes {
        let number = port_from_proto("probes.port", probe.port)?;
        policy.probes.insert((number, probe.path.into()));
    }
    Ok(policy)
}

fn servers_from_proto(
    messages: Vec<v1::InboundServer>,
) -> Result<HashMap<u16, Vec<Rule>>, InvalidMessage> {
    let mut servers = HashMap::new();
    for server in messages {
        let number = port_from_proto("servers.port", server.port)?;
        let rules = rules_from_proto(server.rules)?;
        if servers.insert(number, rules).is_some() {
            return Err(InvalidMessage::new("servers.port", "is there twice"));
        }
    }
    Ok(servers)
}

fn rules_from_proto(messages: Vec<v1::InboundRule>) -> Result<Vec<Rule>, InvalidMessage> {
    messages.into_iter().map(rule_from_proto).collect()
}

fn rule_from_proto(message: v1::InboundRule) -> Result<Rule, InvalidMessage> {
    let clients = match message.clients {
        Some(inbound_rule::Clients::Anybody(_)) => Clients::Anybody,
        Some(inbound_rule::Clients::Authenticated(_)) => Clients::Authenticated,
        Some(inbound_rule::Clients::Identities(identities)) => {
            let patterns = identities.patterns.iter();
            let patterns = patterns.map(|text| parse("rule.identities", text));
            Clients::Identities(patterns.collect::<Result<_, _>>()?)
        }
        // What a newer control plane may say.
        None => Clients::Identities(Vec::new()),
    };
    let from = match message.networks {
        None => Origin::Anywhere,
        Some(networks) => {
            let networks = networks.networks.into_iter().map(network_from_proto);
            Origin::Networks(networks.collect::<Result<_, _>>()?)
        }
    };
    Ok(Rule {
        name: message.name.into(),
        clients,
        from,
        audit: message.audit,
    })
}

fn network_from_proto(message: inbound_rule::Network) -> Result<Network, InvalidMessage> {
    let range = |range: net::IpNetwork| {
        IpNet::try_from(range).map_err(|error| InvalidMessage::new("rule.networks", error))
    };
    let cidr = message
        .cidr
        .ok_or_else(|| InvalidMessage::missing("rule.networks.cidr"))?;
    Ok(Network {
        cidr: range(cidr)?,
        except: message
            .except
            .into_iter()
            .map(range)
            .collect::<Result<_, _>>()?,
    })
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
    let mut servers: Vec<_> = policy
        .servers
        .iter()
        .map(|(port, rules)| v1::InboundServer {
            port: (*port).into(),
            rules: rules.iter().map(rule_to_proto).collect(),
        })
        .collect();
    servers.sort_by_key(|server| server.port);
    let mut probes: Vec<_> = policy
        .probes
        .iter()
        .map(|(port, path)| v1::InboundProbe {
            port: (*port).into(),
            path: path.to_string(),
        })
        .collect();
    probes.sort_by(|a, b| (a.port, &a.path).cmp(&(b.port, &b.path)));
    v1::InboundPolicy {
        ports,
        exported_ports,
        default_rules: policy.default_rules.iter().map(rule_to_proto).collect(),
        servers,
        probes,
    }
}

fn rule_to_proto(rule: &Rule) -> v1::InboundRule {
    let clients = match &rule.clients {
        Clients::Anybody => inbound_rule::Clients::Anybody(inbound_rule::Anybody {}),
        Clients::Authenticated => {
            inbound_rule::Clients::Authenticated(inbound_rule::Authenticated {})
        }
        Clients::Identities(patterns) => {
            inbound_rule::Clients::Identities(inbound_rule::Identities {
                patterns: patterns.iter().map(ToString::to_string).collect(),
            })
        }
    };
    let networks = match &rule.from {
        Origin::Anywhere => None,
        Origin::Networks(networks) => Some(inbound_rule::Networks {
            networks: networks.iter().map(network_to_proto).collect(),
        }),
    };
    v1::InboundRule {
        name: rule.name.to_string(),
        clients: Some(clients),
        networks,
        audit: rule.audit,
    }
}

fn network_to_proto(network: &Network) -> inbound_rule::Network {
    inbound_rule::Network {
        cidr: Some(network.cidr.into()),
        except: network.except.iter().map(|part| (*part).into()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::{authorization::DefaultPolicy, destination::Protocol};

    use super::*;

    fn policy() -> InboundPolicy {
        let named = Rule {
            name: "shop/front".into(),
            clients: Clients::Identities(vec!["spiffe://west/ns/shop/sa/*".parse().unwrap()]),
            from: Origin::Networks(vec![Network {
                cidr: "10.0.0.0/8".parse().unwrap(),
                except: vec!["10.1.0.0/16".parse().unwrap()],
            }]),
            audit: true,
        };
        let nowhere = Rule {
            name: "shop/nowhere".into(),
            clients: Clients::Authenticated,
            from: Origin::Networks(Vec::new()),
            audit: false,
        };
        InboundPolicy {
            protocols: [(8080, Protocol::Http1), (5432, Protocol::Opaque)].into(),
            exported: [(("west".parse().unwrap(), 8080), "shop/web".into())].into(),
            servers: [(8080, vec![named, nowhere]), (9000, Vec::new())].into(),
            probes: [(8080, "/healthz".into()), (8080, "/live".into())].into(),
            ..InboundPolicy::of_default(DefaultPolicy::ClusterUnauthenticated)
        }
    }

    #[test]
    fn a_policy_survives_its_message() {
        let message = inbound_policy_to_proto(&policy());
        assert_eq!(inbound_policy_from_proto(message), Ok(policy()));
    }

    #[test]
    fn a_rule_of_unknown_clients_admits_nobody() {
        let mut message = inbound_policy_to_proto(&policy());
        message.default_rules[0].clients = None;
        let policy = inbound_policy_from_proto(message).unwrap();
        let nobody = Clients::Identities(Vec::new());
        assert_eq!(policy.default_rules[0].clients, nobody);
    }

    #[test]
    fn a_rule_that_is_not_understood_whole_is_refused() {
        let mut pattern = inbound_policy_to_proto(&policy());
        pattern.servers[0].rules[0].clients = Some(inbound_rule::Clients::Identities(
            inbound_rule::Identities {
                patterns: vec!["*".into()],
            },
        ));
        let mut network = inbound_policy_to_proto(&policy());
        let networks = network.servers[0].rules[0].networks.as_mut().unwrap();
        networks.networks[0].except[0].prefix_len = 99;
        let mut twice = inbound_policy_to_proto(&policy());
        twice.servers[1].port = 8080;
        for bad in [pattern, network, twice] {
            assert!(inbound_policy_from_proto(bad).is_err());
        }
    }
}
