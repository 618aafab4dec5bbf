use std::{sync::Arc, time::Instant};

use super::*;
use crate::fault::Misuse;

/// What a test looks at of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Head(bool),
    Info(u16),
    Data(String, bool),
    Trailers(usize),
    Sent(usize),
    Closed(Fault),
}

struct Peer {
    core: Connection,
    head: Head,
    now: Instant,
    rest: Vec<u8>,
}

impl Peer {
    fn new(role: Role, limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            core: Connection::new(role, Arc::new(limits), now),
            head: Head::new(),
            now,
            rest: Vec::new(),
        }
    }

    fn server() -> Self {
        Self::new(Role::Server, Limits::default())
    }

    /// A client that has sent a GET.
    fn client() -> Self {
        Self::asking("GET")
    }

    fn asking(method: &str) -> Self {
        let mut client = Self::new(Role::Client, Limits::default());
        let head = Head::request(method, "web:80", "/").unwrap();
        client
            .core
            .open(client.now, &head, method != "CONNECT")
            .unwrap();
        client
    }

    fn feed(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Seen> {
        self.rest.extend_from_slice(bytes.as_ref());
        let rest = std::mem::take(&mut self.rest);
        let mut input = &rest[..];
        let mut seen = Vec::new();
        while let Some(event) = self.core.poll_event(self.now, &mut input, &mut self.head) {
            seen.push(match event {
                Event::Head { end, .. } => Seen::Head(end),
                Event::Informational { .. } => Seen::Info(self.head.status().unwrap()),
                Event::Data { bytes, end, .. } => {
                    Seen::Data(String::from_utf8_lossy(bytes).into_owned(), end)
                }
                Event::Trailers { .. } => Seen::Trailers(self.head.len()),
                Event::Sent { bytes, .. } => Seen::Sent(bytes),
                Event::Closed(fault) => Seen::Closed(fault),
                other => panic!("{other:?}"),
            });
        }
        self.rest = input.to_vec();
        seen
    }

    fn eof(&mut self) -> Vec<Seen> {
        self.core.receive_eof(self.now);
        self.feed("")
    }

    fn written(&mut self) -> String {
        let bytes = self.core.output(self.now).to_vec();
        self.core.wrote(bytes.len(), self.now);
        String::from_utf8(bytes).unwrap()
    }

    fn answer(&mut self, status: u16, fields: &[(&str, &str)], end: bool) -> Result<(), Misuse> {
        let mut head = Head::response(status).unwrap();
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let stream = self.core.stream();
        self.core.send_head(self.now, stream, &head, end)
    }

    fn send(&mut self, data: &str, end: bool) -> Result<crate::event::Taken, Misuse> {
        let stream = self.core.stream();
        self.core.send_data(self.now, stream, data.as_bytes(), end)
    }
}

fn data(text: &str, end: bool) -> Seen {
    Seen::Data(text.to_owned(), end)
}

const GET: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";

#[test]
fn a_request_and_its_answer() {
    let mut server = Peer::server();
    assert_eq!(server.feed(GET), [Seen::Head(true)]);
    assert_eq!(server.head.authority(), Some(&b"web"[..]));
    server
        .answer(200, &[("content-length", "2")], false)
        .unwrap();
    server.send("ok", true).unwrap();
    let expected = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    assert_eq!(server.written(), expected);
    assert_eq!(server.feed(GET), [Seen::Head(true)]);
}

