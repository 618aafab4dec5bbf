//! HTTP without TLS: to the pod's own application, and to endpoints that have
//! no sidecar.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use mesh_dataplane::message::{self, Body, Incoming, Unanswered};
use mesh_drive::{
    conduit::{self, Conduit, Version},
    exchange::Broken,
};

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
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server takes no connection: nobody has received the request.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// It may have been received.
    #[error("the server broke off: {0}")]
    Broken(Broken),
}

impl Clients {
    /// Sends `request` to `server`, in HTTP/2 if that is its version, else in
    /// HTTP/1.1. Its URI must be absolute; the authority in it is what the
    /// server is told, not where the request goes.
    pub(crate) async fn request(
        &self,
        server: SocketAddr,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        let version = match request.version() {
            http::Version::HTTP_2 => Version::Http2,
            _ => Version::Http1,
        };
        let key = (server, version);
        for _ in 0..STALE {
            let Some(kept) = self.kept(key) else { break };
            request = match message::request(&kept, version, request).await {
                Ok(response) => return Ok(response),
                // It was closed while nobody used it.
                Err(Unanswered {
                    unsent: Some(unsent),
                    ..
                }) => *unsent,
                Err(unanswered) => return Err(Error::Broken(unanswered.why)),
            };
        }
        let fresh = self.open(key).await.map_err(Error::Connect)?;
        let answer = message::request(&fresh, version, request).await;
        answer.map_err(|unanswered| Error::Broken(unanswered.why))
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
