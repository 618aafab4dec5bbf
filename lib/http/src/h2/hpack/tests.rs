use super::{decode::Decoder, encode};
use crate::{
    fault::{Fault, ResetReason},
    h2::message::{Builder, Kind},
    head::Head,
    limits::Limits,
};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// A message as one line.
fn text(head: &Head) -> String {
    let mut out = match head.status() {
        Some(status) => status.to_string(),
        None => [head.method(), head.scheme().unwrap_or(b"-"), head.path()]
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .join(" "),
    };
    if let Some(authority) = head.authority() {
        out += &format!(" @{}", String::from_utf8_lossy(authority));
    }
    for (name, value) in head.fields() {
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        out += &format!(" {name}={value}");
    }
    out
}

fn read(decoder: &mut Decoder, kind: Kind, block: &[u8]) -> Result<String, String> {
    let mut head = Head::new();
    let mut builder = Builder::new(&mut head, kind, block.len(), &Limits::default());
    let decoded = decoder.decode(block, &mut builder);
    decoded.map_err(|fault| fault.as_str().to_owned())?;
    builder
        .finish()
        .map_err(|reason| reason.as_str().to_owned())?;
    Ok(text(&head))
}

fn all(kind: Kind, cases: &[(&str, &str)]) {
    let mut decoder = Decoder::new();
    for (hex, expected) in cases {
        assert_eq!(
            read(&mut decoder, kind, &bytes(hex)).as_deref(),
            Ok(*expected)
        );
    }
}

#[test]
fn rfc_7541_c3_requests_without_huffman() {
    all(
        Kind::Request,
        &[
            (
                "828684410f7777772e6578616d706c652e636f6d",
                "GET http / @www.example.com",
            ),
            (
                "828684be58086e6f2d6361636865",
                "GET http / @www.example.com cache-control=no-cache",
            ),
            (
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
                "GET https /index.html @www.example.com custom-key=custom-value",
            ),
        ],
    );
}

#[test]
fn rfc_7541_c4_requests_with_huffman() {
    all(
        Kind::Request,
        &[
            (
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "GET http / @www.example.com",
            ),
            (
                "828684be5886a8eb10649cbf",
                "GET http / @www.example.com cache-control=no-cache",
            ),
            (
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
                "GET https /index.html @www.example.com custom-key=custom-value",
            ),
        ],
    );
}

#[test]
fn rfc_7541_c6_answers_with_huffman_and_a_full_table() {
    // The appendix has a table of 256 bytes.
    let date = "date=Mon, 21 Oct 2013 20:13:21 GMT location=https://www.example.com";
    all(
        Kind::Response,
        &[
            (
                "3fe101 488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff\
                 6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                &format!("302 cache-control=private {date}"),
            ),
            (
                "4883640effc1c0bf",
                &format!("307 cache-control=private {date}"),
            ),
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335\
                 dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "200 cache-control=private date=Mon, 21 Oct 2013 20:13:22 GMT \
                 location=https://www.example.com content-encoding=gzip \
                 set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ],
    );
}

#[test]
fn h14_blocks_that_cannot_be_decoded() {
    for bad in [
        "80",             // index 0
        "be",             // beyond the table
        "ffffffffffff",   // an integer without end
        "ff808080808001", // one that is too large
        "418c",           // a string that is cut off
        "3fe21f",         // a table larger than allowed
        "8220",           // a new size behind a field
        "4181ff",         // padding of eight bits
        "40",             // a field that is cut off
        "0f",             // an index that is cut off
    ] {
        let fault = read(&mut Decoder::new(), Kind::Request, &bytes(bad));
        assert_eq!(fault, Err(Fault::Compression.as_str().to_owned()), "{bad}");
    }
}

#[test]
fn h14_a_bomb_is_thrown_away_and_the_table_stays_right() {
    let mut decoder = Decoder::new();
    // An entry of 4,000 bytes, then 40 references to it.
    let mut bomb = bytes("40016b");
    bomb.extend([0x7f, 0xa1, 0x1e]);
    bomb.extend(vec![b'x'; 4000]);
    bomb.extend(vec![0xbe; 40]);
    let refused = read(&mut decoder, Kind::Trailers, &bomb);
    assert_eq!(
        refused,
        Err(ResetReason::FieldsTooLarge.as_str().to_owned())
    );
    let after = read(&mut decoder, Kind::Trailers, &[0xbe]).unwrap();
    assert!(after.ends_with("xxx") && after.len() > 4000);
}

#[test]
fn h14_a_bomb_that_goes_on_ends_the_connection() {
    let endless = [&bytes("40016b0176")[..], &[0xbe; 60_000]].concat();
    let refused = read(&mut Decoder::new(), Kind::Trailers, &endless);
    assert_eq!(refused, Err("flood_header_block".to_owned()));
}

#[test]
fn h14_crumbs_weigh_what_they_weigh() {
    let mut decoder = Decoder::new();
    let crumbs = |n: usize| [&bytes("828684")[..], &bytes("60016a"), &vec![0xbe; n]].concat();
    assert!(read(&mut decoder, Kind::Request, &crumbs(1000)).is_ok());
    let refused = read(&mut decoder, Kind::Request, &crumbs(2000));
    assert_eq!(refused, Err("fields_too_large".to_owned()));
}

#[test]
fn h9_a_101st_line() {
    let mut decoder = Decoder::new();
    let lines = |n: usize| [&bytes("828684")[..], &bytes("0001780179").repeat(n)].concat();
    assert!(read(&mut decoder, Kind::Request, &lines(100)).is_ok());
    let refused = read(&mut decoder, Kind::Request, &lines(101));
    assert_eq!(refused, Err("too_many_fields".to_owned()));
}

/// A block of literals.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for part in [name, value] {
            out.push(u8::try_from(part.len()).unwrap());
            out.extend_from_slice(part.as_bytes());
        }
    }
    out
}

