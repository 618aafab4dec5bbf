//! Our own identity: a certificate chain with its private key, and the request
//! by which one is obtained.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_core::identity::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::{
    clock::unix_time,
    error::Refusal,
    leaf::{self, Leaf, Purpose},
    provider::provider,
    trust::Bundle,
    verify::vouches,
};

/// A workload certificate and its key. Cheap to clone; the key is never shown.
#[derive(Clone)]
pub struct Certificate {
    id: SpiffeId,
    not_before: SystemTime,
    valid_until: SystemTime,
    certified_key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Takes a chain (leaf first, without the root) and the leaf's private key
    /// in PKCS #8.
    ///
    /// # Errors
    /// If the leaf is none that the mesh accepts, or the key is not the leaf's.
    pub fn from_parts(
        chain_der: Vec<Vec<u8>>,
        key_pkcs8_der: Vec<u8>,
    ) -> Result<Self, InvalidCertificate> {
        let [leaf, intermediates @ ..] = &chain_der[..] else {
            return Err(Refusal::NoCertificate.into());
        };
        let leaf = Leaf::read(leaf)?;
        let valid_until = intermediates
            .iter()
            .map(|der| leaf::not_after(der))
            .try_fold(leaf.not_after, |earliest, end| Ok(earliest.min(end?)))
            .map_err(InvalidCertificate::Leaf)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8_der));
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| InvalidCertificate::Key)?;
        let chain = chain_der.into_iter().map(CertificateDer::from).collect();
        let certified_key = CertifiedKey::new(chain, key);
        certified_key
            .keys_match()
            .map_err(|_| InvalidCertificate::KeyMismatch)?;
        Ok(Self {
            id: leaf.id,
            not_before: leaf.not_before,
            valid_until,
            certified_key: Arc::new(certified_key),
        })
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The start of its life.
    #[must_use]
    pub const fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The end of its life: its own or its issuer's, whichever comes first.
    #[must_use]
    pub const fn valid_until(&self) -> SystemTime {
        self.valid_until
    }

    /// The same, to be shown after its end too, as an intruder would: only for
    /// tests of those who have to refuse it.
    #[must_use]
    pub fn shown_regardless(mut self) -> Self {
        self.valid_until += Duration::from_secs(u64::from(u32::MAX));
        self
    }

    /// Whether its chain ends in `root`, a certificate in DER.
    #[must_use]
    pub fn is_rooted_in(&self, root: &[u8]) -> bool {
        let Ok(bundle) = Bundle::new(&[root.to_vec()]) else {
            return false;
        };
        let [leaf, intermediates @ ..] = &self.certified_key.cert[..] else {
            return false;
        };
        // Any moment of its life does: this is not about time.
        let moment = unix_time(self.valid_until);
        vouches(&bundle, Purpose::Client, leaf, intermediates, moment).is_ok()
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        self.certified_key.clone()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("id", &self.id)
            .field("not_before", &self.not_before)
            .field("valid_until", &self.valid_until)
            .finish_non_exhaustive()
    }
}

/// A fresh private key and the request to certify it. The key never leaves it
/// but inside a [`Certificate`].
pub struct KeyRequest {
    key: KeyPair,
    csr_der: Vec<u8>,
}

impl KeyRequest {
    /// Makes an ECDSA P-256 key. The request names nobody: the issuer takes
    /// only the public key from it.
    ///
    /// # Errors
    /// If the cryptographic library fails to make a key.
    pub fn generate() -> Result<Self, KeyGenerationFailed> {
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| KeyGenerationFailed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params
            .serialize_request(&key)
            .map_err(|_| KeyGenerationFailed)?;
        Ok(Self {
            key,
            csr_der: csr.der().to_vec(),
        })
    }

    /// The certificate signing request, in DER.
    #[must_use]
    pub fn csr_der(&self) -> &[u8] {
        &self.csr_der
    }

    /// Joins the key with what the issuer answered: the leaf and the
    /// certificates between it and the root, in DER.
    ///
    /// # Errors
    /// As [`Certificate::from_parts`].
    pub fn certify(
        self,
        leaf: Vec<u8>,
        intermediates: Vec<Vec<u8>>,
    ) -> Result<Certificate, InvalidCertificate> {
        let chain = std::iter::once(leaf).chain(intermediates).collect();
        Certificate::from_parts(chain, self.key.serialize_der())
    }
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest").finish_non_exhaustive()
    }
}

/// The cryptographic library could not make a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a private key could not be made")]
pub struct KeyGenerationFailed;

/// Why a chain and a key are no certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// No peer would accept the leaf.
    #[error("the certificate is not usable: {0}")]
    Leaf(#[from] Refusal),
    /// Not a private key in PKCS #8.
    #[error("the private key is not readable")]
    Key,
    /// The certificate belongs to another key.
    #[error("the private key is not the certificate's")]
    KeyMismatch,
}
