//! The decision about a peer's certificate: which id it claims, which roots may
//! vouch for that id, whether they do, and whether that id is wanted here.

use std::{fmt, sync::Arc};

use mesh_core::identity::SpiffeId;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{
    error::Refusal,
    leaf::{Leaf, Purpose},
    provider::provider,
    trust::{Bundle, Trust},
};

/// Accepts a server that proves one of the expected ids.
pub(crate) struct ExpectedServer {
    trust: Arc<Trust>,
    expected: Box<[SpiffeId]>,
    provider: Arc<CryptoProvider>,
}

impl ExpectedServer {
    pub(crate) fn new(trust: Arc<Trust>, expected: &[SpiffeId]) -> Self {
        Self {
            trust,
            expected: expected.into(),
            provider: provider(),
        }
    }
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (leaf, bundle) = claim(&self.trust, Purpose::Server, end_entity, intermediates)?;
        if !self.expected.contains(&leaf.id) {
            return Err(Refusal::Unexpected(leaf.id).into());
        }
        vouches(bundle, Purpose::Server, end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS12_REFUSED)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl fmt::Debug for ExpectedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectedServer")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// Accepts a client that proves any id of a trust domain we have a bundle for.
/// What that id may do is the caller's decision.
pub(crate) struct KnownClient {
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
}

impl KnownClient {
    pub(crate) fn new(trust: Arc<Trust>) -> Self {
        Self {
            trust,
            provider: provider(),
        }
    }
}

impl ClientCertVerifier for KnownClient {
    /// No hints: they would tell strangers which clusters are linked.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (_, bundle) = claim(&self.trust, Purpose::Client, end_entity, intermediates)?;
        vouches(bundle, Purpose::Client, end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS12_REFUSED)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl fmt::Debug for KnownClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownClient").finish_non_exhaustive()
    }
}

/// What the peer claims to be, and the only roots that may vouch for it. Cheap:
/// no signature is checked here, so most refusals cost next to nothing.
fn claim<'t>(
    trust: &'t Trust,
    purpose: Purpose,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(Leaf, &'t Bundle), Refusal> {
    let bytes: usize = intermediates.iter().map(|der| der.len()).sum();
    if intermediates.len() > MAX_INTERMEDIATES || bytes > MAX_INTERMEDIATE_BYTES {
        return Err(Refusal::ChainTooLong);
    }
    let leaf = Leaf::read(end_entity)?;
    leaf.require(purpose)?;
    let trust_domain = leaf.id.trust_domain();
    let bundle = trust
        .bundle(trust_domain)
        .ok_or_else(|| Refusal::UnknownTrustDomain(trust_domain.clone()))?;
    Ok((leaf, bundle))
}

/// Whether a root of `bundle` vouches for the chain at `now`.
pub(crate) fn vouches(
    bundle: &Bundle,
    purpose: Purpose,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    match purpose {
        Purpose::Server => verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &bundle.store,
            intermediates,
            now,
            provider().signature_verification_algorithms.all,
        ),
        Purpose::Client => bundle
            .clients
            .verify_client_cert(end_entity, intermediates, now)
            .map(|_| ()),
    }
}

/// Ours has one; an external authority may have a few.
const MAX_INTERMEDIATES: usize = 4;
const MAX_INTERMEDIATE_BYTES: usize = 16 * 1024;

/// What leaf keys may sign with, see `leaf`.
const SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
];

const TLS12_REFUSED: Error =
    Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired);