fn good(kind: Kind, fields: &[(&str, &str)]) -> bool {
    read(&mut Decoder::new(), kind, &block(fields)).is_ok()
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "web"),
    (":path", "/"),
];

#[test]
fn h16_the_table_of_pseudo_headers() {
    let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
    assert!(good(Kind::Request, &GET));
    for missing in [0, 1, 3] {
        let mut fields = GET.to_vec();
        fields.remove(missing);
        assert!(!good(Kind::Request, &fields), "without {}", GET[missing].0);
    }
    for twice in GET {
        assert!(!good(Kind::Request, &with(&[twice])), "two {}", twice.0);
    }
    for bad in [
        [(":status", "200")],
        [(":unknown", "x")],
        [("", "x")],
        [("X", "y")],
        [("a b", "c")],
        [("a", "b\r\nc")],
        [("a", "b\0")],
        [("a", " b")],
        [("a", "b ")],
        [("connection", "close")],
        [("keep-alive", "5")],
        [("proxy-connection", "x")],
        [("transfer-encoding", "chunked")],
        [("upgrade", "x")],
        [("te", "gzip")],
        [("host", "other")],
        [("content-length", "+5")],
        [(":protocol", "websocket")],
    ] {
        assert!(!good(Kind::Request, &with(&bad)), "{bad:?}");
    }
    for fine in [
        [("te", "trailers")],
        [("host", "WEB")],
        [("a", "")],
        [("content-length", "5")],
    ] {
        assert!(good(Kind::Request, &with(&fine)), "{fine:?}");
    }
    let late = [GET[0], GET[1], ("a", "b"), GET[2], GET[3]];
    assert!(!good(Kind::Request, &late));
    assert!(!good(
        Kind::Request,
        &with(&[("content-length", "5"), ("content-length", "5")])
    ));
}

#[test]
fn h16_paths_and_authorities() {
    let request = |method: &'static str, authority: &'static str, path: &'static str| {
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":authority", authority),
            (":path", path),
        ];
        good(Kind::Request, &fields)
    };
    assert!(request("GET", "web", "/a?b") && request("OPTIONS", "web", "*"));
    for bad in ["", "a", "*", "/ a", "/a\0", "/#", "/\r\n"] {
        assert!(!request("GET", "web", bad), "{bad:?}");
    }
    for bad in ["", "u@web", "a b", "a,b", "a/b"] {
        assert!(!request("GET", bad, "/"), "{bad:?}");
    }
    assert!(!request("G T", "web", "/") && !request("", "web", "/"));
    let host_only = [GET[0], GET[1], GET[3], ("host", "web")];
    assert!(good(Kind::Request, &host_only));
    let two_hosts = [GET[0], GET[1], GET[3], ("host", "web"), ("host", "web")];
    assert!(!good(Kind::Request, &two_hosts));
}

#[test]
fn h12_connect_in_its_forms() {
    let connect = (":method", "CONNECT");
    let (authority, protocol) = ((":authority", "web:80"), (":protocol", "websocket"));
    let (scheme, path) = ((":scheme", "http"), (":path", "/"));
    assert!(good(Kind::Request, &[connect, authority]));
    assert!(good(
        Kind::Request,
        &[connect, protocol, scheme, path, authority]
    ));
    assert!(!good(Kind::Request, &[connect]));
    assert!(!good(Kind::Request, &[connect, ("host", "web:80")]));
    assert!(!good(Kind::Request, &[connect, authority, scheme]));
    assert!(!good(Kind::Request, &[connect, authority, path]));
    assert!(!good(Kind::Request, &[connect, protocol, authority]));
}

#[test]
fn h16_answers_and_trailers() {
    assert!(good(Kind::Response, &[(":status", "200"), ("a", "b")]));
    for bad in ["101", "20", "2000", "abc", "099", "600", ""] {
        assert!(!good(Kind::Response, &[(":status", bad)]), "{bad}");
    }
    assert!(!good(Kind::Response, &[("a", "b")]));
    assert!(!good(Kind::Response, &[(":status", "200"), (":path", "/")]));
    assert!(good(Kind::Trailers, &[("grpc-status", "0")]));
    for bad in [
        ":status",
        ":path",
        "content-length",
        "te",
        "host",
        "connection",
    ] {
        assert!(!good(Kind::Trailers, &[(bad, "1")]), "{bad}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut request = Head::request("PATCH", "web:80", "/a?b").unwrap();
    let long = "v".repeat(5000);
    for (name, value) in [
        ("accept", "*/*"),
        ("x-own", &long),
        ("cookie", "a"),
        ("cookie", "b"),
    ] {
        request.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    let mut block = vec![encode::NO_TABLE];
    encode::head(&request, &mut block);
    let read = read(&mut Decoder::new(), Kind::Request, &block).unwrap();
    assert_eq!(read, text(&request));
}
