//! What is a request (RFC 9113 §8).

use super::{
    super::frames::{DATA, END_HEADERS, END_STREAM, first, frame, headers},
    Case,
};

fn with<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&first("GET", "/"), fields].concat()
}

/// A request's head without one of the usual fields, or with another in its
/// place.
fn changed(name: &str, value: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    let mut fields = first("GET", "/");
    match value {
        Some(value) => {
            for field in fields.iter_mut().filter(|field| field.0 == name) {
                field.1 = value;
            }
        }
        None => fields.retain(|field| field.0 != name),
    }
    fields
}

fn pseudo() -> Vec<Case> {
    let get = first("GET", "/");
    let twice = |name: &'static str, value: &'static str| [&[(name, value)], &get[..]].concat();
    let table = [
        ("good", get.clone()),
        ("no-method", changed(":method", None)),
        ("no-scheme", changed(":scheme", None)),
        ("no-path", changed(":path", None)),
        ("no-authority", changed(":authority", None)),
        ("two-methods", twice(":method", "GET")),
        ("two-schemes", twice(":scheme", "http")),
        ("two-paths", twice(":path", "/")),
        ("two-authorities", twice(":authority", "web")),
        ("two-authorities-other", twice(":authority", "other")),
        ("unknown", twice(":other", "x")),
        ("status", twice(":status", "200")),
        ("behind-a-field", [&[("a", "b")], &get[..]].concat()),
        ("upper", [&[(":Method", "GET")], &get[1..]].concat()),
        ("method-empty", changed(":method", Some(""))),
        ("method-space", changed(":method", Some("GE T"))),
        ("method-lower", changed(":method", Some("get"))),
        (
            "method-crlf",
            changed(":method", Some("GET / HTTP/1.1\r\nx: y")),
        ),
        ("scheme-https", changed(":scheme", Some("https"))),
        ("scheme-other", changed(":scheme", Some("gopher"))),
        ("scheme-upper", changed(":scheme", Some("HTTP"))),
        ("scheme-space", changed(":scheme", Some("ht tp"))),
        ("scheme-empty", changed(":scheme", Some(""))),
        ("path-empty", changed(":path", Some(""))),
        ("path-no-slash", changed(":path", Some("x"))),
        ("path-asterisk", changed(":path", Some("*"))),
        ("path-absolute", changed(":path", Some("http://other/"))),
        ("path-space", changed(":path", Some("/a b"))),
        ("path-crlf", changed(":path", Some("/ HTTP/1.1\r\nx: y"))),
        ("path-nul", changed(":path", Some("/a\0"))),
        ("path-fragment", changed(":path", Some("/a#b"))),
        ("path-high-byte", changed(":path", Some("/caf\u{e9}"))),
        ("authority-empty", changed(":authority", Some(""))),
        ("authority-space", changed(":authority", Some("a b"))),
        ("authority-user", changed(":authority", Some("me@web"))),
        ("authority-path", changed(":authority", Some("web/x"))),
        ("authority-comma", changed(":authority", Some("a,b"))),
        ("authority-crlf", changed(":authority", Some("web\r\nx: y"))),
        (
            "authority-port-large",
            changed(":authority", Some("web:65536")),
        ),
        (
            "options",
            [&[(":method", "OPTIONS"), (":path", "*")], &get[1..3]].concat(),
        ),
        ("protocol-on-get", twice(":protocol", "websocket")),
    ];
    let case = |(name, fields): (&str, Vec<_>)| Case::head(&format!("h16-pseudo-{name}"), &fields);
    table.into_iter().map(case).collect()
}