#[test]
fn pipelined_requests_wait_for_their_turn() {
    let mut server = Peer::server();
    assert_eq!(server.feed(GET.repeat(3)), [Seen::Head(true)]);
    assert!(!server.core.wants_read());
    for _ in 0..2 {
        server
            .answer(204, &[("content-length", "0")], true)
            .unwrap();
        assert_eq!(server.written(), "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(server.feed(""), [Seen::Head(true)]);
    }
    assert!(server.core.wants_read());
}

/// Each is refused: nothing of it is seen, and nothing behind it.
fn refused(request: &str, fault: Fault, status: &str) {
    let mut server = Peer::server();
    let canary = format!("{request}GET /canary HTTP/1.1\r\nhost: web\r\n\r\n");
    let seen = server.feed(canary);
    assert_eq!(seen.last(), Some(&Seen::Closed(fault)), "{request:?}");
    let heads = seen
        .iter()
        .filter(|seen| matches!(seen, Seen::Head(_)))
        .count();
    assert!(
        heads == 0 || matches!(fault, Fault::Chunk | Fault::Trailers),
        "{request:?}"
    );
    let answer = server.written();
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "{answer}"
    );
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(server.core.wants_shutdown());
    assert_eq!(server.feed(GET), []);
}

#[test]
fn h1_length_and_encoding_together_or_obfuscated() {
    let post = |lines: &str| format!("POST / HTTP/1.1\r\nhost: web\r\n{lines}\r\n0\r\n\r\n");
    for both in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: Chunked\r\nContent-Length: 0\r\n",
    ] {
        refused(&post(both), Fault::TwoLengths, "400");
    }
    for odd in [
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: \u{b}chunked\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: , chunked\r\n",
    ] {
        let fault = if odd.contains('\u{b}') {
            Fault::FieldLine
        } else {
            Fault::TransferEncoding
        };
        refused(&post(odd), fault, "400");
    }
    for odd in [
        "transfer-encoding : chunked\r\n",
        "transfer-encoding\t: chunked\r\n",
        "transfer-encoding\u{0}: chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
    ] {
        refused(&post(odd), Fault::FieldLine, "400");
    }
    let old = "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(old, Fault::TransferEncoding, "400");
}

#[test]
fn h2_lengths_that_are_none() {
    for bad in [
        "+5",
        "-5",
        "5,5",
        "5, 6",
        "",
        "0x5",
        "18446744073709551616",
        "five",
        "5 5",
        "5;",
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {bad}\r\n\r\nhello");
        refused(&request, Fault::ContentLength, "400");
    }
    let twice = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello";
    refused(twice, Fault::ContentLength, "400");
    let chunk = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\nhello";
    refused(chunk, Fault::Chunk, "400");
}

#[test]
fn h2_bare_line_feeds() {
    refused("GET / HTTP/1.1\nhost: web\r\n\r\n", Fault::LineEnd, "400");
    refused("GET / HTTP/1.1\r\nhost: web\n\r\n", Fault::LineEnd, "400");
    refused("GET / HTTP/1.1\r\nhost: web\r\n\n", Fault::LineEnd, "400");
}

#[test]
fn h3_fields_that_are_none() {
    for bad in [
        "a: b\r\n c\r\n",
        "a: b\0c\r\n",
        "a: b\rc\r\n",
        ": a\r\n",
        "a b: c\r\n",
        "a\r\n",
        "(a): b\r\n",
        "a: \u{7f}\r\n",
        "\u{e9}: b\r\n",
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: web\r\n{bad}\r\n");
        let mut server = Peer::server();
        let seen = server.feed(request);
        let closed = [Seen::Closed(Fault::FieldLine)];
        let line_end = [Seen::Closed(Fault::LineEnd)];
        assert!(seen == closed || seen == line_end, "{bad:?} {seen:?}");
        assert!(server.written().starts_with("HTTP/1.1 400 "));
    }
}

#[test]
fn h4_one_host_and_a_good_one() {
    for (lines, fault) in [
        ("", Fault::Host),
        ("host: a\r\nhost: a\r\n", Fault::Host),
        ("host: a\r\nHost: b\r\n", Fault::Host),
        ("host: a b\r\n", Fault::Host),
        ("host: a,b\r\n", Fault::Host),
        ("host: u@a\r\n", Fault::Host),
        ("host: a/b\r\n", Fault::Host),
        ("host: a:b\r\n", Fault::Host),
    ] {
        refused(&format!("GET / HTTP/1.1\r\n{lines}\r\n"), fault, "400");
    }
    let mut server = Peer::server();
    assert_eq!(server.feed("GET / HTTP/1.0\r\n\r\n"), [Seen::Head(true)]);
    assert_eq!(server.head.authority(), None);
}

