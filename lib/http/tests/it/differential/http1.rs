//! HTTP/1 against hyper.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::io::AsyncWriteExt as _;

use super::{Understood, fields_of, is_odd, ours};
use crate::{mutations::mutate, splits::requests};

/// What hyper understands: the requests that are whole.
async fn hyper(input: &[u8]) -> Vec<Understood> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: http::Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let mut understood = Understood::of(&request);
            if let Ok(body) = request.into_body().collect().await {
                understood.trailers = body.trailers().map(fields_of).unwrap_or_default();
                understood.body = body.to_bytes().to_vec();
                seen.lock().unwrap().push(understood);
            }
            let answer = http::Response::builder()
                .status(204)
                .body(Empty::<&[u8]>::new());
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    let mut builder = http1::Builder::new();
    builder.half_close(true);
    let _ = builder
        .serve_connection(TokioIo::new(server), service)
        .await;
    drop(client);
    let seen = seen.lock().unwrap();
    seen.clone()
}

/// How the two differ over a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differ {
    Not,
    /// We refuse what hyper takes.
    Stricter,
    /// We take what hyper refuses, or understand it in another way.
    Otherwise,
}

async fn differ(input: &[u8]) -> Differ {
    let (ours, theirs) = (ours(false, input), hyper(input).await);
    if ours == theirs {
        Differ::Not
    } else if theirs.starts_with(&ours) {
        Differ::Stricter
    } else {
        Differ::Otherwise
    }
}

const HOST: &str = "host: web\r\n";

/// Requests, how we differ over them, and why.
fn table() -> Vec<(String, Differ, &'static str)> {
    let get = |lines: &str| format!("GET / HTTP/1.1\r\n{HOST}{lines}\r\n");
    let post = |lines: &str, body: &str| format!("POST / HTTP/1.1\r\n{HOST}{lines}\r\n{body}");
    let line = |line: &str| format!("{line}\r\n{HOST}\r\n");
    let chunked = |body: &str| post("transfer-encoding: chunked\r\n", body);
    vec![
        (get(""), Differ::Not, ""),
        (get("").repeat(3), Differ::Not, ""),
        (post("content-length: 5\r\n", "hello"), Differ::Not, ""),
        (chunked("5\r\nhello\r\n0\r\n\r\n"), Differ::Not, ""),
        (
            chunked("5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n"),
            Differ::Not,
            "",
        ),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), Differ::Not, ""),
        (line("GET http://b:1/x HTTP/1.1"), Differ::Not, ""),
        (line("OPTIONS * HTTP/1.1"), Differ::Not, ""),
        (get("a: b\r\na: c\r\nA: d\r\n"), Differ::Not, ""),
        (get("a:\r\n"), Differ::Not, ""),
        (
            get("a: b\r\n c\r\n"),
            Differ::Not,
            "both refuse a folded line",
        ),
        (
            get("a : b\r\n"),
            Differ::Not,
            "both refuse a space before the colon",
        ),
        (
            post("content-length: +5\r\n", "hello"),
            Differ::Not,
            "both refuse a sign",
        ),
        (
            post("content-length: 5\r\ncontent-length: 6\r\n", "hello!"),
            Differ::Not,
            "",
        ),
        (
            line("GET / HTTP/2.0"),
            Differ::Not,
            "both refuse the version",
        ),
        (chunked("g\r\n"), Differ::Not, ""),
        (chunked("5\r\nhelloX"), Differ::Not, ""),
        (
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            Differ::Stricter,
            "a Host is required",
        ),
        (
            get("host: b\r\n"),
            Differ::Stricter,
            "two Hosts are two ways to route",
        ),
        (
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(),
            Differ::Stricter,
            "not an authority",
        ),
        (
            line("GET / HTTP/1.1").replace("\r\n", "\n"),
            Differ::Stricter,
            "a line ends in CR LF",
        ),
        (
            post(
                "content-length: 5\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            Differ::Stricter,
            "two lengths are an attack, whichever would win",
        ),
        (
            post("content-length: 5\r\ncontent-length: 5\r\n", "hello"),
            Differ::Stricter,
            "one length is enough",
        ),
        (
            post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            Differ::Stricter,
            "a coding that is not taken off cannot be passed on",
        ),
        (
            post(
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            Differ::Stricter,
            "once is enough",
        ),
        (
            chunked("5 \r\nhello\r\n0\r\n\r\n"),
            Differ::Stricter,
            "white space behind a size",
        ),
        (
            chunked("5\r\nhello\r\n0\r\nhost: x\r\n\r\n"),
            Differ::Stricter,
            "not for trailers",
        ),
        (
            line("GET /#fragment HTTP/1.1"),
            Differ::Stricter,
            "a target has no fragment",
        ),
        (
            line("CONNECT a HTTP/1.1"),
            Differ::Stricter,
            "CONNECT names a port",
        ),
    ]
}

#[tokio::test]
async fn every_difference_to_hyper_is_explained() {
    for (input, expected, why) in table() {
        let (ours, theirs) = (ours(false, input.as_bytes()), hyper(input.as_bytes()).await);
        let found = differ(input.as_bytes()).await;
        assert_eq!(found, expected, "{input:?} ({why})\n{ours:#?}\n{theirs:#?}");
    }
}

#[tokio::test]
async fn what_is_taken_is_understood_as_hyper_does() {
    let mut stricter = 0;
    for seed in 0..4000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = requests(false, &mut random);
        if random.random_bool(0.9) {
            mutate(&mut bytes, &mut random);
        }
        match differ(&bytes).await {
            Differ::Not => {}
            Differ::Stricter => stricter += 1,
            Differ::Otherwise => assert!(has_odd_path(&bytes), "seed {seed}"),
        }
    }
    println!("4,000 streams, of which we refuse {stricter} that hyper takes");
}

fn has_odd_path(bytes: &[u8]) -> bool {
    ours(false, bytes)
        .iter()
        .any(|request| is_odd(&request.path))
}
