//! A client, its sidecar, and an application.

use std::time::Instant;

use mesh_dataplane::message;
use mesh_drive::conduit::{self, Conduit, Version};
use tokio::sync::mpsc;

use super::*;
use crate::outbound::balancer::Tried;

/// What stands before an application.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behind {
    Sidecar,
    Nothing,
}

impl Behind {
    /// The application, with what stands before it.
    pub(super) fn endpoint(self, root: &TestRoot, application: SocketAddr) -> Endpoint {
        match self {
            Self::Sidecar => Server::before(root.tls(SERVER), application).endpoint(),
            Self::Nothing => plain(application),
        }
    }
}

pub(super) const BOTH: [Behind; 2] = [Behind::Sidecar, Behind::Nothing];

/// Heads of requests that an application has read, with bodies of declared lengths.
pub(super) type Heads = mpsc::Receiver<String>;

/// A client's sidecar on a port of loopback, and an application behind it.
pub(super) struct World {
    near: SocketAddr,
    target: Target,
    /// What the client's sidecar counts.
    pub(super) registry: Registry,
    /// The heads that the application has read.
    pub(super) heads: Heads,
    /// The client's sidecar is to leave.
    pub(super) leaving: Shutdown,
}

impl World {
    pub(super) async fn before(
        behind: Behind,
        application: SocketAddr,
        heads: Heads,
        declared: Protocol,
    ) -> Self {
        let root = TestRoot::new("west");
        let endpoint = behind.endpoint(&root, application);
        Self::to(&root, first_of(vec![vec![endpoint]]), heads, declared).await
    }

    pub(super) async fn to(
        root: &TestRoot,
        target: Target,
        heads: Heads,
        declared: Protocol,
    ) -> Self {
        let mut registry = Registry::default();
        let outbound = outbound_of(root.tls(CLIENT), Metrics::register(&mut registry));
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let near = listener.local_addr().unwrap();
        let (to, leaving) = (target.clone(), Shutdown::new());
        let shutdown = leaving.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (outbound, target) = (outbound.clone(), to.clone());
                let shutdown = shutdown.clone();
                tokio::spawn(
                    async move { outbound.route(stream, declared, target, &shutdown).await },
                );
            }
        });
        Self {
            near,
            target,
            registry,
            heads,
            leaving,
        }
    }

    pub(super) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.near).await.unwrap())
    }

    pub(super) async fn http2(&self) -> Conduit {
        let socket = TcpStream::connect(self.near).await.unwrap();
        let (conduit, life) = conduit::connect(socket, Version::Http2, message::limits());
        tokio::spawn(life);
        assert_eq!(soon(conduit.takes_protocols()).await, Some(true));
        conduit
    }

    /// The next head that the application has read.
    pub(super) async fn head(&mut self) -> String {
        soon(self.heads.recv()).await.unwrap()
    }

    /// Waits until the endpoint has so many requests under way.
    pub(super) async fn has_under_way(&self, requests: u32) {
        let state = self.target.current();
        let (_, endpoint) = state.pick(&Tried::default(), Instant::now()).unwrap();
        let has = async {
            while endpoint.under_way() != requests {
                tokio::task::yield_now().await;
            }
        };
        soon(has).await;
    }
}

/// An endpoint without a sidecar.
pub(super) fn plain(application: SocketAddr) -> Endpoint {
    Endpoint {
        mesh: None,
        ..endpoint(application, 0)
    }
}

pub(super) async fn soon<T>(doing: impl Future<Output = T>) -> T {
    timeout(LONG, doing).await.expect("in time")
}

/// A client of HTTP/1, byte by byte.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    pub(super) async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(super) async fn hear(&mut self, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        soon(self.0.read_exact(&mut bytes)).await.expect(expected);
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    /// The next head.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.0.read_u8()).await.expect("a whole head"));
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        soon(self.0.read_to_string(&mut rest)).await.unwrap();
        rest
    }
}
