//! Request lines and fields (RFC 9112 §2 to §5), and what is right in all ways.

use super::{CHUNKS, Case, HOST, chunked, get, hosts, line, named, post};

fn good() -> Vec<Case> {
    let cases = vec![
        ("get", get("")),
        ("three", get("").repeat(3)),
        ("length", post("content-length: 5\r\n", "hello")),
        ("length-zeros", post("content-length: 005\r\n", "hello")),
        (
            "length-spaces",
            post("content-length: \t 5 \t\r\n", "hello"),
        ),
        (
            "get-with-body",
            get("content-length: 2\r\n").replace("\r\n\r\n", "\r\n\r\nhi"),
        ),
        ("chunks", chunked(CHUNKS)),
        ("chunks-upper", chunked("A\r\n0123456789\r\n00\r\n\r\n")),
        ("chunks-extension", chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n")),
        (
            "chunks-trailers",
            chunked("5\r\nhello\r\n0\r\nx: y\r\n\r\n"),
        ),
        (
            "chunked-any-case",
            post("Transfer-Encoding: ChunKed\r\n", CHUNKS),
        ),
        ("http10", "GET / HTTP/1.0\r\n\r\n".to_owned()),
        (
            "http10-kept",
            "GET / HTTP/1.0\r\nhost: web\r\nconnection: keep-alive\r\n\r\n".to_owned(),
        ),
        ("close", get("connection: close\r\n")),
        ("absolute", line("GET http://web/x?y HTTP/1.1")),
        ("options", line("OPTIONS * HTTP/1.1")),
        ("twice", get("a: b\r\na: c\r\nA: d\r\n")),
        ("empty-value", get("a:\r\n")),
        ("inner-tab", get("a: b\tc\r\n")),
        ("high-bytes", get("a: caf\u{e9}\r\n")),
        ("blank-line-before", format!("\r\n{}", get(""))),
        ("own-method", line("BREW / HTTP/1.1")),
        ("odd-method", line("A!#$%&'*+-.^_`|~1 / HTTP/1.1")),
        ("path-high-bytes", line("GET /caf\u{e9} HTTP/1.1")),
        (
            "path-odd",
            line("GET //a/../b/%2e%2F;x=\"<>[]{}|^`?a=b HTTP/1.1"),
        ),
        ("ipv6-host", hosts("host: [::1]:80\r\n")),
    ];
    named("good", cases)
}

fn h3_fields() -> Vec<Case> {
    let cases = vec![
        ("folded", get("a: b\r\n c\r\n")),
        ("folded-tab", get("a: b\r\n\tc\r\n")),
        ("folded-first", hosts(" a: b\r\nhost: web\r\n")),
        ("nul", get("a: b\0c\r\n")),
        ("lone-cr", get("a: b\rc\r\n")),
        ("lone-lf", get("a: b\nc: d\r\n")),
        ("delete", get("a: b\u{7f}\r\n")),
        ("control", get("a: b\u{1}\r\n")),
        ("empty-name", get(": a\r\n")),
        ("space-in-name", get("a b: c\r\n")),
        ("space-before-colon", get("a : b\r\n")),
        ("tab-before-colon", get("a\t: b\r\n")),
        ("bracket-in-name", get("a(b): c\r\n")),
        ("nul-in-name", get("a\0b: c\r\n")),
        ("high-byte-in-name", get("caf\u{e9}: c\r\n")),
        ("no-colon", get("ab\r\n")),
        ("all-lone-lf", get("").replace("\r\n", "\n")),
        ("end-lone-lf", format!("GET / HTTP/1.1\r\n{HOST}\n")),
        ("line-lone-lf", format!("GET / HTTP/1.1\n{HOST}\r\n")),
        ("double-cr", get("a: b\r\r\n")),
    ];
    named("h3", cases)
}

fn h4_targets() -> Vec<Case> {
    let cases = vec![
        ("none", hosts("")),
        ("two-same", hosts("host: web\r\nhost: web\r\n")),
        ("two-other", hosts("host: web\r\nhost: other\r\n")),
        ("empty", hosts("host:\r\n")),
        ("space", hosts("host: a b\r\n")),
        ("comma", hosts("host: a,b\r\n")),
        ("user", hosts("host: me@web\r\n")),
        ("path", hosts("host: web/x\r\n")),
        ("port-letters", hosts("host: web:http\r\n")),
        ("port-large", hosts("host: web:65536\r\n")),
        ("two-ports", hosts("host: web:80:80\r\n")),
        ("high-byte", hosts("host: caf\u{e9}\r\n")),
        (
            "absolute-other",
            "GET http://other/ HTTP/1.1\r\nhost: web\r\n\r\n".to_owned(),
        ),
        (
            "absolute-alone",
            "GET http://web/ HTTP/1.1\r\n\r\n".to_owned(),
        ),
        ("absolute-user", line("GET http://me@web/ HTTP/1.1")),
        ("absolute-no-path", line("GET http://web HTTP/1.1")),
        ("absolute-query", line("GET http://web?a HTTP/1.1")),
        ("absolute-no-host", line("GET http:/// HTTP/1.1")),
        ("absolute-ftp", line("GET ftp://web/ HTTP/1.1")),
        ("absolute-upper", line("GET HTTP://web/ HTTP/1.1")),
        ("asterisk-get", line("GET * HTTP/1.1")),
        ("no-slash", line("GET x HTTP/1.1")),
        ("authority-get", line("GET web:80 HTTP/1.1")),
        ("fragment", line("GET /#x HTTP/1.1")),
        ("space-in-target", line("GET /a b HTTP/1.1")),
        ("nul-in-target", line("GET /a\0b HTTP/1.1")),
        ("control-in-target", line("GET /a\u{1}b HTTP/1.1")),
        ("named-by-connection", get("connection: host\r\n")),
    ];
    named("h4", cases)
}

fn first_lines() -> Vec<Case> {
    let cases = vec![
        ("no-version", "GET /\r\n".to_owned()),
        ("http09", line("GET / HTTP/0.9")),
        ("http12", line("GET / HTTP/1.2")),
        ("http20", line("GET / HTTP/2.0")),
        ("http30", line("GET / HTTP/3.0")),
        ("long-version", line("GET / HTTP/1.10")),
        ("lower-version", line("GET / http/1.1")),
        ("two-spaces", line("GET  / HTTP/1.1")),
        ("two-spaces-version", line("GET /  HTTP/1.1")),
        ("tabs", line("GET\t/\tHTTP/1.1")),
        ("space-behind", line("GET / HTTP/1.1 ")),
        ("space-before", line(" GET / HTTP/1.1")),
        ("no-target", line("GET HTTP/1.1")),
        ("bracket-method", line("GE(T / HTTP/1.1")),
        ("lower-method", line("get / HTTP/1.1")),
        ("three-blank-lines", format!("\r\n\r\n\r\n{}", get(""))),
        ("blank-lone-lf", format!("\n{}", get(""))),
        ("blank-lone-cr", format!("\r{}", get(""))),
    ];
    named("line", cases)
}

fn h9_to_h12() -> Vec<Case> {
    let many = |n: usize| get(&(0..n).map(|n| format!("x-{n}: y\r\n")).collect::<String>());
    let upgrade = |lines: &str| get(&format!("connection: upgrade\r\n{lines}"));
    let settings = "http2-settings: AAMAAABkAAQAAP__\r\n";
    let cases = vec![
        ("h9-100-lines", many(99)),
        ("h9-102-lines", many(101)),
        (
            "h9-large-field",
            get(&format!("x: {}\r\n", "y".repeat(65 * 1024))),
        ),
        (
            "h9-large-target",
            line(&format!("GET /{} HTTP/1.1", "y".repeat(65 * 1024))),
        ),
        (
            "h10-continue",
            post("expect: 100-continue\r\ncontent-length: 5\r\n", "hello"),
        ),
        (
            "h10-other",
            post("expect: 200-ok\r\ncontent-length: 5\r\n", "hello"),
        ),
        (
            "h12-h2c",
            get(&format!(
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\n{settings}"
            )),
        ),
        (
            "h12-websocket",
            upgrade("upgrade: websocket\r\nsec-websocket-key: x\r\n"),
        ),
        ("h12-not-named", get("upgrade: websocket\r\n")),
        ("h12-preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (
            "h12-connect",
            "CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\n\r\n".to_owned(),
        ),
        (
            "h12-connect-other-host",
            "CONNECT web:80 HTTP/1.1\r\nhost: other\r\n\r\n".to_owned(),
        ),
        ("h12-connect-no-port", line("CONNECT web HTTP/1.1")),
        ("h12-connect-path", line("CONNECT /x HTTP/1.1")),
        (
            "h12-connect-absolute",
            line("CONNECT http://web:80/ HTTP/1.1"),
        ),
        (
            "h12-connect-length",
            "CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        ),
        ("h6-named", get("connection: x-a\r\nx-a: b\r\nx-c: d\r\n")),
    ];
    let bytes = |(name, text): (&str, String)| (name.to_owned(), text.into_bytes());
    cases.into_iter().map(bytes).collect()
}

pub(super) fn cases() -> Vec<Case> {
    [
        good(),
        h3_fields(),
        h4_targets(),
        first_lines(),
        h9_to_h12(),
    ]
    .concat()
}
