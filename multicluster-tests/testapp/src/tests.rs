//! The server and the clients against each other, over loopback.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command, LoadArgs, ServeArgs};
use crate::client::{Answer, Call, Protocol, exchange};
use crate::dial::Dialer;
use crate::failure::Failure;
use crate::load;
use crate::serve::{self, Addresses};
use crate::tcp::talk;

mod loads;
mod middle_man;

/// A deadline for what must happen soon.
const SOON: Duration = Duration::from_secs(10);

struct Running {
    at: Addresses,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve(flags: &[&str]) -> Running {
    let any = "127.0.0.1:0";
    let ports = ["--http", any, "--grpc", any, "--tcp", any, "--banner", any];
    let names = [
        "--pod",
        "web-1",
        "--namespace",
        "shop",
        "--cluster",
        "east",
        "--node",
        "n1",
    ];
    let command = parse(&[&["serve"], &ports[..], &names[..], flags].concat());
    let Command::Serve(args) = command else {
        unreachable!("`serve` was given")
    };
    start(args).await
}

async fn start(args: ServeArgs) -> Running {
    let server = serve::bind(args).await.unwrap();
    let stop = CancellationToken::new();
    Running {
        at: server.addresses,
        stop: stop.clone(),
        task: tokio::spawn(server.run(stop)),
    }
}

fn parse(args: &[&str]) -> Command {
    Args::try_parse_from([&["testapp"], args].concat())
        .unwrap_or_else(|error| panic!("{error}"))
        .command
}

fn call(protocol: Protocol, at: SocketAddr, path: &str) -> Call {
    Call {
        url: format!("http://{at}{path}").parse().unwrap(),
        protocol,
        method: http::Method::GET,
        headers: vec![],
        body: bytes::Bytes::new(),
    }
}

async fn send(call: &Call) -> Result<Answer, Failure> {
    exchange(
        &mut None,
        &Dialer::from_system(),
        call,
        Instant::now() + SOON,
    )
    .await
}

async fn get(protocol: Protocol, at: SocketAddr, path: &str) -> (StatusCode, Value) {
    let answer = send(&call(protocol, at, path)).await.unwrap();
    let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    (answer.status, body)
}

#[tokio::test]
async fn both_http_versions_say_what_was_seen() {
    let server = serve(&[]).await;
    for (protocol, version) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2")] {
        let mut call = call(protocol, server.at.http, "/a/b?c=d");
        call.method = http::Method::POST;
        call.body = "some text".into();
        call.headers = vec![("x-one".parse().unwrap(), "1".parse().unwrap())];
        let answer = send(&call).await.unwrap();
        let seen: Value = serde_json::from_slice(&answer.body).unwrap();

        assert_eq!(seen["version"], version);
        assert_eq!(seen["method"], "POST");
        assert_eq!(
            (&seen["path"], &seen["query"]),
            (&"/a/b".into(), &"c=d".into())
        );
        assert_eq!(
            (&seen["body"], &seen["body_length"]),
            (&"some text".into(), &9.into())
        );
        assert_eq!(
            (&seen["pod"], &seen["cluster"]),
            (&"web-1".into(), &"east".into())
        );
        assert_eq!(
            (&seen["namespace"], &seen["node"]),
            (&"shop".into(), &"n1".into())
        );
        let headers = seen["headers"].as_array().unwrap();
        assert!(headers.contains(&serde_json::json!(["x-one", "1"])));
        let name = if version == "HTTP/2" {
            "authority"
        } else {
            "host"
        };
        assert_eq!(seen[name], server.at.http.to_string());
    }
}

#[tokio::test]
async fn a_request_sets_its_status_size_and_delay() {
    let server = serve(&["--size", "100"]).await;
    let start = Instant::now();
    let path = "/?status=503&size=70000&latency=30ms";
    let answer = send(&call(Protocol::Http1, server.at.http, path))
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body.len(), 70_000);
    assert!(start.elapsed() >= Duration::from_millis(30));

    let (status, _) = get(Protocol::Http1, server.at.http, "/?latency=fast").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = get(Protocol::Http1, server.at.http, "/healthz").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn default_behaviour_comes_from_flags() {
    let server = serve(&["--error-rate", "1", "--status", "502"]).await;
    let (status, seen) = get(Protocol::Http2, server.at.http, "/").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(seen["cluster"], "east");
}

#[tokio::test]
async fn tcp_ports_echo_after_saying_who_they_are() {
    let server = serve(&[]).await;
    for (address, banner_first) in [(server.at.tcp, false), (server.at.banner, true)] {
        let io = TcpStream::connect(address).await.unwrap();
        let local = io.local_addr().unwrap();
        let heard = timeout(SOON, talk(io, b"some bytes", banner_first))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(heard.echo, "some bytes");
        assert_eq!(heard.server["cluster"], "east");
        assert_eq!(heard.server["peer"], local.to_string());
    }
}

#[tokio::test]
async fn grpc_calls_succeed_and_fail_as_told() {
    let server = serve(&[]).await;
    let address = server.at.grpc.to_string();
    for (flags, want) in [
        (&["--count", "2"][..], 0),
        (&["--stream", "3"], 0),
        (&["-H", "x-testapp-status: 503"], 1),
    ] {
        let command = parse(&[&["grpc", &address], flags].concat());
        let Command::Grpc(args) = command else {
            unreachable!("`grpc` was given")
        };
        let code = crate::grpc::client::run(args).await.unwrap();
        assert_eq!(
            format!("{code:?}"),
            format!("{:?}", std::process::ExitCode::from(want))
        );
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        closed.local_addr().unwrap()
    };
    let refused = send(&call(Protocol::Http1, free, "/")).await.unwrap_err();
    assert_eq!(refused, Failure::Refused);

    let call = call(Protocol::Http1, silent.local_addr().unwrap(), "/");
    let soon = Instant::now() + Duration::from_millis(300);
    let dialer = Dialer::from_system();
    let timed_out = exchange(&mut None, &dialer, &call, soon).await.unwrap_err();
    assert_eq!(timed_out, Failure::Timeout);

    let asked = tokio::spawn(async move { send(&call).await });
    // The first connection is the one that timed out.
    for _ in 0..2 {
        drop(timeout(SOON, silent.accept()).await.unwrap().unwrap());
    }
    let closed = asked.await.unwrap().unwrap_err();
    assert!(
        matches!(closed, Failure::Closed | Failure::Reset),
        "{closed}"
    );
}

