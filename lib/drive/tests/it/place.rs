//! Client, proxy and origin, each on its own connections.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_drive::{
    conduit::{self, Conduit, Request, Version},
    exchange::{Answer, Broken, Chunk, Exchange, as_they_are},
};
use mesh_http::{head::Head, limits::Limits};
use tokio::net::{TcpListener, TcpStream};

/// Nothing here takes so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

pub(crate) fn limits() -> Arc<Limits> {
    Arc::new(Limits::default())
}

/// A server that gives each request to `answer`; its address.
pub(crate) async fn origin<A>(version: Version, answer: fn(Request) -> A) -> SocketAddr
where
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let serve = move |request| drop(tokio::spawn(answer(request)));
            let (_, life) = conduit::serve(socket, version, limits(), serve);
            tokio::spawn(life);
        }
    });
    address
}

/// A connection to send requests on.
pub(crate) async fn client(address: SocketAddr, version: Version) -> Conduit {
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (conduit, life) = conduit::connect(socket, version, limits());
    tokio::spawn(life);
    conduit
}

/// A proxy: what is HTTP/2 there goes on on one connection, HTTP/1 on one for each
/// request.
pub(crate) async fn proxy(down: Version, up: Version, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let shared = client(to, up).await;
        while let Ok((socket, _)) = listener.accept().await {
            let shared = shared.clone();
            let serve = move |request| {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let onward = match up {
                        Version::Http1 => client(to, up).await,
                        Version::Http2 => shared,
                    };
                    pass_on(onward, request).await;
                });
            };
            let (_, life) = conduit::serve(socket, down, limits(), serve);
            tokio::spawn(life);
        }
    });
    address
}

/// One request's way through a proxy.
pub(crate) async fn pass_on(onward: Conduit, request: Request) {
    let Request {
        exchange,
        head,
        end,
    } = request;
    let Ok(up) = onward.open(&head, end) else {
        return refuse(&exchange, 503);
    };
    exchange.join(&up, as_they_are);
    loop {
        match up.answer().await {
            Ok(Answer::Informational(head)) => exchange.send_head(&head, false).unwrap(),
            Ok(Answer::Final { head, end }) => {
                if exchange.send_head(&head, end).is_ok() {
                    up.join(&exchange, as_they_are);
                }
                return;
            }
            Err(_) => return refuse(&exchange, 502),
        }
    }
}

pub(crate) fn refuse(exchange: &Exchange, status: u16) {
    // The client may be gone.
    let _ = exchange.send_head(&Head::response(status).unwrap(), true);
}

/// A body and its trailers.
pub(crate) async fn body(exchange: &Exchange) -> Result<(Vec<u8>, Option<Head>), Broken> {
    let mut all = Vec::new();
    loop {
        match exchange.chunk().await? {
            Chunk::Data(data) => all.extend(data),
            Chunk::End => return Ok((all, None)),
            Chunk::Trailers(trailers) => return Ok((all, Some(trailers))),
        }
    }
}

/// Answers with the body that came, and its trailers.
pub(crate) async fn echo(request: Request) {
    let mut head = Head::response(200).unwrap();
    let path = request.head.path().to_vec();
    head.push(b"x-path", &path).unwrap();
    if request.end {
        return request.exchange.send_head(&head, true).unwrap();
    }
    let (bytes, trailers) = body(&request.exchange).await.unwrap();
    request.exchange.send_head(&head, false).unwrap();
    request
        .exchange
        .send(&bytes, trailers.is_none())
        .await
        .unwrap();
    if let Some(trailers) = trailers {
        request.exchange.send_trailers(&trailers);
    }
}

pub(crate) fn get(path: &str) -> Head {
    Head::request("GET", "web.shop:80", path).unwrap()
}

pub(crate) fn post(path: &str) -> Head {
    Head::request("POST", "web.shop:80", path).unwrap()
}

/// The final head of the answer.
pub(crate) async fn answer(exchange: &Exchange) -> Result<Head, Broken> {
    loop {
        if let Answer::Final { head, .. } = exchange.answer().await? {
            return Ok(head);
        }
    }
}

/// Waits for `holds`.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// `doing`, in time.
pub(crate) async fn soon<T>(doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, doing)
        .await
        .expect("in time")
}
