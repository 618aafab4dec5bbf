//! The ids under which endpoints and exports are known to peers.

use anyhow::Result;
use aws_lc_rs::hmac;
use mesh_core::{endpoint::EndpointId, link::Link};

/// In a pod's place for the id of a whole export. The number of parts tells
/// such an id from every pod's as well.
const WHOLE: [&str; 2] = ["", "export"];

/// The key that makes ids unguessable; the same in all replicas.
pub(crate) struct EndpointKey(hmac::Key);

impl EndpointKey {
    /// # Errors
    /// If the key is too short to be one.
    pub(crate) fn new(key: &[u8]) -> Result<Self> {
        anyhow::ensure!(key.len() >= 32, "the key of endpoint ids is too short");
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// The id of a pod of a Service, for one peer only.
    pub(super) fn endpoint(&self, peer: &Link, service: &str, pod: &str) -> EndpointId {
        self.id(&[peer.trust_domain.as_str(), service, pod])
    }

    /// The id of a Service as a whole, for one peer only.
    pub(super) fn export(&self, peer: &Link, service: &str) -> EndpointId {
        let [pod, kind] = WHOLE;
        self.id(&[peer.trust_domain.as_str(), service, pod, kind])
    }

    fn id(&self, parts: &[&str]) -> EndpointId {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let tag = context.sign();
        let first = tag.as_ref().first_chunk::<8>().copied().unwrap_or_default();
        EndpointId(u64::from_be_bytes(first))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::fixtures::{key, link};

    #[test]
    fn g2_ids_differ_by_peer_service_and_pod_and_an_exports_from_all_pods() {
        let (key, west, north) = (key(), link("west"), link("north"));
        let ids = [
            key.endpoint(&west, "web", "pod"),
            key.endpoint(&north, "web", "pod"),
            key.endpoint(&west, "api", "pod"),
            key.endpoint(&west, "web", "other"),
            key.endpoint(&west, "web", ""),
            key.endpoint(&west, "web", "export"),
            key.endpoint(&west, "we", "bpod"),
            key.export(&west, "web"),
            key.export(&north, "web"),
            key.export(&west, "api"),
        ];
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert_eq!(key.export(&west, "web"), key.export(&west, "web"));
    }
}
