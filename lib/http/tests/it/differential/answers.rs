//! Answers of HTTP/1 that cannot be trusted, and those that can: what a client
//! gets of them.

use std::thread;

use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use mesh_http::{
    event::{Event, Role},
    head::Head,
    limits::Limits,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Understood, fields_of, list, of_head, proxies::Proxy, raw::Raw};
use crate::side::Side;

/// No answer, or one that is cut off.
const REFUSED: &str = "refused";

struct Case {
    name: String,
    head_only: bool,
    answer: Vec<u8>,
}

fn ok(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}")
}

fn chunked(body: &str) -> String {
    ok("transfer-encoding: chunked\r\n", body)
}

fn other(line: &str, lines: &str, body: &str) -> String {
    format!("{line}\r\n{lines}\r\n{body}")
}

const FIVE: &str = "content-length: 5\r\n";
const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";
const NONE: &str = "HTTP/1.1 204 No Content";

fn good() -> Vec<(&'static str, String)> {
    vec![
        ("good-length", ok(FIVE, "hello")),
        ("good-chunks", chunked(CHUNKS)),
        ("good-trailers", chunked("5\r\nhello\r\n0\r\nx: y\r\n\r\n")),
        ("good-until-close", ok("", "hello")),
        ("good-none", other(NONE, "", "")),
        ("good-empty", ok("content-length: 0\r\n", "")),
        (
            "good-fields",
            ok(
                "a: b\r\nA: c\r\nset-cookie: d\r\nset-cookie: e\r\ncontent-length: 0\r\n",
                "",
            ),
        ),
        (
            "good-continue",
            format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok(FIVE, "hello")),
        ),
        (
            "good-early-hints",
            format!(
                "HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n{}",
                ok(FIVE, "hello")
            ),
        ),
        (
            "good-not-modified",
            other("HTTP/1.1 304 Not Modified", "etag: x\r\n", ""),
        ),
        ("good-http10", other("HTTP/1.0 200 OK", "", "hello")),
        ("good-no-reason", other("HTTP/1.1 200 ", FIVE, "hello")),
        ("good-own-status", other("HTTP/1.1 299 Own", FIVE, "hello")),
    ]
}

fn framing() -> Vec<(&'static str, String)> {
    let both = ok(
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        CHUNKS,
    );
    let te = |value: &str| ok(&format!("transfer-encoding: {value}\r\n"), CHUNKS);
    let cl = |value: &str| ok(&format!("content-length: {value}\r\n"), "hello");
    vec![
        ("two-lengths", both),
        ("lengths-same", ok(&FIVE.repeat(2), "hello")),
        (
            "lengths-other",
            ok("content-length: 5\r\ncontent-length: 6\r\n", "hello"),
        ),
        ("length-plus", cl("+5")),
        ("length-list", cl("5,5")),
        ("length-empty", cl("")),
        ("length-letters", cl("five")),
        ("length-2-to-64", cl("18446744073709551621")),
        ("coding-gzip", te("gzip")),
        ("coding-gzip-chunked", te("gzip, chunked")),
        ("coding-twice", te("chunked, chunked")),
        (
            "coding-http10",
            other("HTTP/1.0 200 OK", "transfer-encoding: chunked\r\n", CHUNKS),
        ),
        ("cut-off-length", ok("content-length: 6\r\n", "hello")),
        ("cut-off-chunk", chunked("5\r\nhel")),
        ("cut-off-last-chunk", chunked("5\r\nhello\r\n")),
        ("cut-off-head", "HTTP/1.1 200 OK\r\ncontent-le".to_owned()),
        ("chunk-no-digit", chunked("g\r\nhello\r\n0\r\n\r\n")),
        ("chunk-lone-lf", chunked("5\nhello\n0\n\n")),
        ("chunk-longer", chunked("5\r\nhello!\r\n0\r\n\r\n")),
        ("bytes-behind-length", ok(FIVE, "hello and more")),
        ("bytes-behind-chunks", chunked(&format!("{CHUNKS}more"))),
        ("bytes-behind-none", other(NONE, "", "more")),
        ("two-answers", ok(FIVE, "hello").repeat(2)),
        ("none-with-length", other(NONE, FIVE, "hello")),
        (
            "none-chunked",
            other(NONE, "transfer-encoding: chunked\r\n", CHUNKS),
        ),
        (
            "continue-with-length",
            format!("HTTP/1.1 100 Continue\r\n{FIVE}\r\n{}", ok(FIVE, "hello")),
        ),
    ]
}

