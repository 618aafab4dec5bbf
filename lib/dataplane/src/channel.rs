//! gRPC channels over our own TLS.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use mesh_core::{identity::SpiffeId, link::Link};
use mesh_tls::{ALPN_H2, PeerChain, Session, Tls, Trust};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::{
    TunnelStream,
    resolve::Resolver,
    trust::{Standing, Trusted},
    tunnel::{Target, Tunnels},
};

/// How long a TCP connection to the control plane may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How often an idle channel is asked for a sign of life, and how long that may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);

type Connecting<IO> = Pin<Box<dyn Future<Output = io::Result<TokioIo<IO>>> + Send>>;

/// Where a channel leads to, and who must answer.
#[derive(Clone)]
pub struct Server {
    /// Name or address.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Whom its certificate must name.
    pub identity: SpiffeId,
}

/// A channel on which we show our certificate. It connects on first use and
/// again after every loss.
#[must_use]
pub fn authenticated(server: Server, tls: Tls, resolver: Resolver) -> Channel {
    lazy(move || {
        let (server, tls, resolver) = (server.clone(), tls.clone(), resolver.clone());
        Box::pin(async move {
            let stream = connect(&server, &resolver).await?;
            let expected = [server.identity];
            let trust = tls.trust();
            let stream = tls.connect(stream, &expected, None, ALPN_H2).await;
            stream
                .map(|stream| trusted(stream, &tls, &trust))
                .map_err(io::Error::other)
        })
    })
}

/// A channel on which we show no certificate, to obtain our first.
#[must_use]
pub fn unauthenticated(server: Server, tls: Tls, resolver: Resolver) -> Channel {
    lazy(move || {
        let (server, tls, resolver) = (server.clone(), tls.clone(), resolver.clone());
        Box::pin(async move {
            let stream = connect(&server, &resolver).await?;
            let expected = [server.identity];
            let trust = tls.trust();
            let stream = tls
                .connect_unauthenticated(stream, &expected, ALPN_H2)
                .await;
            stream
                .map(|stream| trusted(stream, &tls, &trust))
                .map_err(io::Error::other)
        })
    })
}

/// A channel to the mesh-control of the peer of `link`, through its gateway:
/// the TLS session inside the tunnel ends at that mesh-control.
#[must_use]
pub fn exports(link: Arc<Link>, tunnels: Tunnels, tls: Tls) -> Channel {
    lazy::<Trusted<Session<TunnelStream>>>(move || {
        let (link, tunnels, tls) = (link.clone(), tunnels.clone(), tls.clone());
        Box::pin(async move {
            let tunnel = tunnels
                .open(&link, Target::Exports)
                .await
                .map_err(io::Error::other)?;
            let expected = [link.control.clone()];
            let trust = tls.trust();
            let stream = tls.connect(tunnel, &expected, None, ALPN_H2).await;
            stream
                .map(|stream| trusted(stream, &tls, &trust))
                .map_err(io::Error::other)
        })
    })
}

/// A session that ends with our trust in the server.
fn trusted<IO>(stream: Session<IO>, tls: &Tls, trust: &Trust) -> TokioIo<Trusted<Session<IO>>> {
    let server = PeerChain::of_server(&stream, trust, tls.clock().now());
    TokioIo::new(Trusted::new(stream, Standing::new(tls, server)))
}

fn lazy<IO>(connect: impl Fn() -> Connecting<IO> + Clone + Send + 'static) -> Channel
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    // The URI is only the requests' authority; the connector goes where it goes.
    let endpoint = Endpoint::from_static("http://mesh-control")
        .connect_timeout(Duration::from_secs(15))
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true);
    let connector = tower::service_fn(move |_: Uri| connect());
    endpoint.connect_with_connector_lazy(connector)
}

async fn connect(server: &Server, resolver: &Resolver) -> io::Result<TcpStream> {
    let addresses = resolver
        .resolve(&server.host)
        .await
        .map_err(io::Error::other)?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match mesh_net::socket::connect((address, server.port).into(), CONNECT).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
