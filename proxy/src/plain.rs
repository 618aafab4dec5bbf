//! HTTP without TLS: to the pod's own application, and to endpoints that have
//! no sidecar.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mesh_dataplane::{
    limits::Bounds,
    message::{Asked, Body, Incoming, Response},
};
use mesh_drive::{
    conduit::{self, Conduit, Driven, Ended, Version},
    exchange::{Broken, Exchange},
};
use mesh_http::{head::Head, limits::Limits};
use tokio::sync::Mutex as AsyncMutex;

/// How long a connection may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);
/// Servers whose connections are kept; more than a pod talks to.
const MOST_SERVERS: usize = 1024;
/// Connections that turned out to be closed, before a new one is opened.
const STALE: usize = 2;

/// How often a silent HTTP/2 server is asked for a sign of life, and how long that
/// may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);

/// A server, and what it is spoken to.
type Key = (SocketAddr, Version);

/// What there is of connections to one.
#[derive(Default)]
struct Server {
    connections: Vec<Conduit>,
    /// Whose turn it is to open one that many share.
    turn: Arc<AsyncMutex<()>>,
    /// When all of them were last held up by slow readers, and another one was opened.
    relieved: Option<Instant>,
}

/// How often that may be.
const RELIEF: Duration = Duration::from_secs(1);

/// Pooled connections by server and protocol. Clones share them.
#[derive(Clone)]
pub(crate) struct Clients {
    servers: Arc<Mutex<HashMap<Key, Server>>>,
    /// What a connection bears, and how long it is kept.
    limits: Arc<Limits>,
}

impl Default for Clients {
    fn default() -> Self {
        Self::bearing(&Bounds::default())
    }
}

