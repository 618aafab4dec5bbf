//! With hyper at the other end: what is written here is read there, and back,
//! with bodies larger than every window.

use std::{collections::HashMap, convert::Infallible, time::Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_http::{
    connection::Connection,
    event::{Event, Role, StreamId},
    head::Head,
    limits::Limits,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinSet,
};

use super::side::Side;

const BODY: usize = 300_000;
const REQUESTS: usize = 8;

/// A driver in its simplest form: one read or one write at a time. `act` says
/// when to leave.
async fn drive(
    side: &mut Side,
    mut io: DuplexStream,
    mut act: impl FnMut(&mut Connection, Event<'_>, &Head) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let rest = std::mem::take(&mut side.rest);
        let mut input = &rest[..];
        let now = Instant::now();
        while let Some(event) = side.core.poll_event(now, &mut input, &mut side.head) {
            if act(&mut side.core, event, &side.head) {
                return;
            }
        }
        side.rest = input.to_vec();
        if side.core.is_over() {
            return;
        }
        let output = side.core.output(now).to_vec();
        let (reads, writes) = (side.core.wants_read(), side.core.wants_write());
        let (mut reader, mut writer) = tokio::io::split(&mut io);
        tokio::select! {
            read = reader.read(&mut buffer), if reads => match read {
                Ok(0) | Err(_) => side.core.receive_eof(now),
                Ok(n) => side.rest.extend_from_slice(&buffer[..n]),
            },
            written = writer.write(&output), if writes => {
                side.core.wrote(written.unwrap_or(0), now);
            }
            else => return,
        }
    }
}

/// Sends back what has come.
fn echo(core: &mut Connection, event: Event<'_>, head: &Head) -> bool {
    let now = Instant::now();
    match event {
        Event::Head { stream, end } => {
            let mut answer = Head::response(200).unwrap();
            if let Some(length) = head.content_length() {
                answer
                    .push(b"content-length", length.to_string().as_bytes())
                    .unwrap();
            }
            core.send_head(now, stream, &answer, end).unwrap();
        }
        Event::Data { stream, bytes, end } => {
            let taken = core.send_data(now, stream, bytes, end).unwrap();
            assert_eq!(taken.bytes, bytes.len());
            core.consume(now, stream, taken.bytes - taken.queued);
        }
        Event::Trailers { stream } => core.send_trailers(now, stream, head).unwrap(),
        Event::Sent { stream, bytes } => core.consume(now, stream, bytes),
        Event::Closed(_) => return true,
        _ => {}
    }
    false
}

fn body(number: usize) -> Bytes {
    (0..BODY).map(|at| (at * (number + 7)) as u8).collect()
}

fn post(number: usize) -> http::Request<Full<Bytes>> {
    let request = http::Request::post(format!("http://web/{number}")).header("host", "web");
    request.body(Full::new(body(number))).unwrap()
}

#[tokio::test]
async fn hyper_asks_this_engine_over_http1() {
    let (client, server) = tokio::io::duplex(20_000);
    let mut side = Side::server(false);
    let serving = tokio::spawn(async move { drive(&mut side, server, echo).await });
    let io = TokioIo::new(client);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for number in 0..REQUESTS {
        sender.ready().await.unwrap();
        let answer = sender.send_request(post(number)).await.unwrap();
        let echoed = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(echoed == body(number));
    }
    drop(sender);
    serving.await.unwrap();
}

#[tokio::test]
async fn hyper_asks_this_engine_over_http2() {
    let (client, server) = tokio::io::duplex(20_000);
    let mut side = Side::server(true);
    let serving = tokio::spawn(async move { drive(&mut side, server, echo).await });
    let (executor, io) = (TokioExecutor::new(), TokioIo::new(client));
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut asking = JoinSet::new();
    for number in 0..REQUESTS {
        let mut sender = sender.clone();
        asking.spawn(async move {
            let answer = sender.send_request(post(number)).await.unwrap();
            let echoed = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(echoed == body(number));
        });
    }
    asking.join_all().await;
    drop(sender);
    serving.await.unwrap();
}

async fn hyper_echoes(
    request: http::Request<Incoming>,
) -> Result<http::Response<Incoming>, Infallible> {
    Ok(http::Response::new(request.into_body()))
}

/// What is still to be sent, and what has come back.
#[derive(Default)]
struct Asked {
    number: usize,
    sent: usize,
    received: Vec<u8>,
}

/// Sends as much as is taken.
fn push(core: &mut Connection, stream: StreamId, asked: &mut Asked) {
    let (now, body) = (Instant::now(), body(asked.number));
    if asked.sent < body.len() {
        let taken = core.send_data(now, stream, &body[asked.sent..], true);
        asked.sent += taken.map_or(0, |taken| taken.bytes);
    }
}

fn ask(core: &mut Connection, number: usize, all: &mut HashMap<StreamId, Asked>) {
    let head = Head::request("POST", "web", &format!("/{number}")).unwrap();
    let stream = core.open(Instant::now(), &head, false).unwrap();
    let mut asked = Asked {
        number,
        ..Asked::default()
    };
    push(core, stream, &mut asked);
    all.insert(stream, asked);
}

async fn this_engine_asks_hyper(http2: bool, io: DuplexStream) {
    let mut side = Side::new(http2, Role::Client, Limits::default());
    let (mut all, mut next, mut whole) = (HashMap::new(), 0, 0);
    while next < REQUESTS && side.core.can_open() {
        ask(&mut side.core, next, &mut all);
        next += 1;
    }
    drive(&mut side, io, |core, event, _| {
        match event {
            Event::Sent { stream, .. } => push(core, stream, all.get_mut(&stream).unwrap()),
            Event::Data { stream, bytes, end } => {
                core.consume(Instant::now(), stream, bytes.len());
                let asked = all.get_mut(&stream).unwrap();
                asked.received.extend_from_slice(bytes);
                if end {
                    assert!(asked.received == body(asked.number));
                    whole += 1;
                }
            }
            Event::Head { .. } => {}
            other => panic!("{other:?}"),
        }
        if next < REQUESTS && core.can_open() {
            ask(core, next, &mut all);
            next += 1;
        }
        whole == REQUESTS
    })
    .await;
    assert_eq!(whole, REQUESTS);
}

#[tokio::test]
async fn this_engine_asks_hyper_over_http1() {
    let (client, server) = tokio::io::duplex(20_000);
    let builder = hyper::server::conn::http1::Builder::new();
    tokio::spawn(builder.serve_connection(TokioIo::new(server), service_fn(hyper_echoes)));
    this_engine_asks_hyper(false, client).await;
}

#[tokio::test]
async fn this_engine_asks_hyper_over_http2() {
    let (client, server) = tokio::io::duplex(20_000);
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(builder.serve_connection(TokioIo::new(server), service_fn(hyper_echoes)));
    this_engine_asks_hyper(true, client).await;
}
