//! Whom we trust: root certificates, one bundle per trust domain.

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use mesh_core::identity::TrustDomain;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{leaf, provider::provider};

/// The bundles in force at one moment: our own trust domain's and those of the
/// linked ones. A snapshot: a new one replaces it in [`crate::Tls::set_trust`].
#[derive(Clone, PartialEq, Eq)]
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

    /// The roots of our own trust domain, in DER, in the order they were given.
    #[must_use]
    pub fn local_roots(&self) -> Arc<[Vec<u8>]> {
        self.bundle(&self.local)
            .map_or_else(|| Arc::from([]), Bundle::roots)
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
    roots: Arc<[Vec<u8>]>,
    pub(crate) store: Arc<RootCertStore>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        self.roots == other.roots
    }
}

impl Eq for Bundle {}

impl Bundle {
    pub(crate) fn roots(&self) -> Arc<[Vec<u8>]> {
        self.roots.clone()
    }

    pub(crate) fn new(roots_der: &[Vec<u8>]) -> Result<Self, InvalidBundle> {
        if roots_der.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        if roots_der.len() > MAX_ROOTS {
            return Err(InvalidBundle::TooLarge);
        }
        let mut store = RootCertStore::empty();
        for der in roots_der {
            RootCertificate::read(der)?;
            store
                .add(CertificateDer::from(der.clone()))
                .map_err(|_| InvalidBundle::Malformed)?;
        }
        let store = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(store.clone(), provider())
            .build()
            .map_err(|_| InvalidBundle::Malformed)?;
        Ok(Self {
            roots: roots_der.into(),
            store,
            clients,
        })
    }
}

/// What a root certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootCertificate {
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
    /// Its key, a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

impl RootCertificate {
    /// Reads a root. The verifier asks nothing of one, so a leaf put there by
    /// mistake would be one: it is refused here.
    ///
    /// # Errors
    /// If it is no certificate, or not an authority's.
    pub fn read(der: &[u8]) -> Result<Self, InvalidBundle> {
        let (rest, root) = X509Certificate::from_der(der).map_err(|_| InvalidBundle::Malformed)?;
        if !rest.is_empty() {
            return Err(InvalidBundle::Malformed);
        }
        if !root.is_ca() {
            return Err(InvalidBundle::NotAnAuthority);
        }
        let time = |time| leaf::system_time(time).map_err(|_| InvalidBundle::Malformed);
        Ok(Self {
            not_before: time(root.validity().not_before)?,
            not_after: time(root.validity().not_after)?,
            public_key: root.public_key().raw.to_vec(),
        })
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
