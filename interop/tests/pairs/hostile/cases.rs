//! Requests that readers may cut in different places, and some that all cut alike.

/// A request that may hide another one, behind which a good one comes.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) name: String,
    /// What comes after the request line.
    pub(super) lines: String,
    /// What comes after the head.
    pub(super) body: String,
}

/// What nobody may ever see as a request.
pub(super) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: web\r\n\r\n";

/// What is refused, whatever is behind it, by what is wrong with it.
pub(super) fn refused() -> [(&'static str, Vec<Case>); 6] {
    [
        ("hosts", hosts()),
        ("two lengths", two_lengths()),
        ("codings", codings()),
        ("lengths", lengths()),
        ("chunks", chunks()),
        ("fields", fields()),
    ]
}

/// One for a host that everybody knows.
fn case(name: &str, lines: &str, body: &str) -> Case {
    Case {
        name: name.to_owned(),
        lines: format!("host: web\r\n{lines}"),
        body: body.to_owned(),
    }
}

/// H4: for no host, for more than one, or for what is none.
fn hosts() -> Vec<Case> {
    [
        "",
        "host: a b\r\n",
        "host: a/b\r\n",
        "host: a@b\r\n",
        "host: [::1\r\n",
        "host: a:b\r\n",
        "host: a,b\r\n",
        "host: http://web\r\n",
        "host: web\r\nhost: web\r\n",
        "host: web\r\nHOST: other\r\n",
    ]
    .map(|lines| Case {
        name: format!("hosts {}", lines.escape_debug()),
        lines: format!("{lines}content-length: {}\r\n", SMUGGLED.len()),
        body: SMUGGLED.to_owned(),
    })
    .into()
}

/// No body for who reads chunks, and the hidden request for who counts.
fn hidden_behind_chunks() -> String {
    format!("0\r\n\r\n{SMUGGLED}")
}

/// The hidden request in a chunk, and behind the body for who counts up to there.
fn hidden_in_a_chunk() -> (String, usize) {
    let size = format!("{:x}\r\n", SMUGGLED.len());
    (format!("{size}{SMUGGLED}\r\n0\r\n\r\n"), size.len())
}

/// H1: both a length and a coding, in any order and spelling.
fn two_lengths() -> Vec<Case> {
    let counted = hidden_behind_chunks();
    let (chunked, count) = hidden_in_a_chunk();
    let mut cases = Vec::new();
    for (spelling, coding) in [
        ("plain", "transfer-encoding: chunked\r\n"),
        ("capitals", "Transfer-Encoding: Chunked\r\n"),
        ("no space", "transfer-encoding:chunked\r\n"),
        ("tab", "transfer-encoding:\tchunked\r\n"),
        ("space behind", "transfer-encoding: chunked \r\n"),
    ] {
        for (body, length) in [(&counted, counted.len()), (&chunked, count)] {
            let length = format!("content-length: {length}\r\n");
            let name = format!("both lengths, {spelling}, {}", body.len());
            cases.push(case(&name, &format!("{length}{coding}"), body));
            cases.push(case(&name, &format!("{coding}{length}"), body));
        }
    }
    cases
}

/// H1: codings that some take for chunked and others do not, beside a length.
fn codings() -> Vec<Case> {
    let body = hidden_behind_chunks();
    let length = format!("content-length: {}\r\n", body.len());
    [
        "transfer-encoding: xchunked",
        "transfer-encoding: chunkedx",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: 'chunked'",
        "transfer-encoding: chunked,",
        "transfer-encoding: ,chunked",
        "transfer-encoding:",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding: \u{c}chunked",
        "transfer-encoding: chunked\u{1}",
        "transfer-encoding: chunked\0",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        " transfer-encoding: chunked",
        "x: y\r\n transfer-encoding: chunked",
        "transfer-encoding:\r\n chunked",
        "transfer-encoding: \r\n\tchunked",
        "x: y\rtransfer-encoding: chunked",
        "x: y\ntransfer-encoding: chunked",
        "transfer-encoding\0: chunked",
        "\u{b}transfer-encoding: chunked",
        "transfer-encoding: chunked\r",
        "transfer-encoding: c\u{0}hunked",
        "transfer encoding: chunked",
    ]
    .map(|line| {
        let name = format!("coding {}", line.escape_debug());
        case(&name, &format!("{line}\r\n{length}"), &body)
    })
    .into()
}

/// H2: lengths that are none, or more than one.
fn lengths() -> Vec<Case> {
    let length = SMUGGLED.len();
    [
        format!("+{length}"),
        format!("-{length}"),
        format!("{length},{length}"),
        format!("{length}, {length}"),
        format!("0,{length}"),
        format!("{length},"),
        format!("{length} 0"),
        format!("{length}.0"),
        format!("{length}\0"),
        format!("0x{length:x}"),
        format!("{length}\r\ncontent-length: {length}"),
        format!("{length}\r\ncontent-length: 0"),
        format!("0\r\ncontent-length: {length}"),
        format!("{length}\r\n content-length: 0"),
        String::new(),
        "five".to_owned(),
        "1e2".to_owned(),
        "18446744073709551616".to_owned(),
        format!("184467440737095516{}", 16 + length),
    ]
    .map(|value| {
        let name = format!("length {}", value.escape_debug());
        case(&name, &format!("content-length: {value}\r\n"), SMUGGLED)
    })
    .into()
}

/// H2: chunks that some read in other places than others.
fn chunks() -> Vec<Case> {
    let hex = format!("{:x}", SMUGGLED.len());
    let end = "\r\n0\r\n\r\n";
    [
        format!("0x{hex}\r\n{SMUGGLED}{end}"),
        format!("+{hex}\r\n{SMUGGLED}{end}"),
        format!("-{hex}\r\n{SMUGGLED}{end}"),
        format!(" {hex}\r\n{SMUGGLED}{end}"),
        format!("{hex}\n{SMUGGLED}{end}"),
        format!("{hex}\r{SMUGGLED}{end}"),
        format!("{hex};a\n{SMUGGLED}{end}"),
        format!("{hex};a\0\r\n{SMUGGLED}{end}"),
        format!("1000000000000000{hex}\r\n{SMUGGLED}{end}"),
        format!("g\r\n{SMUGGLED}{end}"),
        format!("\r\n{SMUGGLED}{end}"),
        format!("5\r\nhello{SMUGGLED}"),
        format!("5\r\nhello\n0\r\n\r\n{SMUGGLED}"),
        format!("5\r\nhello!!0\r\n\r\n{SMUGGLED}"),
        format!("0\n\n{SMUGGLED}"),
        format!("0\r\n\n{SMUGGLED}"),
        format!("0\r\nx: y\n\n{SMUGGLED}"),
        format!("0\r\nx\r\n\r\n{SMUGGLED}"),
        format!("0\r\n x: y\r\n\r\n{SMUGGLED}"),
        format!("0\r\ncontent-length: 5\0\r\n\r\n{SMUGGLED}"),
    ]
    .map(|body| {
        let begin: String = body.chars().take(12).collect();
        let name = format!("chunks {} {}", begin.escape_debug(), body.len());
        case(&name, "transfer-encoding: chunked\r\n", &body)
    })
    .into()
}

/// H3: fields that are none.
fn fields() -> Vec<Case> {
    [
        "a: b\r\n c",
        "a: b\r\n\tc",
        "a: b\0c",
        "a: b\rc",
        "a: b\nc: d",
        "a: b\u{7f}",
        "a: b\u{1}",
        ": a",
        "a b: c",
        "a : b",
        "a\t: b",
        "a(b): c",
        "a\0b: c",
        "caf\u{e9}: c",
        "ab",
        "a: b\r",
        "\r\r\n",
        "a: b\n",
        "host: other",
    ]
    .map(|line| {
        let name = format!("field {}", line.escape_debug());
        let lines = format!("{line}\r\ncontent-length: {}\r\n", SMUGGLED.len());
        case(&name, &lines, SMUGGLED)
    })
    .into()
}

/// What everybody has to cut in the same places; the body that arrives, as text.
pub(super) fn taken() -> Vec<(Case, &'static str)> {
    let (chunked, _) = hidden_in_a_chunk();
    let length = format!("content-length: {}\r\n", SMUGGLED.len());
    let chunks = "transfer-encoding: chunked\r\n";
    vec![
        (case("a length", &length, SMUGGLED), SMUGGLED),
        (
            case(
                "a length with zeros and tabs",
                &length.replace(": ", ": \t00"),
                SMUGGLED,
            ),
            SMUGGLED,
        ),
        (case("chunks", chunks, &chunked), SMUGGLED),
        (
            case(
                "chunks, in capitals",
                "Transfer-Encoding: CHUNKED\r\n",
                &chunked,
            ),
            SMUGGLED,
        ),
        (
            case(
                "chunks with extensions and trailers",
                chunks,
                "5;a=\"b\"\r\nhello\r\n0;c\r\nx-trailer: y\r\n\r\n",
            ),
            "hello",
        ),
        (
            case(
                "a name that looks like one",
                &format!("transfer_encoding: chunked\r\n{length}"),
                SMUGGLED,
            ),
            SMUGGLED,
        ),
        (
            case(
                "h2c, which is declined",
                &format!(
                    "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n{length}"
                ),
                SMUGGLED,
            ),
            SMUGGLED,
        ),
    ]
}
