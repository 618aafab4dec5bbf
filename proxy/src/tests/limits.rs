//! Each limit strikes at its bound and not below, is counted, and can be set.
//!
//! (How windows grow is in `lib/drive/src/growth.rs`, detection in `protocol.rs`.)

mod peers;

use mesh_core::limits::{Limit, Limits, Program};
use mesh_dataplane::{
    limits::budget,
    message::{Body, Request, Response},
};
use mesh_drive::{
    conduit::{self, Conduit, Ended, Version},
    exchange::{Answer, Broken, Chunk},
};
use mesh_http::{
    fault::{Code, ResetReason},
    head::Head,
};
use tokio::{
    io::DuplexStream,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    frames::{END_STREAM, Wire, get, headers},
    *,
};

/// A sidecar's limits, changed as `text` says.
fn bearing(text: &str) -> Bounds {
    let limits = Limits::parse(Program::Sidecar, text).unwrap();
    let budget = budget(&limits);
    Bounds::new(limits, budget)
}

/// A client's connection to somebody who bears so much; how that ends. The answer
/// is as long as the path says, and comes when the request is whole; `/unread` is
/// never read.
fn served(bounds: &Bounds, spoken: Spoken) -> (DuplexStream, JoinHandle<Ended>) {
    let (client, ours) = tokio::io::duplex(1024);
    let limits = bounds.clients();
    let life =
        tokio::spawn(
            async move { serve::http(ours, spoken, limits, &Shutdown::new(), answered).await },
        );
    (client, life)
}

static LONG_ANSWER: [u8; 1_000_000] = [b'x'; 1_000_000];

async fn answered(request: Request) -> Response {
    let path = str::from_utf8(request.head.path()).unwrap();
    let length = path.trim_start_matches('/').parse().unwrap_or(2);
    if path == "/unread" {
        std::future::pending::<()>().await;
    }
    // One that breaks off is not answered.
    let _ = request.body.whole().await;
    let mut head = Head::response(200).unwrap();
    head.push(b"content-length", length.to_string().as_bytes())
        .unwrap();
    Response {
        head,
        body: Body::from(&LONG_ANSWER[..length]),
    }
}

/// What the server says until it closes.
async fn rest(client: &mut DuplexStream) -> String {
    let mut said = Vec::new();
    // A reset is an end as well.
    let _ = client.read_to_end(&mut said).await;
    String::from_utf8(said).unwrap()
}