/// Tells the server to stop and waits until it accepts nothing more.
async fn begin_stop(server: &Running) {
    server.stop.cancel();
    let accepts = async { while TcpStream::connect(server.at.http).await.is_ok() {} };
    timeout(SOON, accepts)
        .await
        .expect("a stopped server accepts nothing");
}

async fn ended(server: Running) {
    timeout(SOON, server.task)
        .await
        .expect("the server ends by itself")
        .unwrap();
}

#[tokio::test]
async fn a_stopped_server_finishes_an_http1_request() {
    let server = serve(&[]).await;
    let _idle = TcpStream::connect(server.at.http).await.unwrap();
    let mut io = TcpStream::connect(server.at.http).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    io.write_all(head).await.unwrap();
    // The server asks for the body, so the request is in its hands.
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    io.read_exact(&mut go_on).await.unwrap();

    begin_stop(&server).await;
    io.write_all(b"hi").await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    ended(server).await;
}

#[tokio::test]
async fn a_stopped_server_finishes_an_http2_request() {
    let server = serve(&[]).await;
    let io = TcpStream::connect(server.at.http).await.unwrap();
    let (mut sender, mut driver) = h2::client::handshake(io).await.unwrap();
    let mut pings = driver.ping_pong().unwrap();
    tokio::spawn(driver);
    let request = http::Request::post("http://a/").body(()).unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    // Frames are read in order: after the pong the request is known.
    pings.ping(h2::Ping::opaque()).await.unwrap();

    begin_stop(&server).await;
    body.send_data("hi".into(), true).unwrap();
    let answer = timeout(SOON, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop((answer, body, sender, pings));
    ended(server).await;
}

#[tokio::test]
async fn the_grace_time_ends_what_does_not_finish() {
    let server = serve(&["--grace", "50ms"]).await;
    let slow = call(Protocol::Http1, server.at.http, "/?latency=1h");
    let asked = tokio::spawn(async move { send(&slow).await });
    let start = Instant::now();
    server.stop.cancel();
    timeout(SOON, server.task).await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    asked.abort();
}

async fn run_load(at: SocketAddr, path: &str, flags: &[&str]) -> load::Report {
    let url = format!("http://{at}{path}");
    let command = parse(&[&["load", &url], flags].concat());
    let Command::Load(args) = command else {
        unreachable!("`load` was given")
    };
    load_to_end(&args).await
}

async fn load_to_end(args: &LoadArgs) -> load::Report {
    timeout(
        SOON,
        load::load(args, CancellationToken::new(), None::<fn(&load::Slice)>),
    )
    .await
    .expect("a load ends by itself")
    .unwrap()
}

#[tokio::test]
async fn a_load_counts_answers_by_cluster() {
    let server = serve(&[]).await;
    for version in [&[][..], &["--http2"]] {
        let flags = [&["--rate", "200", "--duration", "500ms"], version].concat();
        let report = run_load(server.at.http, "/", &flags).await;
        assert_eq!((report.total, report.ok, report.failed), (100, 100, 0));
        assert_eq!(report.clusters["east"], 100);
        assert_eq!(report.pods["web-1"], 100);
    }
}

#[tokio::test]
async fn a_load_counts_failures_by_cause() {
    let server = serve(&[]).await;
    let flags = ["--rate", "100", "--duration", "200ms"];
    let report = run_load(server.at.http, "/?status=503", &flags).await;
    assert_eq!((report.ok, report.failures["status 503"]), (0, 20));

    server.stop.cancel();
    server.task.await.unwrap();
    let report = run_load(server.at.http, "/", &flags).await;
    assert_eq!(report.failures["connection refused"], 20);
}

#[tokio::test]
async fn a_slow_server_shows_in_the_latencies_and_not_in_the_rate() {
    let server = serve(&[]).await;
    // One connection does 20 requests of 50 ms in a second; 10 are due in a
    // tenth of it, so the last one waits for the nine before it.
    let flags = ["--rate", "100", "--duration", "100ms", "--connections", "1"];
    let report = run_load(server.at.http, "/?latency=50ms", &flags).await;
    assert_eq!((report.total, report.ok), (10, 10));
    let latencies = report.latency_ms.unwrap();
    assert!(latencies.max >= 400.0, "{latencies:?}");
    assert!(report.seconds * 1e3 < latencies.max, "{}", report.seconds);
}

#[tokio::test]
async fn a_stopped_load_still_reports() {
    let server = serve(&[]).await;
    let url = format!("http://{}", server.at.http);
    let command = parse(&["load", &url, "--rate", "100", "--duration", "1h"]);
    let Command::Load(args) = command else {
        unreachable!("`load` was given")
    };
    let stop = CancellationToken::new();
    let after_one_second = |_: &load::Slice| stop.cancel();
    let report = timeout(
        SOON,
        load::load(&args, stop.clone(), Some(after_one_second)),
    )
    .await
    .expect("a stopped load ends")
    .unwrap();
    assert!(report.ok > 0);
    assert_eq!(report.failed, 0);
}
