//! HTTP without TLS: to the pod's own application, and to endpoints that have
//! no sidecar.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response, Uri, Version, header::HOST};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use mesh_dataplane::peer::Body;
use tokio::net::TcpStream;
use tower::util::BoxCloneSyncService;

/// How long a connection may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);
/// A connection that nobody used for so long is closed. Applications close
/// theirs after 5 s or more; whoever closes first spares the other a surprise.
const IDLE: Duration = Duration::from_secs(4);
/// Servers whose connections are kept; more than a pod talks to.
const MOST_CLIENTS: usize = 1024;

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;
type Connector = BoxCloneSyncService<Uri, TokioIo<TcpStream>, io::Error>;
type ByServer = HashMap<(SocketAddr, bool), Client<Connector, Body>>;

/// Pooled connections by server and protocol. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<ByServer>>);

impl Clients {
    /// Sends `request` to `server`, in HTTP/2 if that is its version, else in
    /// HTTP/1.1. Its URI must be absolute; the authority in it is what the
    /// server is told, not where the request goes.
    pub(crate) async fn request(
        &self,
        server: SocketAddr,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        let http2 = request.version() == Version::HTTP_2;
        if !http2 {
            *request.version_mut() = Version::HTTP_11;
            tell_host(&mut request);
        }
        self.client(server, http2).request(request).await
    }

    fn client(&self, server: SocketAddr, http2: bool) -> Client<Connector, Body> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        let client = clients
            .entry((server, http2))
            .or_insert_with(|| new_client(server, http2));
        client.clone()
    }
}

fn new_client(server: SocketAddr, http2: bool) -> Client<Connector, Body> {
    let connect = move |_: Uri| -> Connecting {
        Box::pin(async move {
            let stream = mesh_net::socket::connect(server, CONNECT).await?;
            Ok(TokioIo::new(stream))
        })
    };
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .set_host(false)
        .http2_only(http2)
        .http2_initial_stream_window_size(1 << 20)
        .http2_initial_connection_window_size(4 << 20)
        .build(Connector::new(tower::service_fn(connect)))
}

/// HTTP/1.1 says the authority in a header.
fn tell_host(request: &mut Request<Body>) {
    let authority = request.uri().authority().map(ToString::to_string);
    if let Some(value) = authority.and_then(|text| text.parse().ok()) {
        request.headers_mut().insert(HOST, value);
    }
}
