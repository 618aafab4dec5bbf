//! Applications whose part the test plays, request by request.

use mesh_dataplane::message;
use mesh_drive::{
    conduit::{self, Conduit, Request, Version},
    exchange::{Answer, Broken, Chunk, Exchange},
};
use mesh_http::head::Head;
use tokio::sync::mpsc;

use super::{
    world::{Behind, World, soon},
    *,
};

/// One of HTTP/1 or HTTP/2.
pub(super) struct Played {
    pub(super) address: SocketAddr,
    requests: mpsc::Receiver<Request>,
}

impl Played {
    pub(super) async fn new(version: Version) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, requests) = mpsc::channel(100);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                listen_to(socket, version, tell.clone());
            }
        });
        Self { address, requests }
    }

    /// The next request.
    pub(super) async fn asked(&mut self) -> Request {
        soon(self.requests.recv()).await.unwrap()
    }

    /// Answers the next request, with nothing more than that.
    pub(super) async fn answers(&mut self, status: u16) {
        let request = self.asked().await;
        let head = Head::response(status).unwrap();
        request.exchange.send_head(&head, true).unwrap();
    }

    /// Whether nobody has asked for anything else.
    pub(super) fn was_asked_no_more(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }
}

/// Tells of each request on a connection.
pub(super) fn listen_to(socket: TcpStream, version: Version, tell: mpsc::Sender<Request>) {
    // What the test does not ask for is given up.
    let take = move |request| drop(tell.try_send(request));
    let (_, life) = conduit::serve(socket, version, message::limits(), take);
    tokio::spawn(life);
}

/// A client of HTTP/2 whose requests come to this application.
pub(super) async fn client(behind: Behind, application: SocketAddr) -> Conduit {
    let (_, heads) = mpsc::channel(1);
    let world = World::before(behind, application, heads, Protocol::Detect).await;
    world.http2().await
}

/// The status of the answer.
pub(super) async fn answered(exchange: &Exchange) -> u16 {
    loop {
        if let Answer::Final { head, .. } = soon(exchange.answer()).await.unwrap() {
            return head.status().unwrap();
        }
    }
}

/// What comes of a body, and its trailers.
pub(super) async fn body(exchange: &Exchange) -> Result<(Vec<u8>, Option<Head>), Broken> {
    let mut all = Vec::new();
    loop {
        match soon(exchange.chunk()).await? {
            Chunk::Data(data) => all.extend(data),
            Chunk::End => return Ok((all, None)),
            Chunk::Trailers(trailers) => return Ok((all, Some(trailers))),
        }
    }
}
