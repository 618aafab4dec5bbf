//! Where a body ends (RFC 9112 §6, §7).

use super::{CHUNKS, Case, HOST, chunked, named, post};

fn h1_two_lengths() -> Vec<Case> {
    let both = |lines: &str| post(lines, CHUNKS);
    let te = |value: &str| post(&format!("transfer-encoding: {value}\r\n"), CHUNKS);
    let cases = vec![
        (
            "length-first",
            both("content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        ),
        (
            "length-last",
            both("transfer-encoding: chunked\r\ncontent-length: 5\r\n"),
        ),
        (
            "length-zero",
            both("transfer-encoding: chunked\r\ncontent-length: 0\r\n"),
        ),
        ("twice-chunked", te("chunked, chunked")),
        (
            "two-lines",
            both("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
        ),
        (
            "two-lines-identity",
            both("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n"),
        ),
        ("gzip-first", te("gzip, chunked")),
        ("gzip-last", te("chunked, gzip")),
        ("identity", te("identity")),
        ("unknown", te("xchunked")),
        ("quoted", te("\"chunked\"")),
        ("parameter", te("chunked;q=1")),
        ("comma-behind", te("chunked,")),
        ("comma-before", te(", chunked")),
        ("empty", te("")),
        ("vertical-tab", te("\u{b}chunked")),
        ("nul", te("chunked\0")),
        (
            "space-before-colon",
            both("transfer-encoding : chunked\r\n"),
        ),
        ("folded", both("transfer-encoding:\r\n chunked\r\n")),
        (
            "underscore",
            both("transfer_encoding: chunked\r\ncontent-length: 15\r\n"),
        ),
        (
            "folded-behind-x",
            both("x: y\r\n transfer-encoding: chunked\r\ncontent-length: 15\r\n"),
        ),
        (
            "lone-cr",
            both("x: y\rtransfer-encoding: chunked\r\ncontent-length: 15\r\n"),
        ),
        (
            "http10",
            format!("POST / HTTP/1.0\r\n{HOST}transfer-encoding: chunked\r\n\r\n{CHUNKS}"),
        ),
        (
            "named-by-connection",
            both("connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n"),
        ),
    ];
    named("h1", cases)
}

fn h2_lengths() -> Vec<Case> {
    let cl = |value: &str| post(&format!("content-length: {value}\r\n"), "hello");
    let two = |one: &str, other: &str| {
        let lines = format!("content-length: {one}\r\ncontent-length: {other}\r\n");
        post(&lines, "hello")
    };
    let cases = vec![
        ("plus", cl("+5")),
        ("minus", cl("-5")),
        ("list-same", cl("5,5")),
        ("list-same-space", cl("5, 5")),
        ("list-other", cl("5,6")),
        ("comma", cl("5,")),
        ("empty", cl("")),
        ("hex", cl("0x5")),
        ("letters", cl("five")),
        ("inner-space", cl("5 0")),
        ("fraction", cl("5.0")),
        ("2-to-64", cl("18446744073709551616")),
        ("2-to-64-and-5", cl("18446744073709551621")),
        ("high-digit", cl("\u{665}")),
        ("two-same", two("5", "5")),
        ("two-other", two("5", "6")),
        (
            "named-by-connection",
            post(
                "connection: content-length\r\ncontent-length: 5\r\n",
                "hello",
            ),
        ),
    ];
    named("h2-length", cases)
}

// A space before a trailer's colon is not here: HAProxy takes it at some times and
// refuses it at others.
fn h2_chunks() -> Vec<Case> {
    let cases = vec![
        ("no-digit", chunked("g\r\nhello\r\n0\r\n\r\n")),
        ("empty-size", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("hex-prefix", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("plus", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("minus", chunked("-5\r\nhello\r\n0\r\n\r\n")),
        (
            "2-to-64",
            chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "many-zeros",
            chunked("00000000000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        ("space-behind", chunked("5 \r\nhello\r\n0\r\n\r\n")),
        ("space-before", chunked(" 5\r\nhello\r\n0\r\n\r\n")),
        ("space-extension", chunked("5 ; a\r\nhello\r\n0\r\n\r\n")),
        (
            "extension-quoted",
            chunked("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"),
        ),
        ("extension-lone-lf", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n")),
        ("extension-lone-cr", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n")),
        ("extension-nul", chunked("5;a\0\r\nhello\r\n0\r\n\r\n")),
        ("size-lone-lf", chunked("5\nhello\r\n0\r\n\r\n")),
        ("data-lone-lf", chunked("5\r\nhello\n0\r\n\r\n")),
        ("end-lone-lf", chunked("5\r\nhello\r\n0\n\n")),
        ("longer", chunked("5\r\nhello!\r\n0\r\n\r\n")),
        ("shorter", chunked("6\r\nhello\r\n0\r\n\r\n")),
        ("no-crlf", chunked("5\r\nhello0\r\n\r\n")),
        ("trailer-host", chunked("0\r\nhost: other\r\n\r\n")),
        ("trailer-length", chunked("0\r\ncontent-length: 5\r\n\r\n")),
        ("trailer-folded", chunked("0\r\nx: y\r\n z\r\n\r\n")),
        ("trailer-no-colon", chunked("0\r\nxy\r\n\r\n")),
    ];
    named("h2-chunk", cases)
}

pub(super) fn cases() -> Vec<Case> {
    [h1_two_lengths(), h2_lengths(), h2_chunks()].concat()
}
