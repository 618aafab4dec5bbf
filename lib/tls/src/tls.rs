//! The four handshakes.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_core::identity::SpiffeId;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};
use tokio_rustls::rustls::{
    ClientConfig, ServerConfig, client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
};

use crate::{
    Certificate, Clock, PeerChain, Session, Trust,
    configs::Configs,
    error::{Refusal, TlsError},
    handshake::{Side, shake},
    leaf::Leaf,
};

/// How long a handshake may take, from its first byte to its last.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Our certificate and our trust, both replaceable while connections run:
/// running ones are untouched, the next handshake uses the new ones. Clones
/// share both.
#[derive(Clone)]
pub struct Tls {
    clock: Clock,
    configs: Arc<watch::Sender<Arc<Configs>>>,
}

impl Tls {
    /// Starts without a certificate: until there is one, only
    /// [`Tls::connect_unauthenticated`] works. Whether a certificate is valid
    /// is decided by `clock`.
    #[must_use]
    pub fn new(trust: Trust, clock: Clock) -> Self {
        let first = Configs::new(Arc::new(trust), None, clock);
        Self {
            clock,
            configs: Arc::new(watch::Sender::new(Arc::new(first))),
        }
    }

    /// Shows `certificate` from now on.
    pub fn set_certificate(&self, certificate: Certificate) {
        self.configs.send_modify(|configs| {
            let trust = configs.trust.clone();
            *configs = Arc::new(Configs::new(trust, Some(certificate), self.clock));
        });
    }

    /// Trusts `trust` from now on, in place of what was trusted before.
    pub fn set_trust(&self, trust: Trust) {
        self.configs.send_if_modified(|configs| {
            let changed = *configs.trust != trust;
            if changed {
                let certificate = configs.certificate.clone();
                *configs = Arc::new(Configs::new(Arc::new(trust), certificate, self.clock));
            }
            changed
        });
    }

    /// Returns when the roots of our own trust domain are others than `known`.
    pub async fn local_roots_changed(&self, known: &[Vec<u8>]) {
        let mut changes = self.configs.subscribe();
        // Fails only if the sender is gone, and `self` holds it.
        let _ = changes
            .wait_for(|configs| *configs.trust.local_roots() != *known)
            .await;
    }

    /// Returns when nobody whom we trust vouches for `peer` any more.
    pub async fn distrusted(&self, mut peer: PeerChain) {
        let mut changes = self.configs.subscribe();
        loop {
            let trust = changes.borrow_and_update().trust.clone();
            if !peer.is_vouched_for(&trust) {
                return;
            }
            peer.seen(&trust);
            if changes.changed().await.is_err() {
                // Cannot be: `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The clock that certificates are judged by.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The trust in force.
    #[must_use]
    pub fn trust(&self) -> Arc<Trust> {
        self.configs.borrow().trust.clone()
    }

    /// Who we are, once certified.
    #[must_use]
    pub fn id(&self) -> Option<SpiffeId> {
        let configs = self.current();
        configs.certificate.as_ref().map(|c| c.id().clone())
    }

    /// Our certificate, once certified.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        self.current().certificate.clone()
    }

    /// When our certificate ends, once certified.
    #[must_use]
    pub fn valid_until(&self) -> Option<SystemTime> {
        let configs = self.current();
        configs.certificate.as_ref().map(Certificate::valid_until)
    }

    /// Waits until there is a certificate.
    pub async fn certified(&self) {
        let mut changes = self.configs.subscribe();
        // Fails only if the sender is gone, and `self` holds it.
        let _ = changes
            .wait_for(|configs| configs.certificate.is_some())
            .await;
    }

    /// Opens a session as ourselves to a server that must prove one of the
    /// `expected` ids. `server_name` is what the server sees as SNI; it takes
    /// no part in the verification.
    ///
    /// # Errors
    /// [`TlsError`]. A server that refuses *us* may do so after this returned:
    /// the first read fails then.
    pub async fn connect<IO>(
        &self,
        io: IO,
        expected: &[SpiffeId],
        server_name: Option<&str>,
        alpn: &[u8],
    ) -> Result<Session<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.current().client(expected)?;
        connect(config, io, server_name, alpn).await
    }

    /// Opens a session without showing a certificate.
    ///
    /// # Errors
    /// As [`Tls::connect`].
    pub async fn connect_unauthenticated<IO>(
        &self,
        io: IO,
        expected: &[SpiffeId],
        alpn: &[u8],
    ) -> Result<Session<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.current().anonymous_client(expected);
        connect(config, io, None, alpn).await
    }

    /// Accepts a session from a client that must prove an id of a trust domain
    /// we have a bundle for, and returns that id.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn accept<IO>(&self, io: IO, alpn: &[u8]) -> Result<(Session<IO>, SpiffeId), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.current().mutual_server(alpn)?;
        let stream = accept(config, io, alpn).await?;
        let id = peer_id(stream.certificates().map(|chain| &**chain))?;
        Ok((stream, id))
    }

    /// Accepts a session from a client that is asked for no certificate.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn accept_unauthenticated<IO>(
        &self,
        io: IO,
        alpn: &[u8],
    ) -> Result<Session<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.current().open_server(alpn)?;
        accept(config, io, alpn).await
    }

    fn current(&self) -> Arc<Configs> {
        self.configs.borrow().clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let configs = self.current();
        f.debug_struct("Tls")
            .field("certificate", &configs.certificate)
            .field("trust", &configs.trust)
            .finish()
    }
}

async fn connect<IO>(
    mut config: ClientConfig,
    io: IO,
    server_name: Option<&str>,
    alpn: &[u8],
) -> Result<Session<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = server_name.is_some();
    let side = UnbufferedClientConnection::new(Arc::new(config), sni(server_name)?)?;
    session(side, io, alpn).await
}

async fn accept<IO>(config: Arc<ServerConfig>, io: IO, alpn: &[u8]) -> Result<Session<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    session(UnbufferedServerConnection::new(config)?, io, alpn).await
}

async fn session<IO>(mut side: impl Side, mut io: IO, alpn: &[u8]) -> Result<Session<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let shaking = timeout(HANDSHAKE_TIMEOUT, shake(&mut io, &mut side));
    let behind = shaking.await.map_err(|_| TlsError::Timeout)??;
    require_alpn(side.state().alpn_protocol(), alpn)?;
    Session::new(io, side, behind)
}

/// rustls accepts a peer that ignores ALPN altogether; we do not.
fn require_alpn(agreed: Option<&[u8]>, wanted: &[u8]) -> Result<(), TlsError> {
    if agreed == Some(wanted) {
        Ok(())
    } else {
        Err(TlsError::Alpn)
    }
}

fn sni(server_name: Option<&str>) -> Result<ServerName<'static>, TlsError> {
    let name = server_name.unwrap_or(UNSENT_NAME);
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}

fn peer_id(chain: Option<&[CertificateDer<'_>]>) -> Result<SpiffeId, TlsError> {
    let leaf = chain
        .and_then(<[_]>::first)
        .ok_or(TlsError::Refused(Refusal::NoCertificate))?;
    Ok(Leaf::read(leaf).map_err(TlsError::Refused)?.id)
}

/// rustls wants a name even when none is sent.
const UNSENT_NAME: &str = "mesh.invalid";
