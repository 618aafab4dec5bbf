//! What a leaf certificate says about its owner. Reading it proves nothing: the
//! chain is checked in `verify`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::identity::SpiffeId;
use x509_parser::prelude::{
    ASN1Time, ExtendedKeyUsage, FromDer, GeneralName, X509Certificate, X509Version,
};

use crate::error::Refusal;

/// The part of a leaf certificate that the mesh uses.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    purposes: Purposes,
}

/// What a leaf must be allowed to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Server,
    Client,
}

#[derive(Clone, Copy, Debug)]
struct Purposes {
    server: bool,
    client: bool,
}

impl Leaf {
    /// Reads a leaf: X.509 v3, not an authority, a small key of a kind that is
    /// cheap to verify, and exactly one subject alternative name, which is a
    /// SPIFFE id.
    pub(crate) fn read(der: &[u8]) -> Result<Self, Refusal> {
        if der.len() > MAX_LEAF_BYTES {
            return Err(Refusal::ChainTooLong);
        }
        let (rest, leaf) = X509Certificate::from_der(der).map_err(|_| Refusal::Malformed)?;
        if !rest.is_empty() || leaf.version() != X509Version::V3 {
            return Err(Refusal::Malformed);
        }
        refuse_authority(&leaf)?;
        refuse_unusual_key(&leaf)?;
        Ok(Self {
            id: single_id(&leaf)?,
            not_before: system_time(leaf.validity().not_before)?,
            not_after: system_time(leaf.validity().not_after)?,
            purposes: purposes(&leaf)?,
        })
    }

    /// Refuses a leaf whose extended key usage does not name `purpose`. A leaf
    /// without the extension has no purpose.
    pub(crate) fn require(&self, purpose: Purpose) -> Result<(), Refusal> {
        let allowed = match purpose {
            Purpose::Server => self.purposes.server,
            Purpose::Client => self.purposes.client,
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::Purpose)
        }
    }
}

/// When a certificate of any kind ends.
pub(crate) fn not_after(der: &[u8]) -> Result<SystemTime, Refusal> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Refusal::Malformed)?;
    system_time(certificate.validity().not_after)
}

/// SPIFFE X.509-SVID §4.1 and §4.3: a leaf is no CA, signs no certificate and
/// may sign a handshake.
fn refuse_authority(leaf: &X509Certificate<'_>) -> Result<(), Refusal> {
    let constraints = leaf.basic_constraints().map_err(|_| Refusal::Malformed)?;
    let usage = leaf.key_usage().map_err(|_| Refusal::Malformed)?;
    let is_ca = constraints.is_some_and(|constraints| constraints.value.ca);
    let Some(usage) = usage.map(|usage| usage.value) else {
        return if is_ca {
            Err(Refusal::Authority)
        } else {
            Ok(())
        };
    };
    if is_ca || usage.key_cert_sign() || usage.crl_sign() {
        return Err(Refusal::Authority);
    }
    if !usage.digital_signature() {
        return Err(Refusal::Purpose);
    }
    Ok(())
}

/// Only elliptic curves: a stranger cannot make us verify with a huge RSA key.
fn refuse_unusual_key(leaf: &X509Certificate<'_>) -> Result<(), Refusal> {
    let key = leaf.public_key();
    let kind = key.algorithm.algorithm.to_id_string();
    let cheap = matches!(kind.as_str(), ID_EC_PUBLIC_KEY | ID_ED25519);
    if cheap && key.raw.len() <= MAX_KEY_BYTES {
        Ok(())
    } else {
        Err(Refusal::Key)
    }
}

fn single_id(leaf: &X509Certificate<'_>) -> Result<SpiffeId, Refusal> {
    let names = leaf
        .subject_alternative_name()
        .map_err(|_| Refusal::AlternativeNames)?
        .ok_or(Refusal::AlternativeNames)?;
    let [GeneralName::URI(uri)] = names.value.general_names[..] else {
        return Err(Refusal::AlternativeNames);
    };
    uri.parse().map_err(Refusal::Identity)
}

fn purposes(leaf: &X509Certificate<'_>) -> Result<Purposes, Refusal> {
    let usage = leaf.extended_key_usage().map_err(|_| Refusal::Malformed)?;
    let named = |test: fn(&ExtendedKeyUsage<'_>) -> bool| {
        usage.as_ref().is_some_and(|usage| test(usage.value))
    };
    Ok(Purposes {
        server: named(|usage| usage.server_auth),
        client: named(|usage| usage.client_auth),
    })
}

pub(crate) fn system_time(time: ASN1Time) -> Result<SystemTime, Refusal> {
    u64::try_from(time.timestamp())
        .ok()
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .ok_or(Refusal::Malformed)
}

/// Ours has about 600 bytes; one with the longest id and some extensions of an
/// external authority still fits.
const MAX_LEAF_BYTES: usize = 4096;

/// A P-384 public key has 120 bytes.
const MAX_KEY_BYTES: usize = 160;

const ID_EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const ID_ED25519: &str = "1.3.101.112";