/// The status of what is answered to one HTTP/1 request.
async fn status(bounds: &Bounds, request: &str) -> String {
    let (client, _life) = served(bounds, Spoken::Http1);
    let (mut read, mut write) = tokio::io::split(client);
    let request = request.to_owned();
    // It may be refused before all of it is said.
    let writing = tokio::spawn(async move {
        let _ = write.write_all(request.as_bytes()).await;
        write
    });
    let mut answer = [0; 12];
    let reading = read.read_exact(&mut answer);
    timeout(LONG, reading).await.expect("in time").unwrap();
    writing.abort();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

/// A connection to somebody who bears so much, that many requests may be sent on.
fn http2(bounds: &Bounds) -> Conduit {
    let (client, _life) = served(bounds, Spoken::Http2);
    let generous = bearing("header-bytes=1Mi,header-lines=128,target-bytes=1Mi");
    let (conduit, life) = conduit::connect(client, Version::Http2, generous.peers());
    tokio::spawn(life);
    conduit
}

async fn answer_to(conduit: &Conduit, head: &Head) -> Result<u16, Broken> {
    let exchange = conduit.open(head, true).unwrap();
    match timeout(LONG, exchange.answer()).await.expect("in time")? {
        Answer::Final { head, .. } | Answer::Informational(head) => Ok(head.status().unwrap()),
    }
}

/// A head whose fields, with the empty line, have so many bytes.
fn of_bytes(bytes: usize) -> String {
    let around = "host: web\r\nx: \r\n\r\n".len();
    let value = "v".repeat(bytes - around);
    format!("GET / HTTP/1.1\r\nhost: web\r\nx: {value}\r\n\r\n")
}

fn of_lines(lines: usize) -> String {
    let more = "x: y\r\n".repeat(lines - 1);
    format!("GET / HTTP/1.1\r\nhost: web\r\n{more}\r\n")
}

fn of_target(bytes: usize) -> String {
    let path = "a".repeat(bytes - 1);
    format!("GET /{path} HTTP/1.1\r\nhost: web\r\n\r\n")
}

/// How a request is made that is so large.
type Made = fn(usize) -> String;

#[tokio::test]
async fn h9_a_head_may_be_as_large_as_its_limit_and_no_larger() {
    let cases: [(Limit, Made, &str, [&str; 2]); 3] = [
        (
            Limit::HeaderBytes,
            of_bytes,
            "431",
            ["", "header-bytes=2Ki"],
        ),
        (Limit::HeaderLines, of_lines, "431", ["", "header-lines=9"]),
        (
            Limit::TargetBytes,
            of_target,
            "414",
            ["", "target-bytes=70"],
        ),
    ];
    for (limit, request, refusal, settings) in cases {
        for setting in settings {
            let bounds = bearing(setting);
            let most = bounds.limits().size(limit);
            assert_eq!(status(&bounds, &request(most)).await, "200", "{limit}");
            assert_eq!(bounds.struck(limit), 0, "{limit}");
            assert_eq!(status(&bounds, &request(most + 1)).await, refusal);
            assert_eq!(bounds.struck(limit), 1, "{limit}");
        }
    }
}

#[tokio::test]
async fn h9_a_head_that_never_ends_is_answered_before_it_is_all_held() {
    let bounds = bearing("");
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "v".repeat(8 << 20));
    assert_eq!(status(&bounds, &endless).await, "431");
    assert_eq!(bounds.struck(Limit::HeaderBytes), 1);
}

#[tokio::test]
async fn h9_the_same_holds_for_http2() {
    /// So many lines, each with a value that long, and a path that long.
    fn head((lines, value, path): (usize, usize, usize)) -> Head {
        let mut head = Head::request("GET", "web", &format!("/{}", "a".repeat(path))).unwrap();
        for _ in 0..lines {
            head.push(b"x", &vec![b'v'; value]).unwrap();
        }
        head
    }
    let (lines, bytes, target) = (Limit::HeaderLines, Limit::HeaderBytes, Limit::TargetBytes);
    for (setting, limit, fits, does_not) in [
        ("", lines, (100, 1, 1), (101, 1, 1)),
        ("header-lines=9", lines, (9, 1, 1), (10, 1, 1)),
        ("", bytes, (1, 65_000, 1), (1, 65_536, 1)),
        ("header-bytes=2Ki", bytes, (1, 1800, 1), (1, 2048, 1)),
        ("target-bytes=70", target, (0, 0, 69), (0, 0, 70)),
    ] {
        let bounds = bearing(setting);
        let conduit = http2(&bounds);
        let refusal = if limit == target { 414 } else { 431 };
        assert_eq!(answer_to(&conduit, &head(fits)).await, Ok(200), "{limit}");
        assert_eq!(bounds.struck(limit), 0, "{limit}");
        let refused = answer_to(&conduit, &head(does_not)).await;
        assert_eq!(refused, Ok(refusal), "{limit}");
        assert_eq!(bounds.struck(limit), 1, "{limit}");
    }
}

