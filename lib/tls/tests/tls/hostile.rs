//! Peers that are rustls without our rules: they show any certificate, trust
//! everybody and offer what we refuse.

use std::{
    fs,
    sync::{Arc, LazyLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use mesh_core::identity::SpiffeId;
use mesh_testing::ca::{Issued, TestRoot, id};
use mesh_tls::{ALPN_MESH, Tls, TlsError};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Builder,
};
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
    let client = elsewhere(try_reading(config, theirs));
    let result = cheaply(tls.accept(ours, ALPN_MESH)).await;
    let error = result.map(drop).unwrap_err();
    assert!(!client.join().unwrap(), "the client got data");
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
    let server = elsewhere(async move { accept.await.is_ok() });
    let result = cheaply(tls.connect(ours, expected, None, ALPN_MESH)).await;
    let error = result.map(drop).unwrap_err();
    assert!(!server.join().unwrap(), "the server finished the handshake");
    error
}

/// Lets a peer run on a thread of its own: what it does is not counted as ours.
fn elsewhere(peer: impl Future<Output = bool> + Send + 'static) -> JoinHandle<bool> {
    thread::spawn(move || {
        Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(peer)
    })
}

/// Waits for a refusal, which may not cost this thread more than row T1 says.
async fn cheaply<T>(refusal: impl Future<Output = T>) -> T {
    let before = thread_cpu();
    let refused = refusal.await;
    let spent = thread_cpu() - before;
    assert!(spent < REFUSAL, "{spent:?} of CPU");
    refused
}

/// CPU time that a refusal takes at most. It holds for the profile that tests are built
/// in, `quick`, which is slower than a release.
const REFUSAL: Duration = Duration::from_millis(50);

/// CPU time of this thread, as of the kernel's last tick.
fn thread_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = text.split_whitespace().next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
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
