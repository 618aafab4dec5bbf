//! HTTP without TLS: to the pod's own application, and to endpoints that have
//! no sidecar.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use mesh_dataplane::message::{self, Body, Incoming};
use mesh_drive::{
    conduit::{self, Conduit, Version},
    exchange::Broken,
};
use mesh_http::head::Head;

/// How long a connection may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);
/// Servers whose connections are kept; more than a pod talks to.
const MOST_SERVERS: usize = 1024;
/// Connections to one server that are kept while nobody uses them.
const MOST_IDLE: usize = 256;
/// Connections that turned out to be closed, before a new one is opened.
const STALE: usize = 2;

/// A server, and what it is spoken to.
type Key = (SocketAddr, Version);

/// Pooled connections by server and protocol. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<HashMap<Key, Vec<Conduit>>>>);

/// A request without an answer.
#[derive(thiserror::Error)]
pub(crate) enum Error {
    /// The server takes no connection: nobody has received the request, whose
    /// body comes back.
    #[error("no connection: {0}")]
    Connect(io::Error, Box<Body>),
    /// It may have been received.
    #[error("the server broke off: {0}")]
    Broken(Broken),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Clients {
    /// Sends `request` to `server`, in HTTP/2 if that is its version, else in
    /// HTTP/1.1. Its URI must be absolute; the authority in it is what the
    /// server is told, not where the request goes.
    pub(crate) async fn request(
        &self,
        server: SocketAddr,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        let version = match request.version() {
            http::Version::HTTP_2 => Version::Http2,
            _ => Version::Http1,
        };
        let (parts, body) = request.into_parts();
        let head = message::head(&parts).map_err(|_| Error::Broken(Broken::GivenUp))?;
        drop(parts);
        self.send((server, version), &head, body).await
    }

    async fn send(
        &self,
        key: Key,
        head: &Head,
        mut body: Body,
    ) -> Result<Response<Incoming>, Error> {
        let mut stale = 0;
        loop {
            let kept = self.kept(key).filter(|_| stale < STALE);
            let is_kept = kept.is_some();
            let connection = match kept {
                Some(kept) => kept,
                // Rare, and large.
                None => match Box::pin(self.open(key)).await {
                    Ok(fresh) => fresh,
                    Err(error) => return Err(Error::Connect(error, Box::new(body))),
                },
            };
            let unanswered = match message::send(&connection, key.1, head, body).await {
                Ok(response) => return Ok(response),
                Err(unanswered) => unanswered,
            };
            match unanswered.unsent {
                // It was closed while nobody used it.
                Some(unsent) if is_kept => body = unsent,
                _ => return Err(Error::Broken(unanswered.why)),
            }
            stale += 1;
        }
    }

    /// The connection that was used last and takes one more request.
    fn kept(&self, key: Key) -> Option<Conduit> {
        let mut clients = self.lock();
        let connections = clients.get_mut(&key)?;
        connections.retain(Conduit::is_open);
        let free = connections.iter().rev().find(|one| one.can_open());
        free.cloned()
    }

    async fn open(&self, key: Key) -> io::Result<Conduit> {
        let (server, version) = key;
        let socket = mesh_net::socket::connect(server, CONNECT).await?;
        let (connection, life) = conduit::connect(socket, version, message::limits_of_kept());
        // It ends when nobody has used it for a while.
        tokio::spawn(life);
        let mut clients = self.lock();
        if clients.len() >= MOST_SERVERS && !clients.contains_key(&key) {
            clients.clear();
        }
        let connections = clients.entry(key).or_default();
        if connections.len() < MOST_IDLE {
            connections.push(connection.clone());
        }
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Conduit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
