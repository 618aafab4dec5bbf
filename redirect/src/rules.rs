//! Which connections are redirected: the rules as plain values.

use mesh_core::ports;

use crate::config::{Config, PortRange};

/// The rules of a pod. The kernel tries a chain's rules in order; a connection
/// that none matches stays as it is.
#[must_use]
pub fn ruleset(config: &Config) -> Vec<Chain> {
    vec![inbound(config), outbound(config)]
}

/// The rules for one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the table.
    pub name: &'static str,
    /// Where in the kernel's path it is tried.
    pub hook: Hook,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// Where the kernel tries a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// For packets that arrive.
    Prerouting,
    /// For packets that are sent from here.
    Output,
}

/// What to do with the new connections that meet all conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What then.
    pub verdict: Verdict,
}

/// What a rule asks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is TCP.
    Tcp,
    /// Its destination port is one of these; only meaningful after [`Self::Tcp`].
    ToPort(PortRange),
    /// The socket was opened by this user.
    ByUser(u32),
    /// It leaves through the loopback interface.
    ThroughLoopback,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it as it is.
    Leave,
    /// Hand it to this port of the pod.
    RedirectTo(u16),
}

/// The proxy's own ports are reached as they are: peers and gateways dial the
/// inbound port, kubelet and Prometheus the admin port.
fn inbound(config: &Config) -> Chain {
    let own = [config.inbound_port, ports::TAP, ports::ADMIN];
    let left = own.into_iter().map(PortRange::from);
    let left = left.chain(config.skip_inbound.iter().copied());
    Chain {
        name: "prerouting",
        hook: Hook::Prerouting,
        rules: left
            .map(leave_port)
            .chain([redirect(config.inbound_port)])
            .collect(),
    }
}

/// The proxy's own connections must get out, and what a pod says to itself
/// (containers over 127.0.0.1, or the pod's own address) stays in it.
fn outbound(config: &Config) -> Chain {
    let own = [
        leave(vec![Condition::ByUser(config.proxy_uid)]),
        leave(vec![Condition::ThroughLoopback]),
    ];
    let left = config.skip_outbound.iter().copied().map(leave_port);
    Chain {
        name: "output",
        hook: Hook::Output,
        rules: own
            .into_iter()
            .chain(left)
            .chain([redirect(config.outbound_port)])
            .collect(),
    }
}

fn leave_port(ports: PortRange) -> Rule {
    leave(vec![Condition::Tcp, Condition::ToPort(ports)])
}

const fn leave(conditions: Vec<Condition>) -> Rule {
    Rule {
        conditions,
        verdict: Verdict::Leave,
    }
}

fn redirect(port: u16) -> Rule {
    Rule {
        conditions: vec![Condition::Tcp],
        verdict: Verdict::RedirectTo(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the rules do to a connection: the port it is handed to, if any.
    fn decide(config: &Config, hook: Hook, connection: Connection) -> Option<u16> {
        let chains = ruleset(config);
        let chain = chains.iter().find(|chain| chain.hook == hook).unwrap();
        let rule = chain
            .rules
            .iter()
            .find(|rule| rule.conditions.iter().all(|&c| connection.meets(c)))?;
        match rule.verdict {
            Verdict::Leave => None,
            Verdict::RedirectTo(port) => Some(port),
        }
    }

    #[derive(Clone, Copy)]
    struct Connection {
        tcp: bool,
        port: u16,
        uid: u32,
        loopback: bool,
    }

    impl Connection {
        fn meets(self, condition: Condition) -> bool {
            match condition {
                Condition::Tcp => self.tcp,
                Condition::ToPort(ports) => (ports.first()..=ports.last()).contains(&self.port),
                Condition::ByUser(uid) => self.uid == uid,
                Condition::ThroughLoopback => self.loopback,
            }
        }
    }

    fn to(port: u16) -> Connection {
        Connection {
            tcp: true,
            port,
            uid: 1000,
            loopback: false,
        }
    }

    fn config() -> Config {
        Config {
            skip_inbound: vec!["9000-9100".parse().unwrap()],
            skip_outbound: vec![25.into()],
            ..Config::default()
        }
    }

    #[test]
    fn inbound_connections_go_to_the_proxy() {
        for (port, expected) in [
            (80, Some(4143)),
            (8999, Some(4143)),
            (9000, None),
            (9050, None),
            (9100, None),
            (9101, Some(4143)),
            (4140, Some(4143)),
            (4143, None),
            (4190, None),
            (4191, None),
        ] {
            assert_eq!(
                decide(&config(), Hook::Prerouting, to(port)),
                expected,
                "{port}"
            );
        }
    }

    #[test]
    fn outbound_connections_go_to_the_proxy() {
        for (port, expected) in [
            (80, Some(4140)),
            (25, None),
            (4143, Some(4140)),
            (4191, Some(4140)),
        ] {
            assert_eq!(
                decide(&config(), Hook::Output, to(port)),
                expected,
                "{port}"
            );
        }
    }

    #[test]
    fn the_proxy_and_loopback_are_left_alone() {
        let by_proxy = Connection {
            uid: 2102,
            ..to(80)
        };
        let inside = Connection {
            loopback: true,
            ..to(80)
        };
        assert_eq!(decide(&config(), Hook::Output, by_proxy), None);
        assert_eq!(decide(&config(), Hook::Output, inside), None);
    }

    #[test]
    fn udp_is_left_alone() {
        for hook in [Hook::Prerouting, Hook::Output] {
            let datagram = Connection {
                tcp: false,
                ..to(53)
            };
            assert_eq!(decide(&config(), hook, datagram), None);
        }
    }
}
