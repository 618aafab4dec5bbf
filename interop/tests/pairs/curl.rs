//! curl with our own servers.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::namespace::{B, SERVICE};

use crate::{
    http2,
    messages::equal,
    origin::Origin,
    place::{Place, UNMESHED, declared, detected, open},
    report::{Group, Report},
    web::{self, Version, Web},
};

const HTTP1: u16 = 8000;
const HTTP2: u16 = 8001;
const DECLARED1: u16 = 8002;
const DECLARED2: u16 = 8003;
/// For clients that have no sidecar.
const OPEN1: u16 = UNMESHED;
const OPEN2: u16 = UNMESHED + 1;

#[test]
fn curl_gets_what_the_server_sends() {
    let ports = [
        detected(HTTP1),
        detected(HTTP2),
        declared(DECLARED1, Protocol::Http1).at(HTTP1),
        declared(DECLARED2, Protocol::Http2).at(HTTP2),
        open(OPEN1, Protocol::Detect),
        open(OPEN2, Protocol::Detect),
    ];
    let mut place = Place::new(&ports);
    let _origins = [
        Origin::http1(&place, HTTP1),
        Origin::http1(&place, OPEN1),
        http2::origin(&place, HTTP2),
        http2::origin(&place, OPEN2),
    ];
    let mut report = Report::new(Group::Curl);
    for (name, server, version) in [
        ("HTTP/1", (SERVICE, HTTP1), Version::Http1),
        ("declared HTTP/1", (SERVICE, DECLARED1), Version::Http1),
        ("HTTP/1 without a sidecar", (B, OPEN1), Version::Http1),
        ("HTTP/2", (SERVICE, HTTP2), Version::Http2),
        ("declared HTTP/2", (SERVICE, DECLARED2), Version::Http2),
        ("HTTP/2 without a sidecar", (B, OPEN2), Version::Http2),
    ] {
        let url = format!("http://{}", SocketAddr::from(server));
        let web = Web {
            place: &place,
            name,
            version,
            url: &url,
        };
        web::cases(&mut report, web);
    }
    for (name, version, port) in [
        ("HTTP/1", "--http1.1", HTTP1),
        ("HTTP/2", "--http2-prior-knowledge", HTTP2),
    ] {
        let outcome = trailers(&place, version, port);
        report.case(format!("{name}: trailers"), outcome);
    }
    report.case("HTTP/1: a server as a proxy", proxy(&place));
    report.finish(&mut place);
}

/// curl writes trailers behind the head.
fn trailers(place: &Place, version: &str, port: u16) -> Result<()> {
    let url = format!("http://10.211.0.10:{port}/trailers");
    let quiet = ["--silent", "--show-error", "--max-time", "20"];
    let written = ["--dump-header", "head", "--output", "out", version];
    let asked = ["--data-binary", "body", &url];
    place.run("curl", &[&quiet[..], &written, &asked].concat())?;
    let head = std::fs::read_to_string(place.file("head"))?;
    let (_, behind) = head.split_once("\r\n\r\n").context("no end of the head")?;
    ensure!(behind.contains("x-of-server: yes"), "{head:?}");
    equal(&&*std::fs::read(place.file("out"))?, &&b"body"[..])
}

/// A request in absolute-form.
fn proxy(place: &Place) -> Result<()> {
    let proxy = format!("http://10.211.0.10:{HTTP1}");
    let arguments = ["--silent", "--show-error", "--max-time", "20", "--proxy"];
    let rest = [&proxy, "http://shop.example/head"];
    let said = place.run("curl", &[&arguments[..], &rest].concat())?;
    ensure!(said.contains("host: shop.example"), "{said}");
    Ok(())
}