fn fields() -> Vec<Case> {
    let host = |value| [&changed(":authority", None), &[("host", value)][..]].concat();
    let table = [
        ("host-same", with(&[("host", "web")])),
        ("host-same-any-case", with(&[("host", "WEB")])),
        ("host-other", with(&[("host", "other")])),
        ("host-alone", host("web")),
        ("host-alone-bad", host("a b")),
        ("host-twice", with(&[("host", "web"), ("host", "web")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te-trailers", with(&[("te", "trailers")])),
        ("te-gzip", with(&[("te", "gzip")])),
        ("name-upper", with(&[("X-Upper", "a")])),
        ("name-empty", with(&[("", "a")])),
        ("name-space", with(&[("a b", "a")])),
        ("name-colon", with(&[("a:b", "a")])),
        ("name-crlf", with(&[("a\r\nb", "a")])),
        ("name-nul", with(&[("a\0", "a")])),
        ("value-crlf", with(&[("a", "b\r\nc: d")])),
        ("value-cr", with(&[("a", "b\rc")])),
        ("value-lf", with(&[("a", "b\nc")])),
        ("value-nul", with(&[("a", "b\0c")])),
        ("value-delete", with(&[("a", "b\u{7f}c")])),
        ("value-control", with(&[("a", "b\u{1}c")])),
        ("value-space-before", with(&[("a", " b")])),
        ("value-space-behind", with(&[("a", "b ")])),
        ("value-high-byte", with(&[("a", "caf\u{e9}")])),
        ("value-empty", with(&[("a", "")])),
        ("twice", with(&[("a", "b"), ("a", "c")])),
        ("crumbs", with(&[("cookie", "a=b"), ("cookie", "c=d")])),
        ("expect", with(&[("expect", "100-continue")])),
    ];
    let case = |(name, fields): (&str, Vec<_>)| Case::head(&format!("h16-field-{name}"), &fields);
    table.into_iter().map(case).collect()
}

fn connect() -> Vec<Case> {
    let (method, authority) = ((":method", "CONNECT"), (":authority", "web:80"));
    let (scheme, path) = ((":scheme", "http"), (":path", "/"));
    let protocol = (":protocol", "websocket");
    let table = [
        ("plain", vec![method, authority]),
        ("no-authority", vec![method]),
        ("no-port", vec![method, (":authority", "web")]),
        ("path", vec![method, authority, path]),
        ("scheme", vec![method, authority, scheme]),
        ("extended", vec![method, protocol, scheme, path, authority]),
        (
            "extended-no-path",
            vec![method, protocol, scheme, authority],
        ),
        (
            "extended-space",
            vec![method, (":protocol", "a b"), scheme, path, authority],
        ),
    ];
    let case = |(name, fields): (&str, Vec<_>)| {
        let head = headers(1, END_HEADERS, &fields);
        Case::new(&format!("h12-connect-{name}"), &[head])
    };
    table.into_iter().map(case).collect()
}

/// A head, then frames of the same stream.
fn bodies() -> Vec<Case> {
    let post = |fields: &[(&str, &str)]| {
        let head = [&first("POST", "/"), fields].concat();
        headers(1, END_HEADERS, &head)
    };
    let data = |end: u8| frame(DATA, end, 1, b"hello");
    let length = |value| post(&[("content-length", value)]);
    let trailers = |flags, fields: &[_]| headers(1, END_HEADERS | flags, fields);
    let two = |other| post(&[("content-length", "5"), ("content-length", other)]);
    let sum = [("x-sum", "1")];
    let table = [
        ("whole", vec![post(&[]), data(END_STREAM)]),
        (
            "in-pieces",
            vec![post(&[]), data(0), data(0), data(END_STREAM)],
        ),
        ("length", vec![length("5"), data(END_STREAM)]),
        ("length-more", vec![length("6"), data(END_STREAM)]),
        ("length-less", vec![length("4"), data(END_STREAM)]),
        ("length-plus", vec![length("+5"), data(END_STREAM)]),
        ("length-empty", vec![length(""), data(END_STREAM)]),
        ("length-list", vec![length("5,5"), data(END_STREAM)]),
        (
            "length-2-to-64",
            vec![length("18446744073709551621"), data(END_STREAM)],
        ),
        ("length-two-same", vec![two("5"), data(END_STREAM)]),
        ("length-two-other", vec![two("6"), data(END_STREAM)]),
        (
            "trailers",
            vec![post(&[]), data(0), trailers(END_STREAM, &sum)],
        ),
        (
            "trailers-no-end",
            vec![post(&[]), data(0), trailers(0, &sum)],
        ),
        (
            "trailers-pseudo",
            vec![post(&[]), data(0), trailers(END_STREAM, &[(":path", "/")])],
        ),
        (
            "trailers-upper",
            vec![post(&[]), data(0), trailers(END_STREAM, &[("X", "1")])],
        ),
        (
            "trailers-length",
            vec![
                post(&[]),
                data(0),
                trailers(END_STREAM, &[("content-length", "5")]),
            ],
        ),
        (
            "trailers-connection",
            vec![
                post(&[]),
                data(0),
                trailers(END_STREAM, &[("connection", "close")]),
            ],
        ),
        (
            "trailers-behind-length",
            vec![length("5"), data(0), trailers(END_STREAM, &sum)],
        ),
        (
            "trailers-behind-less",
            vec![length("6"), data(0), trailers(END_STREAM, &sum)],
        ),
    ];
    let case =
        |(name, frames): (&str, Vec<Vec<u8>>)| Case::new(&format!("h16-body-{name}"), &frames);
    let mut cases: Vec<Case> = table.into_iter().map(case).collect();
    let nothing = with(&[("content-length", "5")]);
    cases.push(Case::head("h16-body-length-and-nothing", &nothing));
    let zero = with(&[("content-length", "0")]);
    cases.push(Case::head("h16-body-length-zero", &zero));
    cases
}

fn sizes() -> Vec<Case> {
    let names: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let lines: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "y")).collect();
    let (large, path) = ("y".repeat(15_000), format!("/{}", "y".repeat(15_000)));
    vec![
        Case::head("h9-100-lines", &with(&lines[..100])),
        Case::head("h9-101-lines", &with(&lines)),
        Case::head("h9-15-kb-field", &with(&[("x", &large)])),
        Case::head("h9-15-kb-path", &first("GET", &path)),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = pseudo();
    for more in [fields(), connect(), bodies(), sizes()] {
        all.extend(more);
    }
    all
}
