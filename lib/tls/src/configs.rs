//! rustls configurations for one generation of (certificate, trust). They are
//! built when either changes; a handshake only clones references.

use std::sync::Arc;

use mesh_core::identity::SpiffeId;
use tokio_rustls::rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion, client::Resumption,
    server::NoServerSessionStorage, sign::SingleCertAndKey, version::TLS13,
};

use crate::{Certificate, Clock, Trust, error::TlsError, provider::provider, verify};

/// One generation.
pub(crate) struct Configs {
    pub(crate) trust: Arc<Trust>,
    pub(crate) certificate: Option<Certificate>,
    clock: Clock,
    anonymous: ClientConfig,
    own: Option<OwnConfigs>,
}

/// What needs a certificate of ours.
struct OwnConfigs {
    client: ClientConfig,
    mutual_server: ServerConfig,
    open_server: ServerConfig,
}

impl Configs {
    pub(crate) fn new(trust: Arc<Trust>, certificate: Option<Certificate>, clock: Clock) -> Self {
        Self {
            anonymous: client(&trust, None, clock),
            own: certificate.as_ref().map(|certificate| OwnConfigs {
                client: client(&trust, Some(certificate), clock),
                mutual_server: mutual_server(&trust, certificate, clock),
                open_server: open_server(certificate, clock),
            }),
            trust,
            certificate,
            clock,
        }
    }

    /// For a connection on which we show our certificate.
    pub(crate) fn client(&self, expected: &[SpiffeId]) -> Result<ClientConfig, TlsError> {
        Ok(self.expecting(&self.own()?.client, expected))
    }

    /// For a connection on which we show none.
    pub(crate) fn anonymous_client(&self, expected: &[SpiffeId]) -> ClientConfig {
        self.expecting(&self.anonymous, expected)
    }

    /// For connections whose client must show a certificate.
    pub(crate) fn mutual_server(&self, alpn: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
        Ok(speaking(&self.own()?.mutual_server, alpn))
    }

    /// For connections whose client is asked for none.
    pub(crate) fn open_server(&self, alpn: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
        Ok(speaking(&self.own()?.open_server, alpn))
    }

    /// Peers would refuse a certificate that has ended; some might not.
    fn own(&self) -> Result<&OwnConfigs, TlsError> {
        let own = self.own.as_ref().ok_or(TlsError::NotCertified)?;
        let until = self.certificate.as_ref().map(Certificate::valid_until);
        if until.is_some_and(|until| until < self.clock.now()) {
            return Err(TlsError::OwnExpired);
        }
        Ok(own)
    }

    fn expecting(&self, base: &ClientConfig, expected: &[SpiffeId]) -> ClientConfig {
        let verifier = verify::ExpectedServer::new(self.trust.clone(), expected);
        let mut config = base.clone();
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
        config
    }
}

fn speaking(base: &ServerConfig, alpn: &[u8]) -> Arc<ServerConfig> {
    let mut config = base.clone();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

fn client(trust: &Arc<Trust>, certificate: Option<&Certificate>, clock: Clock) -> ClientConfig {
    let nobody = verify::ExpectedServer::new(trust.clone(), &[]);
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(clock))
        .with_protocol_versions(VERSIONS)
        .expect(PROVIDER_FITS)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(nobody));
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(resolver(certificate)),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // For the session after the handshake.
    config.enable_secret_extraction = true;
    config
}

fn mutual_server(trust: &Arc<Trust>, certificate: &Certificate, clock: Clock) -> ServerConfig {
    let clients = verify::KnownClient::new(trust.clone());
    let config = ServerConfig::builder_with_details(provider(), Arc::new(clock))
        .with_protocol_versions(VERSIONS)
        .expect(PROVIDER_FITS)
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(resolver(certificate));
    without_resumption(config)
}

fn open_server(certificate: &Certificate, clock: Clock) -> ServerConfig {
    let config = ServerConfig::builder_with_details(provider(), Arc::new(clock))
        .with_protocol_versions(VERSIONS)
        .expect(PROVIDER_FITS)
        .with_no_client_auth()
        .with_cert_resolver(resolver(certificate));
    without_resumption(config)
}

/// A resumed session would outlive a rotation of roots or leaves.
fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    // For the session after the handshake.
    config.enable_secret_extraction = true;
    config
}

fn resolver(certificate: &Certificate) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(certificate.certified_key()))
}

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];

const PROVIDER_FITS: &str = "the provider has TLS 1.3 cipher suites and key exchange groups";