#[test]
fn h4_absolute_form_is_the_one_authority() {
    let cases = [
        ("GET http://b:1/x?y HTTP/1.1", "b:1", "/x?y"),
        ("GET HTTPS://b HTTP/1.1", "b", "/"),
        ("OPTIONS http://b HTTP/1.1", "b", "*"),
        ("GET http://b?q HTTP/1.1", "b", "/?q"),
    ];
    for (line, authority, path) in cases {
        let mut server = Peer::server();
        assert_eq!(
            server.feed(format!("{line}\r\nhost: a\r\n\r\n")),
            [Seen::Head(true)]
        );
        assert_eq!(
            server.head.authority(),
            Some(authority.as_bytes()),
            "{line}"
        );
        assert_eq!(server.head.path(), path.as_bytes(), "{line}");
        assert_eq!(server.head.get(b"host"), None);
    }
    for target in [
        "ftp://a/",
        "http://u@a/",
        "http:///x",
        "a/b",
        "*",
        "/a#b",
        "http://a/#",
        "a:80",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        refused(&request, Fault::Target, "400");
    }
}

#[test]
fn h6_what_connection_names_is_gone() {
    let mut server = Peer::server();
    let request = "GET / HTTP/1.1\r\nhost: web\r\nConnection: X-Once, l5d-client-id, \
                   host\r\nx-once: 1\r\nL5d-Client-Id: a\r\nkeep-alive: 5\r\nproxy-connection: \
                   x\r\nte: gzip, trailers\r\nx: y\r\n\r\n";
    assert_eq!(server.feed(request), [Seen::Head(true)]);
    let names: Vec<_> = server
        .head
        .fields()
        .map(|(name, _)| name.to_vec())
        .collect();
    assert_eq!(names, [&b"x"[..], b"te"]);
    assert_eq!(server.head.authority(), Some(&b"web"[..]));
}

#[test]
fn h6_connection_names_a_few_fields_only() {
    let names = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: {}\r\n\r\n",
            "x,".repeat(n)
        )
    };
    assert_eq!(Peer::server().feed(names(32)), [Seen::Head(true)]);
    refused(&names(33), Fault::FieldLine, "400");
}

#[test]
fn h9_too_much_of_a_head() {
    let long = "a".repeat(65 * 1024);
    let uri = format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n");
    refused(&uri, Fault::TargetTooLong, "414");
    let field = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n");
    refused(&field, Fault::FieldsTooLarge, "431");
    let lines = format!(
        "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
        "x: y\r\n".repeat(100)
    );
    refused(&lines, Fault::TooManyFields, "431");
}

#[test]
fn h10_an_early_answer_to_an_expectation_closes() {
    let mut server = Peer::server();
    let post = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(server.feed(post), [Seen::Head(false)]);
    assert!(server.head.expects_continue());
    server.answer(403, &[], true).unwrap();
    let answer = server.written();
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(server.feed("hello"), [Seen::Closed(Fault::EarlyAnswer)]);
    assert_eq!(server.feed(GET), []);
    assert!(server.core.wants_shutdown());
}

