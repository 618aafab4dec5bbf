//! HTTP/1, byte by byte, at both ends.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::namespace::{B, SERVICE};

use crate::{
    content::{check, content},
    origin::{MANY, Origin, UNTIL_CLOSED},
    ours::{self, GUARDED, Way},
    place::{Place, UNMESHED, declared, detected, open},
    report::{Group, Report},
    tunnels,
    wire::{Message, Wire, block_on},
};

const PORT: u16 = 8000;
/// The same server's, declared to be HTTP/1.
const DECLARED: u16 = 8001;
/// Declared to be nothing, and HTTP/1 all the same.
const OPAQUE: u16 = 8002;

#[test]
fn h4_h6_h7_h8_h10_http1_arrives_as_it_was_written() {
    let ports = [
        detected(PORT),
        declared(DECLARED, Protocol::Http1).at(PORT),
        declared(OPAQUE, Protocol::Opaque),
        open(UNMESHED, Protocol::Detect),
    ];
    let mut place = Place::new(&[&ports[..], &ours::guarded()].concat());
    let servers = [PORT, OPAQUE, UNMESHED, GUARDED];
    let _origins = servers.map(|port| Origin::http1(&place, port));
    let mut report = Report::new(Group::Http1);
    for (how, to) in [
        ("detected", (SERVICE, PORT)),
        ("declared", (SERVICE, DECLARED)),
        ("without a sidecar", (B, UNMESHED)),
    ] {
        for (name, case) in CASES.iter().chain(tunnels::CASES) {
            report.case(format!("{how}: {name}"), case(&place, to.into()));
        }
        let way = Way {
            place: &place,
            to: to.into(),
            speak: ours::http1,
        };
        for (name, outcome) in way.cases() {
            report.case(format!("{how}: {name}"), outcome);
        }
        report.case(format!("{how}: names of ours in Connection"), way.named());
    }
    let outcome = ours::opens_nothing(&place, ours::http1);
    report.case("without a sidecar: no name opens a port", outcome);
    let outcome = many_requests(&place, (SERVICE, OPAQUE).into());
    report.case("opaque: many requests", outcome);
    report.finish(&mut place);
}

pub(crate) type Case = fn(&Place, SocketAddr) -> Result<()>;

const CASES: &[(&str, Case)] = &[
    ("a request's names and their order", request_names),
    ("an answer's names and their order", answer_names),
    ("many requests on a connection", many_requests),
    ("requests in one piece", pipelined),
    ("a request byte by byte", byte_by_byte),
    ("a request whose client sends no more", half_closed),
    ("HEAD, and a request behind it", head_request),
    ("204 and 304, and a request behind them", bodiless),
    ("trailers in both directions", trailers),
    ("chunks of one byte", tiny_chunks),
    ("100 Continue before the body", continued),
    ("an early refusal of a body", refused_body),
    ("103 before the answer", early_hints),
    ("HTTP/1.0", http10),
    ("HTTP/1.0 with keep-alive", http10_kept),
    ("an answer that ends with the connection", until_closed),
    ("absolute-form", absolute_form),
];

/// Sends `text`, and reads answers to these methods.
pub(crate) fn ask(
    place: &Place,
    to: SocketAddr,
    text: &str,
    methods: &[&str],
) -> Result<Vec<Message>> {
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send(text).await?;
        let mut answers = Vec::new();
        for method in methods {
            answers.push(wire.answer(method).await?);
        }
        Ok(answers)
    })
}

fn get(place: &Place, to: SocketAddr, path: &str) -> Result<Message> {
    let text = format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n");
    let mut answers = ask(place, to, &text, &["GET"])?;
    answers.pop().context("no answer")
}

fn request_names(place: &Place, to: SocketAddr) -> Result<()> {
    let text = "GET /head HTTP/1.1\r\nHost: web\r\nX-MANY: 1\r\nX-Between: caf\u{e9}\r\n\
                x-many: 2, 3\r\nX-Empty:\r\nX-Many: 1\r\nCookie: a=1; b=2\r\n\r\n";
    let bytes = crate::wire::bytes_of(text);
    let socket = place.connect_to(to)?;
    let answer = block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send(bytes).await?;
        wire.answer("GET").await
    })?;
    let seen = lines(&answer.body);
    equal(
        &seen.first().map(String::as_str),
        &Some("GET /head HTTP/1.1"),
    )?;
    let named = |name: &str| -> Vec<String> {
        let prefix = format!("{name}: ");
        let values = seen.iter().filter_map(|line| line.strip_prefix(&prefix));
        values.map(str::to_owned).collect()
    };
    equal(&named("x-many"), &owned(&["1", "2, 3", "1"]))?;
    equal(&named("x-between"), &owned(&["caf\u{e9}"]))?;
    equal(&named("x-empty"), &owned(&[""]))?;
    equal(&named("cookie"), &owned(&["a=1; b=2"]))?;
    equal(&named("host"), &owned(&["web"]))?;
    let loud = seen.iter().skip(1).find(|line| {
        let (name, _) = line.split_once(':').unwrap_or((line, ""));
        name.contains(char::is_uppercase)
    });
    equal(&loud, &None)
}

