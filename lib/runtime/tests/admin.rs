//! The admin port over real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mesh_runtime::{Admin, Readiness, Shutdown, registry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::Instant,
};

struct Running {
    addr: SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
    server: JoinHandle<()>,
}

async fn start() -> Running {
    let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
    let registry = Arc::new(registry("mesh-test", "0.0.0"));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let admin = Admin::bind(any, readiness.clone(), registry).await.unwrap();
    Running {
        addr: admin.local_addr().unwrap(),
        server: tokio::spawn(admin.serve(shutdown.clone())),
        readiness,
        shutdown,
    }
}

/// The whole answer to one request.
async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: admin\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn status(addr: SocketAddr, request: &str) -> String {
    let answer = ask(addr, request).await;
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn health_follows_readiness() {
    let running = start().await;
    assert_eq!(status(running.addr, "GET /live").await, "200");
    assert_eq!(status(running.addr, "GET /ready").await, "503");
    running.readiness.set(true);
    assert_eq!(status(running.addr, "GET /ready").await, "200");
    assert_eq!(status(running.addr, "GET /").await, "404");
}

#[tokio::test]
async fn c8_nothing_changes_state() {
    let running = start().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "CONNECT", "OPTIONS", "X"] {
        let answer = status(running.addr, &format!("{method} /live")).await;
        assert!(
            ["400", "405"].contains(&answer.as_str()),
            "{method}: {answer}"
        );
    }
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let running = start().await;
    let answer = ask(running.addr, "GET /metrics").await;
    assert!(
        answer.contains("content-type: application/openmetrics-text"),
        "{answer}"
    );
    assert!(
        answer.contains("mesh_build_info{program=\"mesh-test\""),
        "{answer}"
    );
    assert!(answer.ends_with("# EOF\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_off() {
    let running = start().await;
    let mut silent = TcpStream::connect(running.addr).await.unwrap();
    silent.write_all(b"GET /live HTTP/1.1\r\nho").await.unwrap();
    silent.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_away() {
    let running = start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(running.addr).await.unwrap());
    }
    let started = Instant::now();
    assert_eq!(status(running.addr, "GET /live").await, "200");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn it_ends_when_the_program_does() {
    let running = start().await;
    running.shutdown.trigger();
    running.server.await.unwrap();
    assert!(TcpStream::connect(running.addr).await.is_err());
}