#[test]
fn h10_a_100_lets_the_body_come_and_the_connection_live() {
    let mut server = Peer::server();
    let post = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(server.feed(post), [Seen::Head(false)]);
    server.answer(100, &[], false).unwrap();
    assert_eq!(server.written(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(server.feed("hello"), [data("hello", true)]);
    server.answer(200, &[], true).unwrap();
    assert_eq!(
        server.written(),
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    );
    assert_eq!(server.feed(GET), [Seen::Head(true)]);
}

#[test]
fn h10_a_client_whose_request_is_not_over_does_not_reuse() {
    let mut client = Peer::new(Role::Client, Limits::default());
    let mut head = Head::request("POST", "web", "/").unwrap();
    head.push(b"content-length", b"5").unwrap();
    client.core.open(client.now, &head, false).unwrap();
    let seen = client.feed("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(seen, [Seen::Head(true), Seen::Closed(Fault::EarlyAnswer)]);
    assert!(!client.core.can_open());
}

#[test]
fn h11_answers_that_cannot_be_trusted() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            Fault::ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokmore",
            Fault::Excess,
        ),
        (
            "HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nok",
            Fault::ForbiddenBody,
        ),
        ("HTTP/1.1 204 No\r\n\r\nok", Fault::Excess),
        ("HTTP/1.1 304 No\r\n\r\nok", Fault::Excess),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            Fault::TwoLengths,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            Fault::TransferEncoding,
        ),
        (
            "HTTP/1.1 101 Switch\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Fault::Upgrade,
        ),
        ("HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n", Fault::FieldLine),
        ("HTTP/1.1 200 OK\nx: y\r\n\r\n", Fault::LineEnd),
        ("HTTP/2.0 200 OK\r\n\r\n", Fault::Version),
        ("nonsense\r\n\r\n", Fault::Version),
        ("HTTP/1.1 2000 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 600 OK\r\n\r\n", Fault::StatusLine),
    ];
    for (answer, fault) in cases {
        let mut client = Peer::client();
        assert_eq!(client.feed(answer), [Seen::Closed(fault)], "{answer:?}");
        assert!(!client.core.can_open() && client.core.is_over());
    }
    let mut client = Peer::client();
    let endless = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(33);
    assert_eq!(
        client.feed(endless).last(),
        Some(&Seen::Closed(Fault::Informational))
    );
    let mut client = Peer::client();
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "a".repeat(65 * 1024));
    assert_eq!(client.feed(huge), [Seen::Closed(Fault::FieldsTooLarge)]);
}

#[test]
fn h11_an_answer_nobody_asked_for() {
    let mut client = Peer::client();
    client.written();
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    assert_eq!(client.feed(answer), [Seen::Head(false), data("ok", true)]);
    assert!(client.core.can_open());
    assert_eq!(client.feed(answer), [Seen::Closed(Fault::Excess)]);
}

#[test]
fn h12_a_websocket_turns_the_connection_into_bytes() {
    let upgrade = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: \
                   websocket\r\n\r\n";
    let mut server = Peer::server();
    assert_eq!(server.feed(upgrade), [Seen::Head(true)]);
    assert_eq!(server.head.upgrade(), Some(&b"websocket"[..]));
    let mut client = Peer::new(Role::Client, Limits::default());
    client.core.open(client.now, &server.head, true).unwrap();
    assert_eq!(client.send("too early", false).unwrap().bytes, 0);
    let forwarded = client.written();
    let expected = "connection: upgrade\r\nupgrade: websocket\r\n";
    assert!(forwarded.contains(expected), "{forwarded}");

    let seen =
        client.feed("HTTP/1.1 101 Go\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhi");
    assert_eq!(seen, [Seen::Head(false), data("hi", false)]);
    let (now, stream) = (server.now, server.core.stream());
    server
        .core
        .send_head(now, stream, &client.head, false)
        .unwrap();
    assert!(
        server
            .written()
            .starts_with("HTTP/1.1 101 Switching Protocols\r\n")
    );
    assert_eq!(server.feed("raw"), [data("raw", false)]);
    server.send("later", false).unwrap();
    assert!(!server.core.output(server.now).is_empty());
    assert_eq!(server.core.next_deadline(), None);
    server.written();
    server.send("bye", true).unwrap();
    assert!(!server.core.output(server.now).is_empty());
    assert_eq!(
        server.core.next_deadline(),
        None,
        "nor is its last word due"
    );
    assert_eq!(server.written(), "bye");
    assert!(server.core.wants_shutdown() && !server.core.is_over());
    assert_eq!(
        server.eof(),
        [data("", true), Seen::Closed(Fault::Finished)]
    );
    assert!(server.core.is_over());
}

