//! A peer's chain, kept for as long as its connection: what was verified once
//! is looked at again when trust changes.

use std::{sync::Arc, time::SystemTime};

use mesh_core::identity::TrustDomain;
use rustls_pki_types::CertificateDer;

use crate::{
    Session, Trust,
    clock::unix_time,
    leaf::{Leaf, Purpose, not_after},
    trust::Bundle,
    verify::vouches,
};

/// Whom a connection was opened with, and the roots that vouched for that.
#[derive(Clone, Debug)]
pub struct PeerChain {
    chain: Arc<[CertificateDer<'static>]>,
    purpose: Purpose,
    trust_domain: TrustDomain,
    /// When the handshake was; a chain that ended since is another matter.
    verified: SystemTime,
    valid_until: SystemTime,
    /// Roots that are known to vouch for it, together.
    roots: Arc<[Vec<u8>]>,
}

impl PeerChain {
    /// The chain of a client that was accepted while `trust` was in force:
    /// taken before the handshake, so that no change of trust is missed. `now`
    /// is by the clock that the handshake went by. None for a client that was
    /// asked for no certificate.
    #[must_use]
    pub fn of_client<IO>(stream: &Session<IO>, trust: &Trust, now: SystemTime) -> Option<Self> {
        Self::new(stream.certificates()?.clone(), Purpose::Client, trust, now)
    }

    /// The chain of a server, see [`PeerChain::of_client`].
    #[must_use]
    pub fn of_server<IO>(stream: &Session<IO>, trust: &Trust, now: SystemTime) -> Option<Self> {
        Self::new(stream.certificates()?.clone(), Purpose::Server, trust, now)
    }

    fn new(
        chain: Arc<[CertificateDer<'static>]>,
        purpose: Purpose,
        trust: &Trust,
        now: SystemTime,
    ) -> Option<Self> {
        let trust_domain = Leaf::read(chain.first()?).ok()?.id.trust_domain().clone();
        let ends = chain.iter().map(|der| not_after(der));
        let valid_until = ends
            .collect::<Result<Vec<_>, _>>()
            .ok()?
            .into_iter()
            .min()?;
        Some(Self {
            chain,
            purpose,
            verified: now,
            valid_until,
            roots: trust.bundle(&trust_domain).map(Bundle::roots)?,
            trust_domain,
        })
    }

    /// When the first certificate of the chain ends.
    #[must_use]
    pub const fn valid_until(&self) -> SystemTime {
        self.valid_until
    }

    /// Whether `trust` vouches for the peer, as of the moment of the handshake.
    #[must_use]
    pub fn is_vouched_for(&self, trust: &Trust) -> bool {
        let Some(bundle) = trust.bundle(&self.trust_domain) else {
            return false;
        };
        // Roots that were added take nothing away: no signature has to be
        // checked for every connection of a busy program.
        let now = bundle.roots();
        if self.roots.iter().all(|root| now.contains(root)) {
            return true;
        }
        let [leaf, intermediates @ ..] = &self.chain[..] else {
            return false;
        };
        let verified = unix_time(self.verified);
        vouches(bundle, self.purpose, leaf, intermediates, verified).is_ok()
    }

    /// Remembers that `trust` vouches for the peer.
    pub(crate) fn seen(&mut self, trust: &Trust) {
        if let Some(bundle) = trust.bundle(&self.trust_domain) {
            self.roots = bundle.roots();
        }
    }
}
