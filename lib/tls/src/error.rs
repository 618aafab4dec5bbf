//! Why a handshake failed, and whose fault that is.

use std::{error::Error, io, sync::Arc};

use mesh_core::identity::{InvalidIdentity, SpiffeId, TrustDomain};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, OtherError};

/// Why there is no TLS session.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Ours: we hold no certificate yet.
    #[error("this program has no certificate yet")]
    NotCertified,
    /// Ours: our certificate has ended, and there is no new one.
    #[error("this program's own certificate has expired")]
    OwnExpired,
    /// The caller's: not a name that can be sent as SNI.
    #[error("not a server name: {0:?}")]
    ServerName(String),
    /// The peer's: we do not accept its certificate.
    #[error("the peer's certificate is refused: {0}")]
    Refused(#[source] Refusal),
    /// The peer's decision: it ended the handshake with an alert.
    #[error("the peer refused the handshake: {0}")]
    RefusedByPeer(#[source] rustls::Error),
    /// The peer's: it does not speak TLS 1.3 as we do.
    #[error("not a TLS 1.3 handshake: {0}")]
    Protocol(#[source] rustls::Error),
    /// The peer's: it did not agree to the application protocol we speak.
    #[error("the peer does not speak the expected application protocol (ALPN)")]
    Alpn,
    /// The network's: the connection broke during the handshake.
    #[error("the connection broke during the handshake: {0}")]
    Io(#[source] io::Error),
    /// The peer's or the network's: no handshake within [`crate::HANDSHAKE_TIMEOUT`].
    #[error("the handshake took too long")]
    Timeout,
}

impl TlsError {
    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotCertified => "not_certified",
            Self::OwnExpired => "own_expired",
            Self::ServerName(_) => "server_name",
            Self::Refused(refusal) => refusal.reason(),
            Self::RefusedByPeer(ALERT_OF_TIME) => "expired_for_peer",
            Self::RefusedByPeer(_) => "refused_by_peer",
            Self::Protocol(_) => "protocol",
            Self::Alpn => "alpn",
            Self::Io(_) => "io",
            Self::Timeout => "timeout",
        }
    }

    /// Whether a certificate's life is over or has not begun, by the clock here
    /// or by the peer's: one of the clocks is off, or nobody renewed.
    #[must_use]
    pub const fn is_about_time(&self) -> bool {
        matches!(
            self,
            Self::OwnExpired
                | Self::Refused(Refusal::Expired | Refusal::NotYetValid)
                | Self::RefusedByPeer(ALERT_OF_TIME)
        )
    }

    /// The failure of a handshake that made `error` happen, if one did: what
    /// lies between hides it.
    #[must_use]
    pub fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let itself = match inner(error) {
            Some(inner) => inner.downcast_ref(),
            None => error.downcast_ref(),
        };
        itself.or_else(|| Self::behind(error.source()?))
    }
}

/// What an `io::Error` was made of: not its source, but itself.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + Send + Sync + 'static)> {
    error.downcast_ref::<io::Error>()?.get_ref()
}

/// What a peer says for whom a certificate has expired or is not valid yet
/// (RFC 8446 §6.2).
const ALERT_OF_TIME: rustls::Error =
    rustls::Error::AlertReceived(AlertDescription::CertificateExpired);

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Io(error),
        }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(_) => Self::RefusedByPeer(error),
            rustls::Error::NoCertificatesPresented => Self::Refused(Refusal::NoCertificate),
            rustls::Error::NoApplicationProtocol => Self::Alpn,
            rustls::Error::InvalidCertificate(error) => Self::Refused(error.into()),
            other => Self::Protocol(other),
        }
    }
}

/// Why a certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer showed none.
    #[error("none was shown")]
    NoCertificate,
    /// More certificates, or longer ones, than the mesh ever uses.
    #[error("the chain is too long")]
    ChainTooLong,
    /// Not an X.509 v3 certificate.
    #[error("it is malformed")]
    Malformed,
    /// Not exactly one subject alternative name of type URI.
    #[error("it does not have exactly one URI as its only alternative name")]
    AlternativeNames,
    /// The alternative name is no SPIFFE id of the mesh's form.
    #[error("its name is no SPIFFE id: {0}")]
    Identity(#[source] InvalidIdentity),
    /// A certificate authority as the leaf.
    #[error("it belongs to a certificate authority")]
    Authority,
    /// A kind or size of key that the mesh does not use.
    #[error("its key is neither ECDSA nor Ed25519")]
    Key,
    /// Not made for this side of a TLS handshake.
    #[error("it may not be used for this side of a handshake")]
    Purpose,
    /// No bundle is known for the trust domain.
    #[error("trust domain {0} is unknown")]
    UnknownTrustDomain(TrustDomain),
    /// No chain to a root of its id's trust domain.
    #[error("no root of its trust domain vouches for it")]
    UnknownIssuer,
    /// Its time is over.
    #[error("it has expired, by the clock here")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet, by the clock here")]
    NotYetValid,
    /// A signature is wrong.
    #[error("a signature is wrong")]
    Signature,
    /// A valid identity, but not the one that should answer here.
    #[error("{0} is not the expected identity")]
    Unexpected(SpiffeId),
    /// Any other flaw of the chain.
    #[error("the chain is not acceptable")]
    Chain,
}

impl Refusal {
    const fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::ChainTooLong => "chain_too_long",
            Self::Malformed => "malformed",
            Self::AlternativeNames | Self::Identity(_) => "name",
            Self::Authority => "authority",
            Self::Key => "key",
            Self::Purpose => "purpose",
            Self::UnknownTrustDomain(_) => "unknown_trust_domain",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Signature => "signature",
            Self::Unexpected(_) => "unexpected_identity",
            Self::Chain => "chain",
        }
    }
}

/// From a verifier to rustls; the alert that the peer sees carries no detail.
impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// From rustls back to us.
impl From<CertificateError> for Refusal {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Other(OtherError(ours)) => {
                ours.downcast_ref::<Self>().cloned().unwrap_or(Self::Chain)
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::BadSignature => Self::Signature,
            CertificateError::BadEncoding => Self::Malformed,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            _ => Self::Chain,
        }
    }
}
