//! Requests through a proxy.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_drive::{
    conduit::{self, Version},
    exchange::Answer,
};
use mesh_http::head::Head;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{net::TcpListener, task::JoinSet};

use super::place::{VERSIONS, answer, body, client, echo, get, origin, post, proxy, soon};

const REQUESTS: usize = 40;
const LARGEST: usize = 400_000;

fn bytes(seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let length = random.random_range(0..LARGEST);
    (0..length).map(|_| random.random()).collect()
}

#[tokio::test]
async fn bodies_and_trailers_come_back_through_a_proxy_of_any_versions() {
    for (down, up) in VERSIONS.into_iter().flat_map(|v| VERSIONS.map(|w| (v, w))) {
        let origin = origin(up, echo).await;
        let proxy = proxy(down, up, origin).await;
        let shared = client(proxy, down).await;
        let mut asking = JoinSet::new();
        for number in 0..REQUESTS {
            let conduit = match down {
                Version::Http1 => client(proxy, down).await,
                Version::Http2 => shared.clone(),
            };
            asking.spawn(async move {
                let exchange = conduit.open(&post(&format!("/{number}")), false).unwrap();
                let sent = bytes(number as u64);
                exchange.send(&sent, false).await.unwrap();
                let mut trailers = Head::new();
                trailers
                    .push(b"x-sum", number.to_string().as_bytes())
                    .unwrap();
                exchange.send_trailers(&trailers);
                let head = answer(&exchange).await.unwrap();
                assert_eq!(
                    head.get(b"x-path").unwrap(),
                    format!("/{number}").as_bytes()
                );
                let (back, trailers) = body(&exchange).await.unwrap();
                assert!(back == sent, "{down:?} {up:?} {number}");
                let sum = trailers.unwrap();
                assert_eq!(sum.get(b"x-sum").unwrap(), number.to_string().as_bytes());
            });
        }
        soon(asking.join_all()).await;
    }
}

#[tokio::test]
async fn one_connection_carries_requests_one_after_the_other() {
    for version in VERSIONS {
        let origin = origin(version, echo).await;
        let proxy = proxy(version, version, origin).await;
        let conduit = client(proxy, version).await;
        for number in 0..200 {
            let exchange = conduit.open(&get(&format!("/{number}")), true).unwrap();
            let head = soon(answer(&exchange)).await.unwrap();
            assert_eq!(head.status(), Some(200));
            assert_eq!(soon(body(&exchange)).await.unwrap().0, b"");
        }
        assert_eq!(conduit.streams(), 0, "{version:?}");
    }
}

async fn hyper_echo(
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(http::Response::new(Full::new(body)))
}

/// A server by hyper; its address.
async fn hyper_origin() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(hyper_echo);
            let io = TokioIo::new(socket);
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let _ = builder.serve_connection(io, service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn hyper_talks_to_hyper_through_it() {
    let origin = hyper_origin().await;
    for (down, up) in VERSIONS.into_iter().flat_map(|v| VERSIONS.map(|w| (v, w))) {
        let proxy = proxy(down, up, origin).await;
        let http2 = down == Version::Http2;
        let connector = hyper_util::client::legacy::connect::HttpConnector::new();
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .http2_only(http2)
            .build::<_, Full<Bytes>>(connector);
        let client = Arc::new(client);
        let mut asking = JoinSet::new();
        for number in 0..REQUESTS {
            let client = client.clone();
            asking.spawn(async move {
                let sent = Bytes::from(bytes(number as u64));
                let uri = format!("http://{proxy}/{number}");
                let request = http::Request::post(uri).body(Full::new(sent.clone()));
                let answer = client.request(request.unwrap()).await.unwrap();
                let back = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(back == sent, "{down:?} {up:?} {number}");
            });
        }
        soon(asking.join_all()).await;
    }
}

/// Answers as its path says, without a body.
async fn bodiless(request: conduit::Request) {
    let status = std::str::from_utf8(&request.head.path()[1..]).unwrap();
    let mut head = Head::response(status.parse().unwrap()).unwrap();
    if status != "204" {
        // Of the body that a GET would have had.
        head.push(b"content-length", b"1000").unwrap();
    }
    request.exchange.send_head(&head, true).unwrap();
}

#[tokio::test]
async fn answers_without_a_body_have_none_whatever_their_length_says() {
    for (down, up) in VERSIONS.into_iter().flat_map(|v| VERSIONS.map(|w| (v, w))) {
        let origin = origin(up, bodiless).await;
        let proxy = proxy(down, up, origin).await;
        let conduit = client(proxy, down).await;
        for (method, path) in [("HEAD", "/200"), ("GET", "/204"), ("GET", "/304")] {
            let head = Head::request(method, "web", path).unwrap();
            let exchange = conduit.open(&head, true).unwrap();
            let head = soon(answer(&exchange)).await.unwrap();
            assert_eq!(path, format!("/{}", head.status().unwrap()));
            let length = (path != "/204").then_some(1000);
            assert_eq!(head.content_length(), length, "{down:?} {up:?} {path}");
            assert_eq!(soon(body(&exchange)).await.unwrap().0, b"");
        }
    }
}

/// Says 100 and waits for the body.
async fn asks_first(request: conduit::Request) {
    let more = Head::response(100).unwrap();
    request.exchange.send_head(&more, false).unwrap();
    echo(request).await;
}

#[tokio::test]
async fn informational_answers_come_before_the_final_one() {
    for (down, up) in VERSIONS.into_iter().flat_map(|v| VERSIONS.map(|w| (v, w))) {
        let origin = origin(up, asks_first).await;
        let proxy = proxy(down, up, origin).await;
        let conduit = client(proxy, down).await;
        let mut head = post("/");
        head.push(b"expect", b"100-continue").unwrap();
        let exchange = conduit.open(&head, false).unwrap();
        let first = soon(exchange.answer()).await.unwrap();
        assert!(matches!(first, Answer::Informational(_)), "{first:?}");
        exchange.send(b"now", true).await.unwrap();
        assert_eq!(soon(answer(&exchange)).await.unwrap().status(), Some(200));
        assert_eq!(soon(body(&exchange)).await.unwrap().0, b"now");
    }
}