fn answer_names(place: &Place, to: SocketAddr) -> Result<()> {
    let answer = get(place, to, "/many")?;
    check_quiet(&answer.head.fields)?;
    check_many(&answer.head.fields)
}

/// All that the server sent under each name, in its order.
pub(crate) fn check_many(fields: &[(String, String)]) -> Result<()> {
    for name in ["set-cookie", "x-many", "x-other"] {
        let sent = MANY.iter().filter(|(other, _)| *other == name);
        let sent: Vec<&str> = sent.map(|(_, value)| *value).collect();
        let found = fields.iter().filter(|(other, _)| other == name);
        let found: Vec<&str> = found.map(|(_, value)| &**value).collect();
        ensure!(found == sent, "{name}: {found:?} instead of {sent:?}");
    }
    Ok(())
}

/// No name with capitals.
fn check_quiet(fields: &[(String, String)]) -> Result<()> {
    let loud = fields
        .iter()
        .find(|(name, _)| name.contains(char::is_uppercase));
    equal(&loud, &None)
}

fn many_requests(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        for number in 0..100 {
            let length = number * 97;
            let head =
                format!("POST /echo HTTP/1.1\r\nHost: web\r\nContent-Length: {length}\r\n\r\n");
            wire.send(head).await?;
            wire.send(content(length)).await?;
            check(&wire.answer("POST").await?.body, length)?;
        }
        Ok(())
    })
}

fn pipelined(place: &Place, to: SocketAddr) -> Result<()> {
    let text = "GET /bytes/300 HTTP/1.1\r\nHost: web\r\n\r\n\
                POST /echo HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nfirst\
                HEAD /bytes/7 HTTP/1.1\r\nHost: web\r\n\r\n\
                POST /echo HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n\
                6\r\nsecond\r\n0\r\n\r\n\
                GET /bytes/10 HTTP/1.1\r\nHost: web\r\n\r\n";
    let methods = ["GET", "POST", "HEAD", "POST", "GET"];
    let answers = ask(place, to, text, &methods)?;
    check(&answers[0].body, 300)?;
    equal(&&*answers[1].body, &&b"first"[..])?;
    equal(&answers[2].head.get("content-length"), &Some("7"))?;
    equal(&&*answers[3].body, &&b"second"[..])?;
    check(&answers[4].body, 10)
}

fn byte_by_byte(place: &Place, to: SocketAddr) -> Result<()> {
    let text = "POST /echo HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nbytes";
    let socket = place.connect_to(to)?;
    let answer = block_on(async {
        let mut wire = Wire::client(socket)?;
        for byte in text.as_bytes() {
            wire.send([*byte]).await?;
            tokio::task::yield_now().await;
        }
        wire.answer("POST").await
    })?;
    equal(&&*answer.body, &&b"bytes"[..])
}

fn half_closed(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    let (answer, rest) = block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send("GET /bytes/100000 HTTP/1.1\r\nHost: web\r\n\r\n")
            .await?;
        wire.finish().await?;
        Ok((wire.answer("GET").await?, wire.rest().await?))
    })?;
    check(&answer.body, 100_000)?;
    equal(&rest, &Vec::new())
}

fn head_request(place: &Place, to: SocketAddr) -> Result<()> {
    let text = "HEAD /bytes/1024 HTTP/1.1\r\nHost: web\r\n\r\n\
                GET /bytes/5 HTTP/1.1\r\nHost: web\r\n\r\n";
    let answers = ask(place, to, text, &["HEAD", "GET"])?;
    equal(&answers[0].head.get("content-length"), &Some("1024"))?;
    check(&answers[1].body, 5)
}

fn bodiless(place: &Place, to: SocketAddr) -> Result<()> {
    let text = "GET /status/204 HTTP/1.1\r\nHost: web\r\n\r\n\
                GET /status/304 HTTP/1.1\r\nHost: web\r\n\r\n\
                GET /bytes/5 HTTP/1.1\r\nHost: web\r\n\r\n";
    let answers = ask(place, to, text, &["GET"; 3])?;
    equal(&answers[0].head.status()?, &204)?;
    equal(&answers[0].head.get("content-length"), &None)?;
    equal(&answers[1].head.status()?, &304)?;
    check(&answers[2].body, 5)
}