#[test]
fn h12_no_h2c_and_no_tunnel_that_was_refused() {
    let h2c = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: \
               h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    let mut server = Peer::server();
    assert_eq!(server.feed(h2c), [Seen::Head(true)]);
    assert!(server.head.upgrade().is_none() && server.head.is_empty());

    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let mut server = Peer::server();
    assert_eq!(server.feed(upgrade), [Seen::Head(true)]);
    server.answer(400, &[], true).unwrap();
    assert_eq!(server.feed(GET), [Seen::Head(true)]);
}

#[test]
fn h12_what_came_early_behind_an_upgrade_that_is_declined_is_no_request() {
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let mut server = Peer::server();
    assert_eq!(server.feed(format!("{upgrade}{GET}")), [Seen::Head(true)]);
    server.answer(200, &[], true).unwrap();
    assert!(server.written().contains("connection: close\r\n"));
    assert_eq!(server.feed(""), [Seen::Closed(Fault::Finished)]);
    assert_eq!(server.feed(GET), []);
    // HTTP/1.0 does not ask (RFC 9110 §7.8), so that this is a request like any other.
    let old = upgrade.replace("HTTP/1.1", "HTTP/1.0");
    let old = old.replace("connection: upgrade", "connection: keep-alive, upgrade");
    let mut server = Peer::server();
    assert_eq!(server.feed(format!("{old}{GET}")), [Seen::Head(true)]);
    assert_eq!(server.head.upgrade(), None);
    server.answer(200, &[], true).unwrap();
    assert_eq!(server.feed(""), [Seen::Head(true)]);
}