fn heads() -> Vec<(&'static str, String)> {
    let field = |lines: &str| ok(&format!("{lines}content-length: 0\r\n"), "");
    let many: String = (0..101).map(|n| format!("x-{n}: y\r\n")).collect();
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40);
    vec![
        ("nothing", String::new()),
        ("no-http", "hello, this is no HTTP\r\n\r\n".to_owned()),
        ("status-99", other("HTTP/1.1 99 X", FIVE, "hello")),
        ("status-600", other("HTTP/1.1 600 X", FIVE, "hello")),
        ("status-letters", other("HTTP/1.1 2xx X", FIVE, "hello")),
        ("status-long", other("HTTP/1.1 2000 X", FIVE, "hello")),
        ("status-missing", other("HTTP/1.1", FIVE, "hello")),
        ("version-20", other("HTTP/2.0 200 OK", FIVE, "hello")),
        ("version-12", other("HTTP/1.2 200 OK", FIVE, "hello")),
        (
            "switch-unasked",
            other(
                "HTTP/1.1 101 X",
                "connection: upgrade\r\nupgrade: x\r\n",
                "hello",
            ),
        ),
        ("hints-x40", hints + &ok(FIVE, "hello")),
        ("field-folded", field("a: b\r\n c\r\n")),
        ("field-nul", field("a: b\0\r\n")),
        ("field-lone-lf", field("a: b\nc: d\r\n")),
        ("field-lone-cr", field("a: b\rc: d\r\n")),
        ("field-space-before-colon", field("a : b\r\n")),
        ("field-no-colon", field("ab\r\n")),
        (
            "field-large",
            field(&format!("a: {}\r\n", "b".repeat(65 * 1024))),
        ),
        ("field-102-lines", field(&many)),
        ("field-named", field("connection: a\r\na: b\r\nc: d\r\n")),
    ]
}

fn cases() -> Vec<Case> {
    let of = |head_only| {
        move |(name, answer): (&str, String)| Case {
            name: format!("answer h11-{name}"),
            head_only,
            answer: answer.into_bytes(),
        }
    };
    let all = [good(), framing(), heads()].concat();
    let to_head = vec![
        ("to-head-length", ok(FIVE, "")),
        ("to-head-chunked", ok("transfer-encoding: chunked\r\n", "")),
        ("to-head-body", ok(FIVE, "hello")),
    ];
    let plain = all.into_iter().map(of(false));
    plain.chain(to_head.into_iter().map(of(true))).collect()
}

/// What a client of this engine gets.
fn ours(case: &Case) -> String {
    let mut side = Side::new(false, Role::Client, Limits::default());
    let method = if case.head_only { "HEAD" } else { "GET" };
    let request = Head::request(method, "web", "/").unwrap();
    side.core.open(side.now, &request, true).unwrap();
    side.take_all();
    let (mut input, mut answer, mut status) = (&case.answer[..], Understood::default(), 0);
    for _ in 0..2 {
        while let Some(event) = side.core.poll_event(side.now, &mut input, &mut side.head) {
            let end = match event {
                Event::Head { end, .. } => {
                    status = side.head.status().unwrap();
                    answer = of_head(&side.head);
                    end
                }
                Event::Data { bytes, end, .. } => {
                    answer.body.extend_from_slice(bytes);
                    end
                }
                Event::Trailers { .. } => {
                    answer.trailers = of_head(&side.head).fields;
                    true
                }
                Event::Closed(_) => return REFUSED.to_owned(),
                _ => false,
            };
            if end {
                return format!("{status}{}", answer.content());
            }
        }
        side.core.receive_eof(side.now);
    }
    REFUSED.to_owned()
}

async fn hyper(case: &Case) -> String {
    let (client, mut server) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
    let connection = tokio::spawn(connection);
    let answer = case.answer.clone();
    let server = tokio::spawn(async move {
        let _ = server.read(&mut [0; 4096]).await;
        server.write_all(&answer).await
    });
    let method = if case.head_only { "HEAD" } else { "GET" };
    let request = http::Request::builder()
        .method(method)
        .uri("/")
        .header("host", "web");
    let answer = sender
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await;
    let shown = match answer {
        Err(_) => None,
        Ok(answer) => {
            let mut understood = Understood {
                fields: fields_of(answer.headers()),
                ..Understood::default()
            };
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await;
            body.ok().map(|body| {
                understood.trailers = body.trailers().map(fields_of).unwrap_or_default();
                understood.body = body.to_bytes().to_vec();
                format!("{status}{}", understood.content())
            })
        }
    };
    drop(sender);
    let _ = server.await;
    let _ = connection.await;
    shown.unwrap_or_else(|| REFUSED.to_owned())
}

fn through_hyper(cases: &[Case]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let mut all = Vec::new();
        for case in cases {
            all.push(hyper(case).await);
        }
        all
    })
}

fn through(proxy: &Proxy, cases: &[Case]) -> Vec<String> {
    let one = |case: &Case| {
        let method = if case.head_only { "HEAD" } else { "GET" };
        let request = format!("{method} / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
        let output = proxy.answer(request.as_bytes(), &case.answer);
        let answer = Raw::answer(&output, case.head_only);
        // The proxy's own: it has taken none.
        let taken = answer.filter(|answer| !answer.starts_with("502"));
        taken.unwrap_or_else(|| REFUSED.to_owned())
    };
    cases.iter().map(one).collect()
}

#[test]
fn h11_every_difference_over_answers_is_listed() {
    let cases = cases();
    let (haproxy, nghttpx) = thread::scope(|scope| {
        let haproxy = scope.spawn(|| through(&Proxy::haproxy(), &cases));
        let nghttpx = scope.spawn(|| through(&Proxy::nghttpx(), &cases));
        (haproxy.join().unwrap(), nghttpx.join().unwrap())
    });
    let hyper = through_hyper(&cases);
    let result = |index: usize| list::Result {
        case: cases[index].name.clone(),
        ours: ours(&cases[index]),
        theirs: [
            ("hyper", hyper[index].clone()),
            ("haproxy", haproxy[index].clone()),
            ("nghttpx", nghttpx[index].clone()),
        ]
        .into(),
    };
    let results: Vec<list::Result> = (0..cases.len()).map(result).collect();
    list::check("answer", &results);
}