/// A request without an answer.
#[derive(thiserror::Error)]
pub(crate) enum Error {
    /// The server takes no connection: nobody has received the request.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// It may have been received.
    #[error("the server broke off: {0}")]
    Broken(Broken),
    /// The server has said that it takes no such request, and got none.
    #[error("the server takes no extended CONNECT")]
    NoProtocols,
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Clients {
    /// None yet, of connections that bear so much.
    pub(crate) fn bearing(bounds: &Bounds) -> Self {
        Self {
            servers: Arc::default(),
            limits: bounds.servers(),
        }
    }

    /// Sends a request to a server, in what it is spoken to. The authority
    /// in `head` is what the server is told, not where the request goes. What the
    /// server says before its answer `client` is told.
    pub(crate) async fn request(
        &self,
        key: (SocketAddr, Version),
        head: &Head,
        mut body: Body,
        client: Option<&Arc<Exchange>>,
    ) -> Result<Response<Incoming>, Error> {
        let mut stale = 0;
        loop {
            let anew = stale == STALE;
            let at_hand = (!anew).then(|| self.at_hand(key)).flatten();
            let (connection, is_kept) = match at_hand {
                Some(kept) => (kept, true),
                // Rare, and large.
                None => match Box::pin(self.connection(key, anew)).await {
                    Ok(connected) => connected,
                    Err(error) => return Err(Error::Connect(error)),
                },
            };
            // One that has ended before it said so shows below.
            if head.protocol().is_some() && connection.takes_protocols().await == Some(false) {
                return Err(Error::NoProtocols);
            }
            let unanswered = match Asked::on(&connection, head, body) {
                Ok(asked) => match asked.telling(client.cloned()).answer().await {
                    Ok(response) => return Ok(response),
                    Err(unanswered) => unanswered,
                },
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

    /// A connection that was kept from before and takes one more request; none if all
    /// are held up, and it is time to open another.
    fn at_hand(&self, key: Key) -> Option<Conduit> {
        let kept = self.kept(key)?;
        let relieved = kept.is_held_up() && self.relieves(key, Instant::now());
        (!relieved).then_some(kept)
    }

    /// A connection where none is at hand, and whether it was kept from before; none of
    /// those if `anew`.
    async fn connection(&self, key: Key, anew: bool) -> io::Result<(Conduit, bool)> {
        if key.1 == Version::Http1 {
            return self.open(key).await.map(|fresh| (fresh, false));
        }
        // One opens it, and those who come meanwhile share it.
        let turn = server(&mut self.servers(), key).turn.clone();
        let _mine = turn.lock().await;
        let flowing = |kept: &Conduit| !anew && !kept.is_held_up();
        if let Some(kept) = self.kept(key).filter(flowing) {
            return Ok((kept, true));
        }
        self.open(key).await.map(|fresh| (fresh, false))
    }

    /// The connection that was opened last and takes one more request; one that slow
    /// readers hold up only if there is no other.
    fn kept(&self, key: Key) -> Option<Conduit> {
        let servers = self.servers();
        let connections = &servers.get(&key)?.connections;
        let open = || connections.iter().rev().filter(|one| one.can_open());
        let flowing = open().find(|one| !one.is_held_up());
        flowing.or_else(|| open().next()).cloned()
    }

    /// Whether another connection is to be opened, since all of them are held up.
    fn relieves(&self, key: Key, now: Instant) -> bool {
        let mut servers = self.servers();
        let server = server(&mut servers, key);
        let is_recent = |at: Instant| now.saturating_duration_since(at) < RELIEF;
        let is_due = !server.relieved.is_some_and(is_recent);
        if is_due {
            server.relieved = Some(now);
        }
        is_due
    }

    async fn open(&self, key: Key) -> io::Result<Conduit> {
        let (address, version) = key;
        let socket = mesh_net::socket::connect(address, CONNECT).await?;
        let (connection, life) = conduit::connect(socket, version, self.limits.clone());
        // It ends when nobody has used it for a while.
        tokio::spawn(lived(connection.clone(), version, life));
        let mut servers = self.servers();
        let connections = &mut server(&mut servers, key).connections;
        connections.retain(Conduit::is_open);
        connections.push(connection.clone());
        Ok(connection)
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<Key, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is of `key`; all others go when there are too many. What runs on
/// their connections is finished.
fn server(servers: &mut HashMap<Key, Server>, key: Key) -> &mut Server {
    if servers.len() >= MOST_SERVERS && !servers.contains_key(&key) {
        servers.clear();
    }
    servers.entry(key).or_default()
}

async fn lived<Life>(connection: Conduit, version: Version, life: Life)
where
    Life: Future<Output = Ended> + Send + 'static,
{
    match version {
        Version::Http1 => drop(life.await),
        Version::Http2 => tokio::select! {
            _ = Driven::spawn(life) => {}
            () = connection.silence(PING, PONG) => {}
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mesh_dataplane::message;
    use mesh_net::listen::listen;
    use tokio::{sync::Barrier, task::JoinSet};

    use super::*;

    /// A server that answers when so many requests are there; its address, and how
    /// many connections it has taken.
    async fn patient(version: Version, at_once: usize) -> (SocketAddr, Arc<AtomicUsize>) {
        // With room for all that come at once.
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (opened, barrier) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Barrier::new(at_once)),
        );
        let count = opened.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let barrier = barrier.clone();
                let serve = move |request: conduit::Request| {
                    let barrier = barrier.clone();
                    tokio::spawn(async move {
                        barrier.wait().await;
                        let answer = Head::response(204).unwrap();
                        request.exchange.send_head(&answer, true).unwrap();
                    });
                };
                let (_, life) = conduit::serve(socket, version, message::limits(), serve);
                tokio::spawn(life);
            }
        });
        (address, opened)
    }

    /// How many connections so many requests at once need, three times.
    async fn connections(version: Version, at_once: usize) -> usize {
        let (address, opened) = patient(version, at_once).await;
        let clients = Clients::default();
        for _ in 0..3 {
            let mut asking = JoinSet::new();
            for _ in 0..at_once {
                let clients = clients.clone();
                let head = Head::request("GET", "web", "/").unwrap();
                asking.spawn(async move {
                    let body = Body::empty();
                    clients.request((address, version), &head, body, None).await
                });
            }
            // One that fails would let the others wait for ever.
            while let Some(answer) = asking.join_next().await {
                assert_eq!(answer.unwrap().unwrap().status(), 204);
            }
        }
        opened.load(Ordering::SeqCst)
    }

    #[test]
    fn servers_are_bounded() {
        let mut servers = HashMap::new();
        for port in 1..5000 {
            let key = (([10, 42, 0, 1], port).into(), Version::Http2);
            server(&mut servers, key);
            assert!(servers.len() <= MOST_SERVERS && servers.contains_key(&key));
        }
    }

    #[tokio::test]
    async fn connections_are_used_again_however_many_there_are() {
        let opened = connections(Version::Http1, 300).await;
        assert_eq!(opened, 300);
    }

    #[tokio::test]
    async fn requests_at_once_share_a_connection_of_http2() {
        let opened = connections(Version::Http2, 100).await;
        assert_eq!(opened, 1);
    }
}
