//! Peers that are rustls without our rules: they show any certificate, trust
//! everybody and offer what we refuse.

use std::sync::{Arc, LazyLock};

use mesh_core::identity::SpiffeId;
use mesh_testing::ca::{Issued, TestRoot, id};
use mesh_tls::{ALPN_MESH, Tls, TlsError};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
        SupportedProtocolVersion,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, aws_lc_rs::default_provider},
        sign::{CertifiedKey, SingleCertAndKey},
        version::TLS13,
    },
};

pub(crate) const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];

/// The id of the honest side.
pub(crate) const HONEST: &str = "spiffe://west/ns/shop/sa/web";

/// An honest workload of trust domain `west` that also trusts the others.
pub(crate) fn honest(west: &TestRoot, others: &[&TestRoot]) -> Tls {
    west.tls_trusting(HONEST, others)
}

/// A client that shows `shown`, or nothing, and offers `alpn`.
pub(crate) fn client(
    versions: &[&'static SupportedProtocolVersion],
    shown: Option<&Issued>,
    alpn: &[&[u8]],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAnybody));
    let mut config = match shown {
        Some(shown) => builder.with_client_cert_resolver(resolver(shown)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.enable_early_data = true;
    config
}

/// A server that shows `shown`, asks for no certificate and speaks `alpn`.
pub(crate) fn server(
    versions: &[&'static SupportedProtocolVersion],
    shown: &Issued,
    alpn: &[&[u8]],
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver(shown));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// How `tls` ends a handshake with a client that is otherwise flawless.
pub(crate) async fn refused_client(tls: &Tls, config: ClientConfig) -> TlsError {
    let (ours, theirs) = duplex(PIPE);
    let client = tokio::spawn(try_reading(config, theirs));
    let error = tls.accept(ours, ALPN_MESH).await.map(drop).unwrap_err();
    assert!(!client.await.unwrap(), "the client got data");
    error
}

/// How `tls` ends a handshake with a server that is otherwise flawless.
pub(crate) async fn refused_server(
    tls: &Tls,
    expected: &[SpiffeId],
    config: ServerConfig,
) -> TlsError {
    let (ours, theirs) = duplex(PIPE);
    let accept = TlsAcceptor::from(Arc::new(config)).accept(theirs);
    let server = tokio::spawn(async move { accept.await.is_ok() });
    let result = tls.connect(ours, expected, None, ALPN_MESH).await;
    assert!(!server.await.unwrap(), "the server finished the handshake");
    result.map(drop).unwrap_err()
}

/// The reasons with which both sides of an honest workload refuse `shown`.
pub(crate) async fn refusals(tls: &Tls, expected: &str, shown: &Issued) -> [&'static str; 2] {
    let config = client(TLS13_ONLY, Some(shown), &[ALPN_MESH]);
    let as_client = refused_client(tls, config).await;
    let config = server(TLS13_ONLY, shown, &[ALPN_MESH]);
    let as_server = refused_server(tls, &[id(expected)], config).await;
    [as_client.reason(), as_server.reason()]
}

/// Whether the server let this client read a byte.
async fn try_reading(config: ClientConfig, io: DuplexStream) -> bool {
    let name = ServerName::try_from("honest.invalid").unwrap();
    let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, io).await else {
        return false;
    };
    let _ = stream.write_all(b"let me in").await;
    matches!(stream.read(&mut [0; 1]).await, Ok(1))
}

/// Shows the certificate whether or not the key is its own.
fn resolver(shown: &Issued) -> Arc<SingleCertAndKey> {
    let chain = shown.chain_der.iter().cloned().map(CertificateDer::from);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(shown.key_pkcs8_der.clone()));
    let key = PROVIDER.key_provider.load_private_key(key).unwrap();
    let certified = CertifiedKey::new(chain.collect(), key);
    Arc::new(SingleCertAndKey::from(Arc::new(certified)))
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(default_provider()));

const PIPE: usize = 256 * 1024;

#[derive(Debug)]
struct TrustsAnybody;

impl ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
