//! The admin port over real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

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

/// A page that counts how often it was made, and how many at once.
async fn with_page() -> (SocketAddr, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let registry = Arc::new(registry("mesh-test", "0.0.0"));
    let admin = Admin::bind(any, Readiness::new(), registry).await.unwrap();
    let counted = counts.clone();
    let admin = admin.with_page("/probe", move |query| {
        let counts = counted.clone();
        async move {
            let now = counts.now.fetch_add(1, Relaxed) + 1;
            counts.most.fetch_max(now, Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
            counts.now.fetch_sub(1, Relaxed);
            counts.made.fetch_add(1, Relaxed);
            match query.value("link") {
                Some("slow") => std::future::pending().await,
                Some(link) => Ok(format!("\"{link}\"")),
                None => Err("which link?"),
            }
        }
    });
    let addr = admin.local_addr().unwrap();
    tokio::spawn(admin.serve(Shutdown::new()));
    (addr, counts)
}

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    made: AtomicUsize,
}

#[tokio::test]
async fn c8_a_page_is_made_for_one_at_a_time_and_kept_for_who_asks_the_same() {
    let (addr, counts) = with_page().await;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..20 {
        let link = if n % 2 == 0 { "east" } else { "north" };
        asking.spawn(async move { ask(addr, &format!("GET /probe?link={link}")).await });
    }
    for answer in asking.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(counts.most.load(Relaxed), 1);
    let made = counts.made.load(Relaxed);
    let last = ask(addr, "GET /probe?link=east").await;
    let again = ask(addr, "GET /probe?link=east").await;
    assert!(last.ends_with("\"east\""), "{last}");
    assert!(again.ends_with("\"east\""), "{again}");
    assert!(
        counts.made.load(Relaxed) <= made + 1,
        "the second was not made"
    );
}

#[tokio::test]
async fn c8_a_page_answers_questions_only() {
    let (addr, counts) = with_page().await;
    assert_eq!(status(addr, "GET /probe").await, "400");
    assert_eq!(status(addr, "POST /probe?link=east").await, "405");
    let long = format!("GET /probe?link={}", "x".repeat(600));
    assert_eq!(status(addr, &long).await, "414");
    assert_eq!(counts.made.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn c8_a_page_that_is_not_made_in_time_is_given_up() {
    let (addr, _) = with_page().await;
    assert_eq!(status(addr, "GET /probe?link=slow").await, "504");
    assert_eq!(status(addr, "GET /probe?link=east").await, "200");
}
