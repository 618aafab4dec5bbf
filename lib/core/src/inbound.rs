//! Who may reach which port of a pod.

use std::{collections::HashMap, sync::Arc};

use crate::{
    destination::Protocol,
    identity::{SpiffeId, TrustDomain},
    ports::is_proxy_port,
};

/// What the control plane says of one pod's ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundPolicy {
    /// What each declared port speaks.
    pub protocols: HashMap<u16, Protocol>,
    /// What a linked cluster may reach, by trust domain and port, with the
    /// Service under which it is exported.
    pub exported: HashMap<(TrustDomain, u16), Arc<str>>,
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
}

impl InboundPolicy {
    /// Whether `client` may reach `port` of this pod, whose cluster's trust
    /// domain is `local`. Without a policy from the control plane (the default
    /// value) no foreign caller may reach anything.
    ///
    /// # Errors
    /// Says why not.
    pub fn authorize(
        &self,
        local: &TrustDomain,
        client: &SpiffeId,
        port: u16,
    ) -> Result<(), Refusal> {
        if is_proxy_port(port) {
            return Err(Refusal::ProxyPort);
        }
        let caller = client.trust_domain();
        if caller == local || self.exported.contains_key(&(caller.clone(), port)) {
            Ok(())
        } else {
            Err(Refusal::NotExported)
        }
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
mod tests {
    use super::*;

    #[test]
    fn g16_a_foreign_caller_reaches_exported_ports_only() {
        let local: TrustDomain = "east".parse().unwrap();
        let west: TrustDomain = "west".parse().unwrap();
        let policy = InboundPolicy {
            exported: [((west, 8080), "shop/web".into())].into(),
            ..InboundPolicy::default()
        };
        let check = |client: &str, port| policy.authorize(&local, &client.parse().unwrap(), port);
        let own = "spiffe://east/ns/shop/sa/client";
        let linked = "spiffe://west/ns/shop/sa/client";
        let other = "spiffe://north/ns/shop/sa/client";

        assert_eq!(check(own, 8080), Ok(()));
        assert_eq!(check(own, 9000), Ok(()));
        assert_eq!(check(linked, 8080), Ok(()));
        assert_eq!(check(linked, 9000), Err(Refusal::NotExported));
        assert_eq!(check(other, 8080), Err(Refusal::NotExported));
        for port in [4140, 4143, 4190, 4191] {
            assert_eq!(check(own, port), Err(Refusal::ProxyPort));
            assert_eq!(check(linked, port), Err(Refusal::ProxyPort));
        }
    }

    #[test]
    fn c3_without_a_policy_no_foreign_caller_is_admitted() {
        let refused = InboundPolicy::default().authorize(
            &"east".parse().unwrap(),
            &"spiffe://west/ns/shop/sa/client".parse().unwrap(),
            8080,
        );
        assert_eq!(refused, Err(Refusal::NotExported));
    }
}
