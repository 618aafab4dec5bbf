//! Whom we trust: root certificates, one bundle per trust domain.

use std::{collections::HashMap, fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use mesh_core::identity::TrustDomain;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::provider::provider;

/// The bundles in force at one moment: our own trust domain's and those of the
/// linked ones. A snapshot: a new one replaces it in [`crate::Tls::set_trust`].
#[derive(Clone)]
pub struct Trust {
    local: TrustDomain,
    bundles: HashMap<TrustDomain, Bundle>,
}

impl Trust {
    /// Trusts `roots_der` for our own trust domain, and nothing else.
    ///
    /// # Errors
    /// If there is no root, too many of them, or one that is no authority.
    pub fn new(local: TrustDomain, roots_der: &[Vec<u8>]) -> Result<Self, InvalidBundle> {
        let nobody = Self {
            local: local.clone(),
            bundles: HashMap::new(),
        };
        nobody.with_bundle(local, roots_der)
    }

    /// Trusts `roots_der` for the ids of `trust_domain`, and for no other ids.
    ///
    /// # Errors
    /// As [`Trust::new`]; also if the trust domain has a bundle already, so that
    /// no link can replace our own roots or another link's.
    pub fn with_bundle(
        mut self,
        trust_domain: TrustDomain,
        roots_der: &[Vec<u8>],
    ) -> Result<Self, InvalidBundle> {
        if self.bundles.contains_key(&trust_domain) {
            return Err(InvalidBundle::Taken(trust_domain));
        }
        let bundle = Bundle::new(roots_der)?;
        self.bundles.insert(trust_domain, bundle);
        Ok(self)
    }

    /// Our own trust domain.
    #[must_use]
    pub const fn local(&self) -> &TrustDomain {
        &self.local
    }

    pub(crate) fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.bundles.get(trust_domain)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("local", &self.local)
            .field("trust_domains", &self.bundles.keys())
            .finish()
    }
}

/// The roots of one trust domain, ready for both directions.
#[derive(Clone)]
pub(crate) struct Bundle {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
}

impl Bundle {
    fn new(roots_der: &[Vec<u8>]) -> Result<Self, InvalidBundle> {
        if roots_der.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        if roots_der.len() > MAX_ROOTS {
            return Err(InvalidBundle::TooLarge);
        }
        let mut store = RootCertStore::empty();
        for der in roots_der {
            require_authority(der)?;
            store
                .add(CertificateDer::from(der.clone()))
                .map_err(|_| InvalidBundle::Malformed)?;
        }
        let roots = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|_| InvalidBundle::Malformed)?;
        Ok(Self { roots, clients })
    }
}

/// The verifier below asks nothing of a root, so a leaf put there by mistake
/// would be one.
fn require_authority(der: &[u8]) -> Result<(), InvalidBundle> {
    let (rest, root) = X509Certificate::from_der(der).map_err(|_| InvalidBundle::Malformed)?;
    if !rest.is_empty() {
        return Err(InvalidBundle::Malformed);
    }
    if root.is_ca() {
        Ok(())
    } else {
        Err(InvalidBundle::NotAnAuthority)
    }
}

/// The certificates of a PEM file, in DER, in their order. Sections of other
/// kinds are ignored.
///
/// # Errors
/// If the text is no PEM, holds no certificate, or more than a bundle may.
pub fn parse_bundle(pem: &str) -> Result<Vec<Vec<u8>>, InvalidBundle> {
    if pem.len() > MAX_PEM_BYTES {
        return Err(InvalidBundle::TooLarge);
    }
    let roots = CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|section| section.map(|der| der.as_ref().to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| InvalidBundle::Malformed)?;
    match roots.len() {
        0 => Err(InvalidBundle::Empty),
        1..=MAX_ROOTS => Ok(roots),
        _ => Err(InvalidBundle::TooLarge),
    }
}

/// The SHA-256 of a certificate as people compare it: upper-case hex, bytes
/// separated by colons, as `openssl x509 -fingerprint -sha256` prints it.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    let bytes = digest(&SHA256, der);
    let hex: Vec<String> = bytes.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    hex.join(":")
}

/// Why a set of root certificates is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// No certificate in it.
    #[error("no root certificate")]
    Empty,
    /// More roots, or more bytes, than any rotation needs.
    #[error("more than {MAX_ROOTS} root certificates or {MAX_PEM_BYTES} bytes")]
    TooLarge,
    /// Not PEM, or not an X.509 certificate.
    #[error("not a readable X.509 certificate")]
    Malformed,
    /// A certificate that may not sign others.
    #[error("a certificate that is no authority")]
    NotAnAuthority,
    /// The trust domain has its bundle.
    #[error("trust domain {0} has a bundle already")]
    Taken(TrustDomain),
}

/// A rotation needs two, a federation of roots a few more.
const MAX_ROOTS: usize = 16;
const MAX_PEM_BYTES: usize = 256 * 1024;