#[tokio::test]
async fn h13_streams_are_as_many_as_their_limit() {
    for most in [1, 3] {
        let bounds = bearing(&format!("streams={most}"));
        let conduit = http2(&bounds);
        let head = Head::request("POST", "web", "/").unwrap();
        // Before the client has heard how many there may be.
        let open: Vec<_> = (0..=most)
            .map(|_| conduit.open(&head, false).unwrap())
            .collect();
        let last = timeout(LONG, open[most].gone()).await;
        assert_eq!(last.expect("in time"), Broken::Reset(ResetReason::Refused));
        assert_eq!(bounds.struck(Limit::Streams), 1);
        open[0].send(b"", true).await.unwrap();
        let first = timeout(LONG, open[0].answer()).await.expect("in time");
        assert!(matches!(first, Ok(Answer::Final { .. })), "{first:?}");
    }
}

/// A little less than a limit allows.
fn just_in(bounds: &Bounds, limit: Limit) -> Duration {
    bounds.limits().time(limit) - Duration::from_millis(20)
}

/// Asserts that a limit has struck once, after its time.
fn struck_since(bounds: &Bounds, limit: Limit, start: Instant) {
    let (took, time) = (start.elapsed(), bounds.limits().time(limit));
    // Whoever inspects streams does so four times as often as they may stand still.
    let late = time + time / 4 + Duration::from_millis(50);
    assert!(took >= time && took <= late, "{limit}: {took:?}");
    assert_eq!(bounds.struck(limit), 1, "{limit}");
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";

/// Reads one short answer.
async fn good(client: &mut DuplexStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nxx") {
        answer.push(client.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn h17_a_head_that_comes_too_slowly_is_408() {
    for setting in ["", "header-time=500ms"] {
        let bounds = bearing(setting);
        let (mut client, _life) = served(&bounds, Spoken::Http1);
        client.write_all(&ASK.as_bytes()[..8]).await.unwrap();
        sleep(just_in(&bounds, Limit::HeaderTime)).await;
        client.write_all(&ASK.as_bytes()[8..]).await.unwrap();
        good(&mut client).await;
        assert_eq!(bounds.struck(Limit::HeaderTime), 0);

        let start = Instant::now();
        client.write_all(&ASK.as_bytes()[..8]).await.unwrap();
        // However often a byte comes.
        for byte in &ASK.as_bytes()[8..12] {
            sleep(bounds.limits().time(Limit::HeaderTime) / 5).await;
            client.write_u8(*byte).await.unwrap();
        }
        let said = rest(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        struck_since(&bounds, Limit::HeaderTime, start);
    }
}

#[tokio::test(start_paused = true)]
async fn h17_a_body_that_stands_still_is_408() {
    let post = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 4\r\n\r\n";
    for setting in ["", "body-time=500ms"] {
        let bounds = bearing(setting);
        let (mut client, _life) = served(&bounds, Spoken::Http1);
        client.write_all(post.as_bytes()).await.unwrap();
        for _ in 0..4 {
            sleep(just_in(&bounds, Limit::BodyTime)).await;
            client.write_u8(b'x').await.unwrap();
        }
        good(&mut client).await;
        assert_eq!(bounds.struck(Limit::BodyTime), 0);

        client.write_all(post.as_bytes()).await.unwrap();
        client.write_u8(b'x').await.unwrap();
        let start = Instant::now();
        let said = rest(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        struck_since(&bounds, Limit::BodyTime, start);
    }
}

#[tokio::test(start_paused = true)]
async fn h17_a_body_that_stands_still_on_one_stream_is_reset() {
    for setting in ["", "body-time=500ms"] {
        let bounds = bearing(setting);
        let conduit = http2(&bounds);
        let mut head = Head::request("POST", "web", "/").unwrap();
        head.push(b"content-length", b"4").unwrap();
        let exchange = conduit.open(&head, false).unwrap();
        exchange.send(b"x", false).await.unwrap();
        let start = Instant::now();
        let broken = exchange.gone().await;
        assert!(matches!(broken, Broken::Reset(_)), "{broken}");
        struck_since(&bounds, Limit::BodyTime, start);
    }
}

#[tokio::test(start_paused = true)]
async fn h17_who_does_not_read_is_left() {
    for setting in ["", "write-time=500ms"] {
        let bounds = bearing(setting);
        let (mut client, life) = served(&bounds, Spoken::Http1);
        let ask = "GET /1000000 HTTP/1.1\r\nhost: web\r\n\r\n";
        client.write_all(ask.as_bytes()).await.unwrap();
        // Very slowly is slow enough.
        let mut some = [0; 512];
        for _ in 0..4 {
            sleep(just_in(&bounds, Limit::WriteTime)).await;
            client.read_exact(&mut some).await.unwrap();
        }
        assert_eq!(bounds.struck(Limit::WriteTime), 0);
        assert!(!life.is_finished());
        let start = Instant::now();
        let ended = life.await.unwrap();
        assert_eq!(ended.as_str(), "write_timeout");
        struck_since(&bounds, Limit::WriteTime, start);
    }
}

#[tokio::test(start_paused = true)]
async fn h17_who_does_not_read_one_stream_loses_that_one() {
    let ask = |path| Head::request("GET", "web", path).unwrap();
    for setting in ["", "write-time=500ms"] {
        let bounds = bearing(setting);
        let conduit = http2(&bounds);
        let exchange = conduit.open(&ask("/1000000"), true).unwrap();
        let answer = timeout(LONG, exchange.answer()).await.expect("in time");
        assert!(matches!(answer, Ok(Answer::Final { .. })), "{answer:?}");
        // Very slowly is slow enough.
        for _ in 0..4 {
            sleep(just_in(&bounds, Limit::WriteTime)).await;
            let some = exchange.chunk().await;
            assert!(matches!(some, Ok(Chunk::Data(_))), "{some:?}");
        }
        assert_eq!(bounds.struck(Limit::WriteTime), 0);
        let start = Instant::now();
        let broken = exchange.gone().await;
        assert_eq!(broken, Broken::Reset(ResetReason::Peer(Code::Cancel)));
        struck_since(&bounds, Limit::WriteTime, start);
        // Others on the same connection are served.
        assert_eq!(answer_to(&conduit, &ask("/")).await, Ok(200));
    }
}

#[tokio::test(start_paused = true)]
async fn h17_who_does_not_read_a_connection_of_http2_is_left() {
    // Later it would be found out that the client gives no sign of life.
    let bounds = bearing("write-time=500ms");
    let (client, life) = served(&bounds, Spoken::Http2);
    let mut client = Wire::client(client).await;
    let start = Instant::now();
    client.say(&headers(1, END_STREAM, &get("/1000000"))).await;
    assert_eq!(life.await.unwrap().as_str(), "write_timeout");
    struck_since(&bounds, Limit::WriteTime, start);
}

#[tokio::test(start_paused = true)]
async fn h15_a_window_grows_as_far_as_it_may() {
    for (setting, limit, strikes) in [
        ("", Limit::StreamBytes, false),
        ("stream-bytes=64Ki", Limit::StreamBytes, true),
        ("stream-bytes=128Ki", Limit::StreamBytes, false),
        ("", Limit::ProcessBytes, false),
        ("process-bytes=0", Limit::ProcessBytes, true),
        ("process-bytes=64Ki", Limit::ProcessBytes, true),
        ("process-bytes=192Ki", Limit::ProcessBytes, false),
    ] {
        let bounds = bearing(setting);
        let conduit = http2(&bounds);
        // By then it is known how far the client is: no window grows before.
        let head = Head::request("POST", "web", "/").unwrap();
        assert_eq!(answer_to(&conduit, &head).await, Ok(200));
        let exchange = conduit.open(&head, false).unwrap();
        // Four windows of the first size, or two that grow and some of a third.
        let sending = exchange.send(&[0; 300_000], true);
        timeout(LONG, sending).await.expect("in time").unwrap();
        let answer = timeout(LONG, exchange.answer()).await.expect("in time");
        assert!(matches!(answer, Ok(Answer::Final { .. })), "{answer:?}");
        assert_eq!(bounds.struck(limit) > 0, strikes, "{setting} {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn h15_what_waits_for_readers_on_one_connection_is_bounded() {
    for (most, strikes) in [("256Ki", 1), ("1Mi", 0)] {
        let bounds = bearing(&format!("stream-bytes=64Ki,connection-bytes={most}"));
        let conduit = http2(&bounds);
        let head = Head::request("POST", "web", "/unread").unwrap();
        let mut open = Vec::new();
        // More than half of what the client may send before it hears of it again.
        for _ in 0..9 {
            let exchange = conduit.open(&head, false).unwrap();
            exchange.send(&[0; 65_000], false).await.unwrap();
            open.push(exchange);
        }
        // The time passes when nothing moves any more.
        sleep(Duration::from_millis(1)).await;
        assert_eq!(bounds.struck(Limit::ConnectionBytes), strikes, "{most}");
    }
}

#[tokio::test(start_paused = true)]
async fn h17_five_thousand_slow_clients_are_let_go_while_others_are_served() {
    let (bounds, start) = (bearing(""), Instant::now());
    let limits = [Limit::HeaderTime, Limit::BodyTime, Limit::WriteTime];
    let says = [
        "GET / HT",
        "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 4\r\n\r\nx",
        "GET /1000000 HTTP/1.1\r\nhost: web\r\n\r\n",
    ];
    let (mut clients, mut lives) = (Vec::new(), Vec::new());
    for says in says.iter().cycle().take(5000) {
        let (mut client, life) = served(&bounds, Spoken::Http1);
        client.write_all(says.as_bytes()).await.unwrap();
        clients.push(client);
        lives.push(life);
    }
    let (mut other, _life) = served(&bounds, Spoken::Http1);
    for _ in 0..10 {
        other.write_all(ASK.as_bytes()).await.unwrap();
        good(&mut other).await;
        sleep(Duration::from_secs(6)).await;
    }
    for life in lives {
        life.await.unwrap();
    }
    // All at their deadline, and those that are told why a moment later.
    assert!(
        start.elapsed() < Duration::from_secs(65),
        "{:?}",
        start.elapsed()
    );
    let struck = limits.map(|limit| bounds.struck(limit));
    assert_eq!(struck, [1667, 1667, 1666]);
    other.write_all(ASK.as_bytes()).await.unwrap();
    good(&mut other).await;
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn h17_a_legal_keep_alive_survives_and_is_closed_in_the_end() {
    for (setting, idle) in [("", 300), ("idle-time=10s", 9)] {
        let bounds = bearing(setting);
        let (mut client, _life) = served(&bounds, Spoken::Http1);
        for _ in 0..3 {
            client.write_all(ASK.as_bytes()).await.unwrap();
            good(&mut client).await;
            sleep(Duration::from_secs(idle)).await;
        }
        assert_eq!(bounds.struck(Limit::IdleTime), 0);
        client.write_all(ASK.as_bytes()).await.unwrap();
        good(&mut client).await;
        let start = Instant::now();
        assert_eq!(rest(&mut client).await, "");
        struck_since(&bounds, Limit::IdleTime, start);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_have_to_be_acknowledged() {
    for setting in ["", "settings-time=500ms"] {
        let bounds = bearing(setting);
        let (mut client, life) = served(&bounds, Spoken::Http2);
        let start = Instant::now();
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        client.write_all(hello).await.unwrap();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        struck_since(&bounds, Limit::SettingsTime, start);
        drop(client);
        assert_eq!(life.await.unwrap().as_str(), "settings_timeout");

        let bounds = bearing(setting);
        let conduit = http2(&bounds);
        sleep(2 * bounds.limits().time(Limit::SettingsTime)).await;
        let head = Head::request("GET", "web", "/").unwrap();
        assert_eq!(answer_to(&conduit, &head).await, Ok(200));
        assert_eq!(bounds.struck(Limit::SettingsTime), 0);
    }
}