#[test]
fn h12_nothing_is_taken_for_a_request_behind_a_connect_that_is_refused() {
    let mut server = Peer::server();
    server.feed("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
    server.answer(403, &[], true).unwrap();
    assert!(server.written().contains("connection: close\r\n"));
    assert_eq!(server.feed(GET), [Seen::Closed(Fault::Finished)]);
    assert!(server.core.wants_shutdown());
}

#[test]
fn h12_connect_in_its_one_form() {
    let mut server = Peer::server();
    assert_eq!(
        server.feed("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\nearly"),
        [Seen::Head(false)]
    );
    assert!(server.head.is_connect() && server.head.path().is_empty());
    server.answer(200, &[], false).unwrap();
    assert_eq!(server.written(), "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(server.feed(""), [data("early", false)]);
    for target in ["a", "/", "http://a:1/", "a:", "[::1]", "a:1/x"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        refused(&request, Fault::Target, "400");
    }
    let body = "CONNECT a:1 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n";
    refused(body, Fault::ForbiddenBody, "400");
    // HTTP/2 has CONNECTs without a port; HTTP/1 cannot say them.
    let mut client = Peer::new(Role::Client, Limits::default());
    let head = Head::request("CONNECT", "a", "").unwrap();
    let opened = client.core.open(client.now, &head, false);
    assert_eq!(opened, Err(Misuse::Head));

    let mut client = Peer::asking("CONNECT");
    assert_eq!(client.send("too early", false).unwrap().bytes, 0);
    assert_eq!(
        client.feed("HTTP/1.1 200 OK\r\n\r\nx"),
        [Seen::Head(false), data("x", false)]
    );
    assert_eq!(client.send("now", false).unwrap().bytes, 3);
    let mut client = Peer::asking("CONNECT");
    assert_eq!(
        client.feed("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n"),
        [Seen::Head(true)]
    );
    assert!(client.core.can_open());
}

#[test]
fn chunks_and_trailers_go_through() {
    let mut server = Peer::server();
    let post = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(server.feed(post), [Seen::Head(false)]);
    let seen = server.feed("2\r\nab\r\n1\r\nc\r\n0\r\nx: y\r\n\r\n");
    assert_eq!(
        seen,
        [data("ab", false), data("c", false), Seen::Trailers(1)]
    );
    server.answer(200, &[], false).unwrap();
    server.send("hello world, hello", false).unwrap();
    let (now, stream) = (server.now, server.core.stream());
    let trailers = server.head.clone();
    server.core.send_trailers(now, stream, &trailers).unwrap();
    let expected = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n12\r\nhello world, \
                    hello\r\n0\r\nx: y\r\n\r\n";
    assert_eq!(server.written(), expected);
    for bad in [
        "content-length: 1",
        "transfer-encoding: chunked",
        "host: x",
        " a: b",
        "a : b",
    ] {
        refused(&format!("{post}0\r\n{bad}\r\n\r\n"), Fault::Trailers, "400");
    }
}

#[test]
fn http_1_0_has_neither_chunks_nor_1xx() {
    let mut server = Peer::server();
    assert_eq!(server.feed("GET / HTTP/1.0\r\n\r\n"), [Seen::Head(true)]);
    server.answer(103, &[], false).unwrap();
    server.answer(200, &[], false).unwrap();
    server.send("to the end", true).unwrap();
    assert_eq!(
        server.written(),
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end"
    );
    assert!(server.core.wants_shutdown());

    let mut server = Peer::server();
    server.feed("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    server
        .answer(200, &[("content-length", "0")], true)
        .unwrap();
    assert!(server.written().contains("connection: keep-alive\r\n"));
    assert_eq!(server.feed(GET), [Seen::Head(true)]);
}

#[test]
fn answers_without_a_body_keep_what_they_say_of_it() {
    let mut server = Peer::server();
    server.feed("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    server
        .answer(200, &[("content-length", "5")], true)
        .unwrap();
    assert_eq!(
        server.written(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    );
    let mut client = Peer::asking("HEAD");
    assert_eq!(
        client.feed("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        [Seen::Head(true)]
    );
    assert!(client.core.can_open());
}

#[test]
fn an_answer_may_end_with_the_connection() {
    let mut client = Peer::client();
    let seen = client.feed("HTTP/1.1 200 OK\r\n\r\nsome");
    assert_eq!(seen, [Seen::Head(false), data("some", false)]);
    assert_eq!(
        client.eof(),
        [data("", true), Seen::Closed(Fault::Finished)]
    );
    let mut client = Peer::client();
    client.feed("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nsome");
    assert_eq!(client.eof(), [Seen::Closed(Fault::Truncated)]);
}

#[test]
fn a_client_that_closes_its_half_still_gets_its_answer() {
    let mut server = Peer::server();
    assert_eq!(server.feed(GET), [Seen::Head(true)]);
    assert_eq!(server.eof(), []);
    server.answer(200, &[], true).unwrap();
    assert_eq!(server.feed(""), [Seen::Closed(Fault::PeerClosed)]);
    assert!(!server.core.is_over());
    server.written();
    assert!(server.core.is_over());
}

#[test]
fn a_body_that_is_not_as_declared_is_never_whole() {
    for (data, end) in [("toolong", false), ("x", true)] {
        let mut server = Peer::server();
        server.feed(GET);
        server
            .answer(200, &[("content-length", "2")], false)
            .unwrap();
        assert_eq!(server.send(data, end), Err(Misuse::Length));
        assert!(server.core.is_aborted());
    }
}

#[test]
fn h15_a_reader_that_stops_stops_the_source() {
    let mut server = Peer::server();
    server.feed("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n");
    let seen = server.feed("x".repeat(90_000));
    assert!(matches!(&seen[..], [Seen::Data(text, false)] if text.len() == 65_535));
    assert!(!server.core.wants_read());
    let (now, stream) = (server.now, server.core.stream());
    server.core.consume(now, stream, 65_535);
    let seen = server.feed("x".repeat(10_000));
    assert!(
        matches!(&seen[..], [Seen::Data(text, true)] if text.len() == 34_465),
        "{seen:?}"
    );
}

#[test]
fn h15_output_is_bounded_and_says_when_it_has_left() {
    let mut server = Peer::server();
    server.feed(GET);
    server.answer(200, &[], false).unwrap();
    let much = "x".repeat(300_000);
    let taken = server.send(&much, true).unwrap();
    assert!(taken.bytes < 131_072 && taken.queued > 60_000, "{taken:?}");
    assert_eq!(server.send(&much, true).unwrap().bytes, 0);
    assert_eq!(server.feed(""), []);
    let now = server.now;
    server.core.wrote(70_000, now);
    let sent = server.feed("");
    assert!(
        matches!(sent[..], [Seen::Sent(n)] if n == taken.queued),
        "{sent:?}"
    );
}

#[test]
fn h15_who_takes_much_at_once_may_be_sent_more() {
    let mut server = Peer::server();
    server.feed(GET);
    server
        .answer(200, &[("content-length", "9000000")], false)
        .unwrap();
    server.written();
    let much = "x".repeat(400_000);
    for (waits, direct) in [(false, 64), (true, 256), (false, 64)] {
        server.core.reclaim();
        server.core.lend(|| Vec::with_capacity(1));
        let taken = server.send(&much, false).unwrap();
        assert_eq!(taken.bytes, (direct + 64) * 1024);
        if waits {
            server.core.waits();
        }
        server.written();
        assert_eq!(server.feed(""), [Seen::Sent(taken.queued)]);
    }
}

#[test]
fn a_queue_grows_when_told() {
    let mut server = Peer::server();
    server.feed(GET);
    server.answer(200, &[], false).unwrap();
    let (now, stream) = (server.now, server.core.stream());
    server.core.grow_queue(stream, 1 << 20);
    let much = "x".repeat(1 << 20);
    assert_eq!(
        server
            .core
            .send_data(now, stream, much.as_bytes(), true)
            .unwrap()
            .bytes,
        1 << 20
    );
}

#[test]
fn a_server_that_leaves_says_so_with_its_last_answer() {
    let mut idle = Peer::server();
    idle.core.shutdown(idle.now);
    assert_eq!(idle.feed(""), [Seen::Closed(Fault::Finished)]);
    let mut server = Peer::server();
    server.feed(GET);
    server.core.shutdown(server.now);
    server.answer(200, &[], true).unwrap();
    assert!(server.written().contains("connection: close\r\n"));
    assert_eq!(server.feed(GET), [Seen::Closed(Fault::Finished)]);
}

#[test]
fn what_is_given_up_is_reset() {
    let mut server = Peer::server();
    server.feed(GET);
    server.answer(200, &[], false).unwrap();
    server.send("half", false).unwrap();
    let (now, stream) = (server.now, server.core.stream());
    server.core.reset(now, stream);
    assert!(server.core.is_aborted() && !server.core.wants_write());
    assert_eq!(server.feed(""), [Seen::Closed(Fault::Aborted)]);
    assert_eq!(server.send("more", false), Err(Misuse::NoStream));
}

#[test]
fn h18_a_buffer_is_lent_and_given_back() {
    let mut server = Peer::server();
    server.core.lend(|| Vec::with_capacity(4096));
    server.core.lend(|| unreachable!("it has one"));
    server.feed(GET);
    server.answer(200, &[], true).unwrap();
    assert!(server.core.reclaim().is_none());
    server.written();
    assert_eq!(
        server.core.reclaim().map(|buffer| buffer.capacity()),
        Some(4096)
    );
    assert!(server.core.reclaim().is_none());
}

#[test]
fn h17_a_slow_reader_of_the_last_answer_gets_all_of_it() {
    let mut server = Peer::server();
    server.feed("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    server.answer(200, &[], true).unwrap();
    for _ in 0..20 {
        assert!(!server.core.output(server.now).is_empty());
        server.now += Duration::from_secs(10);
        server.core.wrote(1, server.now);
        server.core.on_deadline(server.now);
    }
    assert!(server.core.wants_write() && !server.core.is_over());
}

#[test]
fn h17_deadlines() {
    let limits = Limits::default();
    let mut server = Peer::server();
    assert_eq!(
        server.core.next_deadline(),
        Some(server.now + limits.head_time)
    );
    server.now += limits.head_time / 2;
    server.feed("GET / HT");
    server.now += limits.head_time / 2;
    let now = server.now;
    server.core.on_deadline(now);
    assert_eq!(server.feed(""), [Seen::Closed(Fault::HeadTimeout)]);
    assert!(server.written().starts_with("HTTP/1.1 408 "));
    server.now += limits.linger_time;
    let now = server.now;
    server.core.on_deadline(now);
    assert!(server.core.is_over());
}

#[test]
fn h17_who_was_told_of_the_end_may_send_on_but_not_for_ever() {
    let limits = Limits::default();
    let often = limits.linger_time / 2;
    for (pause, lasts) in [
        // It goes on, and nothing ends it but the whole time that it may.
        (often, limits.linger_most),
        // It stops, and does not close.
        (limits.linger_most, limits.linger_time),
    ] {
        let mut server = Peer::server();
        server.feed("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999\r\n\r\nx");
        server.answer(401, &[], true).unwrap();
        assert_eq!(server.feed(""), [Seen::Closed(Fault::EarlyAnswer)]);
        server.now += Duration::from_secs(1);
        assert!(server.written().starts_with("HTTP/1.1 401 "));
        let told = server.now;
        let mut sends = told + pause;
        loop {
            let due = server.core.next_deadline().unwrap();
            server.now = due.min(sends);
            if sends < due {
                assert_eq!(server.feed("more"), []);
                sends += pause;
            }
            let now = server.now;
            server.core.on_deadline(now);
            if server.core.is_over() {
                break;
            }
        }
        assert_eq!(server.now - told, lasts);
    }
}

#[test]
fn h17_an_idle_keep_alive_survives_and_a_slow_body_does_not() {
    let mut server = Peer::server();
    server.feed(GET);
    server.answer(200, &[], true).unwrap();
    server.written();
    server.now += Duration::from_secs(300);
    let now = server.now;
    server.core.on_deadline(now);
    assert_eq!(
        server
            .feed("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nx")
            .len(),
        2
    );
    server.now += Limits::default().body_time;
    let now = server.now;
    server.core.on_deadline(now);
    assert_eq!(server.feed(""), [Seen::Closed(Fault::BodyTimeout)]);
}

#[test]
fn h17_a_body_is_due_once_its_client_was_told_to_send_it() {
    let post = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let late = |server: &mut Peer| {
        server.now += Limits::default().body_time;
        let now = server.now;
        server.core.on_deadline(now);
        server.feed("")
    };
    for by_itself in [false, true] {
        let mut server = Peer::server();
        assert_eq!(server.feed(post), [Seen::Head(false)]);
        assert_eq!(late(&mut server), []);
        if by_itself {
            assert_eq!(server.feed("h"), [data("h", false)]);
        } else {
            server.answer(100, &[], false).unwrap();
        }
        server.now += Limits::default().body_time / 2;
        let now = server.now;
        server.core.on_deadline(now);
        assert_eq!(server.feed(""), []);
        assert_eq!(late(&mut server), [Seen::Closed(Fault::BodyTimeout)]);
    }
}

#[test]
fn h17_a_peer_that_does_not_read_is_left() {
    let mut server = Peer::server();
    server.feed(GET);
    server.answer(200, &[], true).unwrap();
    assert!(!server.core.output(server.now).is_empty());
    server.now += Limits::default().write_time;
    let now = server.now;
    server.core.on_deadline(now);
    assert!(server.core.is_aborted());
}

#[test]
fn a_connection_is_small() {
    assert!(
        size_of::<Connection>() <= 320,
        "{}",
        size_of::<Connection>()
    );
}