fn trailers(place: &Place, to: SocketAddr) -> Result<()> {
    let text = "POST /trailers HTTP/1.1\r\nHost: web\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
                Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n";
    let answers = ask(place, to, text, &["POST"])?;
    equal(&&*answers[0].body, &&b"body"[..])?;
    let expected = [("x-sum", "1"), ("x-sum", "2"), ("x-of-server", "yes")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    equal(&answers[0].trailers, &expected.to_vec())
}

fn tiny_chunks(place: &Place, to: SocketAddr) -> Result<()> {
    const LENGTH: usize = 5000;
    let head = "POST /echo HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    for (at, byte) in content(LENGTH).into_iter().enumerate() {
        // Not with each: many extensions are an attack.
        let size: &[u8] = if at < 100 { b"1;extension=x" } else { b"1" };
        bytes.extend([size, b"\r\n", &[byte], b"\r\n"].concat());
    }
    bytes.extend(b"0\r\n\r\n");
    let socket = place.connect_to(to)?;
    let answer = block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send(bytes).await?;
        wire.answer("POST").await
    })?;
    check(&answer.body, LENGTH)
}

fn continued(place: &Place, to: SocketAddr) -> Result<()> {
    let head = "POST /hinted HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\
                Expect: 100-continue\r\n\r\n";
    let socket = place.connect_to(to)?;
    let answer = block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send(head).await?;
        // The server's own 100 comes behind what it says first.
        for status in [103, 100] {
            let said = wire.some_head().await?;
            ensure!(said.status()? == status, "{said:?} before the body");
        }
        wire.send("body").await?;
        wire.answer("POST").await
    })?;
    equal(&answer.head.status()?, &200)?;
    equal(&&*answer.body, &&b"body"[..])
}

/// H10: what its client sends next could be the body, or another request.
fn refused_body(place: &Place, to: SocketAddr) -> Result<()> {
    let head = "POST /refuse HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000\r\n\
                Expect: 100-continue\r\n\r\n";
    let socket = place.connect_to(to)?;
    let (first, rest) = block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send(head).await?;
        Ok((wire.some_head().await?, wire.rest().await?))
    })?;
    equal(&first.status()?, &417)?;
    equal(&rest, &Vec::new())
}

fn early_hints(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send("GET /hints HTTP/1.1\r\nHost: web\r\n\r\n")
            .await?;
        let hints = wire.some_head().await?;
        equal(&hints.status()?, &103)?;
        equal(&hints.get("link"), &Some("</a.css>; rel=preload"))?;
        check_many(&wire.answer("GET").await?.head.fields)
    })
}

fn http10(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    let (answer, rest) = block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send("GET /bytes/3000 HTTP/1.0\r\n\r\n").await?;
        Ok((wire.answer("GET").await?, wire.rest().await?))
    })?;
    check(&answer.body, 3000)?;
    equal(&answer.head.get("transfer-encoding"), &None)?;
    equal(&rest, &Vec::new())
}

fn http10_kept(place: &Place, to: SocketAddr) -> Result<()> {
    let request = "GET /bytes/3000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answers = ask(place, to, &request.repeat(2), &["GET"; 2])?;
    for answer in &answers {
        check(&answer.body, 3000)?;
        let kept = answer.head.get("connection").map(str::to_ascii_lowercase);
        equal(&kept.as_deref(), &Some("keep-alive"))?;
    }
    Ok(())
}

fn until_closed(place: &Place, to: SocketAddr) -> Result<()> {
    let answer = get(place, to, "/close")?;
    equal(&answer.head.status()?, &200)?;
    check(&answer.body, UNTIL_CLOSED)
}

/// H4: the authority of the target counts, and nobody hears of that of `Host`
/// (RFC 9112 §3.2.2).
fn absolute_form(place: &Place, to: SocketAddr) -> Result<()> {
    let text = "GET http://shop.example/head?q=1 HTTP/1.1\r\nHost: web\r\n\r\n";
    let answers = ask(place, to, text, &["GET"])?;
    let seen = lines(&answers[0].body);
    equal(&&*seen[0], &"GET /head?q=1 HTTP/1.1")?;
    let hosts = seen.iter().filter(|line| line.starts_with("host:"));
    let hosts: Vec<&str> = hosts.map(|line| &**line).collect();
    equal(&hosts, &vec!["host: shop.example"])?;
    ensure!(!seen.iter().any(|line| line.contains("web")), "{seen:?}");
    Ok(())
}

/// The head that the server saw, as it answers to `/head`.
fn lines(body: &[u8]) -> Vec<String> {
    let text: String = body.iter().map(|byte| char::from(*byte)).collect();
    text.lines().map(str::to_owned).collect()
}

fn owned(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// Fails unless both are the same.
pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<()> {
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}
