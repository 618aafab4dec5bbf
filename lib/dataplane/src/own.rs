//! What a program says of itself on its probe page.

use std::time::{SystemTime, UNIX_EPOCH};

use mesh_tls::Tls;
use serde::Serialize;

/// A program's own certificate, and its clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Own {
    /// Its certificate; none if it has none yet.
    pub certificate: Option<OwnCertificate>,
    /// Its clock, in seconds since 1970.
    pub clock: u64,
}

/// See [`Own`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnCertificate {
    /// The SPIFFE id in it.
    pub identity: String,
    /// The start of its life, in seconds since 1970.
    pub not_before: u64,
    /// The end of its life: its own or its issuer's, whichever comes first.
    pub not_after: u64,
}

impl Own {
    /// What `tls` has, and goes by.
    #[must_use]
    pub fn of(tls: &Tls) -> Self {
        let certificate = tls.certificate().map(|certificate| OwnCertificate {
            identity: certificate.id().to_string(),
            not_before: seconds(certificate.not_before()),
            not_after: seconds(certificate.valid_until()),
        });
        Self {
            certificate,
            clock: tls.clock().unix_seconds(),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use mesh_testing::ca::TestRoot;
    use mesh_tls::Clock;

    use super::*;

    #[test]
    fn a_program_tells_its_certificate_and_its_clock() {
        let west = TestRoot::new("west");
        let own = Own::of(&west.tls("spiffe://west/ns/shop/sa/web"));
        let certificate = own.certificate.unwrap();
        assert_eq!(certificate.identity, "spiffe://west/ns/shop/sa/web");
        assert!(certificate.not_before <= own.clock && own.clock < certificate.not_after);
        assert_eq!(
            Own::of(&Tls::new(west.trust(), Clock::SYSTEM)).certificate,
            None
        );
    }
}
