//! Who may reach which port of a pod.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    authorization::{Client, DefaultPolicy, Rule},
    destination::Protocol,
    identity::TrustDomain,
    ports::is_proxy_port,
};

/// What the control plane says of one pod's ports. The default value admits
/// nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundPolicy {
    /// What each declared port speaks.
    pub protocols: HashMap<u16, Protocol>,
    /// What a linked cluster may reach at most, by trust domain and port, with
    /// the Service under which it is exported.
    pub exported: HashMap<(TrustDomain, u16), Arc<str>>,
    /// Who may reach a port that is not in [`servers`](Self::servers).
    pub default_rules: Vec<Rule>,
    /// Who may reach the ports about which a Server says something.
    pub servers: HashMap<u16, Vec<Rule>>,
    /// Ports and paths that the kubelet asks for the pod's health.
    pub probes: HashSet<(u16, Arc<str>)>,
}

/// The path of the health service of gRPC, which the kubelet knows too.
pub const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Why a client is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission<'a> {
    /// A rule says so.
    Rule(&'a Rule),
    /// It asks for the pod's health, as the pod's spec says.
    Probe,
}

/// Why a connection or request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The port is the sidecar's own.
    #[error("the port is the proxy's own")]
    ProxyPort,
    /// The caller belongs to another cluster and the port is not exported to it.
    #[error("the port is not exported to the caller's cluster")]
    NotExported,
    /// No rule admits the caller to the port.
    #[error("no policy admits the caller to the port")]
    NotAuthorized,
}

impl Refusal {
    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProxyPort => "proxy-port",
            Self::NotExported => "not-exported",
            Self::NotAuthorized => "not-authorized",
        }
    }
}

impl InboundPolicy {
    /// What holds of a pod of which only the default policy is known.
    #[must_use]
    pub fn of_default(policy: DefaultPolicy) -> Self {
        Self {
            default_rules: policy.rule().into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether `client` may reach `port` of this pod, whose cluster's trust
    /// domain is `local`, and by which rule.
    ///
    /// # Errors
    /// Says why not.
    pub fn authorize(
        &self,
        local: &TrustDomain,
        client: Client<'_>,
        port: u16,
    ) -> Result<&Rule, Refusal> {
        if is_proxy_port(port) {
            return Err(Refusal::ProxyPort);
        }
        if let Some(identity) = client.identity
            && identity.trust_domain() != local
            && !self
                .exported
                .contains_key(&(identity.trust_domain().clone(), port))
        {
            return Err(Refusal::NotExported);
        }
        self.rules(port)
            .iter()
            .find(|rule| rule.admits(local, client))
            .ok_or(Refusal::NotAuthorized)
    }

    /// Whether `client` may send a request to `port`. Besides what
    /// [`authorize`](Self::authorize) says, clients without an identity may ask
    /// for the pod's health: the kubelet is one.
    ///
    /// # Errors
    /// Says why not.
    pub fn authorize_request(
        &self,
        local: &TrustDomain,
        client: Client<'_>,
        port: u16,
        method: &str,
        path_and_query: &str,
    ) -> Result<Admission<'_>, Refusal> {
        match self.authorize(local, client, port) {
            Err(Refusal::NotAuthorized)
                if client.identity.is_none() && self.is_probe(port, method, path_and_query) =>
            {
                Ok(Admission::Probe)
            }
            decision => decision.map(Admission::Rule),
        }
    }

    /// Whether the kubelet asks anything of `port`.
    #[must_use]
    pub fn is_probed(&self, port: u16) -> bool {
        self.probes.iter().any(|(probed, _)| *probed == port)
    }

    fn is_probe(&self, port: u16, method: &str, path_and_query: &str) -> bool {
        let expected = if path_and_query == GRPC_HEALTH {
            "POST"
        } else {
            "GET"
        };
        method == expected && self.probes.contains(&(port, path_and_query.into()))
    }

    fn rules(&self, port: u16) -> &[Rule] {
        self.servers.get(&port).unwrap_or(&self.default_rules)
    }

    /// What `port` speaks.
    #[must_use]
    pub fn protocol(&self, port: u16) -> Protocol {
        self.protocols
            .get(&port)
            .copied()
            .unwrap_or(Protocol::Detect)
    }
}

#[cfg(test)]
mod tests;
