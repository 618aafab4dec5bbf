//! Web servers and proxies, of which each stands behind B as a server, and before A as
//! a client.

use anyhow::{Result, ensure};
use mesh_pair::namespace::{SERVICE, Side};

use crate::{
    content::{check, content},
    grpc, http2,
    messages::equal,
    origin::Origin,
    place::{Place, detected, server},
    report::Report,
    tunnels::switch,
    web::{self, Version, Web},
    wire::{Wire, block_on},
};

/// Our own servers.
const ORIGIN: u16 = 8000;
const ORIGIN_HTTP2: u16 = 8001;
/// Somebody's, behind B. Answers are [`ORIGIN`]'s.
const SERVER: u16 = 8010;
const SERVER_HTTP2: u16 = 8011;
/// gRPC's own.
const GRPC: u16 = 8050;
/// Somebody's, on loopback before A, with the Service's ports behind them.
const CLIENT: u16 = 7001;
const CLIENT_HTTP2: u16 = 7002;
const CLIENT_GRPC: u16 = 7003;

/// A pair, and our own servers.
pub(crate) struct Software {
    pub(crate) place: Place,
    _origins: [Origin; 2],
}

impl Software {
    pub(crate) fn new() -> Self {
        let ports = [ORIGIN, ORIGIN_HTTP2, SERVER, SERVER_HTTP2, GRPC].map(detected);
        let place = Place::new(&ports);
        let origins = [
            Origin::http1(&place, ORIGIN),
            http2::origin(&place, ORIGIN_HTTP2),
        ];
        Self {
            place,
            _origins: origins,
        }
    }

    /// Starts somebody's program behind B.
    pub(crate) fn server(&mut self, command: std::process::Command) {
        self.place.start(Side::B, command, &[SERVER, SERVER_HTTP2]);
    }

    /// Starts somebody's program before A.
    pub(crate) fn client(&mut self, command: std::process::Command, ports: &[u16]) {
        self.place.start(Side::A, command, ports);
    }
}

/// What stands behind B, in both versions of HTTP.
pub(crate) fn as_server(report: &mut Report, place: &Place) {
    for (name, port, version) in [
        ("a server of HTTP/1", SERVER, Version::Http1),
        ("a server of HTTP/2", SERVER_HTTP2, Version::Http2),
    ] {
        let url = format!("http://{SERVICE}:{port}");
        let web = Web {
            place,
            name,
            version,
            url: &url,
        };
        web::cases(report, web);
    }
    let outcome = upgrade(place, (SERVICE, SERVER).into());
    report.case("a server of HTTP/1: a websocket", outcome);
}

/// Files that a server has itself, in the folder `files`.
pub(crate) fn files(report: &mut Report, place: &Place) {
    for (name, port, version) in [
        ("a server of HTTP/1", SERVER, "--http1.1"),
        (
            "a server of HTTP/2",
            SERVER_HTTP2,
            "--http2-prior-knowledge",
        ),
    ] {
        let outcome = file(place, port, version);
        report.case(
            format!("{name}: a file, whole, in part, and unchanged"),
            outcome,
        );
    }
}

fn file(place: &Place, port: u16, version: &str) -> Result<()> {
    const LENGTH: usize = 3_000_000;
    let folder = place.file("files");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("content"), content(LENGTH))?;
    let url = format!("http://{SERVICE}:{port}/files/content");
    let fixed = [
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        version,
        "--output",
        "out",
    ];
    let told = ["--write-out", "%{http_code}", "--etag-save", "etag", &url];
    let curl = |more: &[&str]| place.run("curl", &[&fixed[..], &told, more].concat());
    equal(&&*curl(&[])?, &"200")?;
    check(&std::fs::read(place.file("out"))?, LENGTH)?;
    equal(&&*curl(&["--range", "1000-200999"])?, &"206")?;
    ensure!(
        std::fs::read(place.file("out"))? == content(LENGTH)[1000..201_000],
        "another part"
    );
    equal(&&*curl(&["--etag-compare", "etag"])?, &"304")
}

/// What stands before A, with HTTP/1 to the Service.
pub(crate) fn as_client(report: &mut Report, place: &Place) {
    let web = Web {
        place,
        name: "a client of HTTP/1",
        version: Version::Http1,
        url: &format!("http://127.0.0.1:{CLIENT}"),
    };
    web::cases(report, web);
    let outcome = upgrade(place, ([127, 0, 0, 1], CLIENT).into());
    report.case("a client of HTTP/1: a websocket", outcome);
}

/// What stands before A, with HTTP/2 to the Service. curl speaks HTTP/1 with it.
pub(crate) fn as_http2_client(report: &mut Report, place: &Place) {
    let web = Web {
        place,
        name: "a client of HTTP/2",
        version: Version::Http1,
        url: &format!("http://127.0.0.1:{CLIENT_HTTP2}"),
    };
    web::cases(report, web);
}

/// gRPC's interop cases through what stands before A.
pub(crate) fn as_grpc_client(report: &mut Report, place: &mut Place) {
    let mut command = server("grpc-interop-server");
    command.args(["-port", &GRPC.to_string()]);
    place.start(Side::B, command, &[GRPC]);
    for case in grpc::CASES {
        let outcome = grpc::go_client(place, ([127, 0, 0, 1], CLIENT_GRPC).into(), case);
        report.case(format!("a client of gRPC: {case}"), outcome);
    }
}

fn upgrade(place: &Place, address: std::net::SocketAddr) -> Result<()> {
    let socket = place.connect_to(address)?;
    block_on(async { switch(&mut Wire::client(socket)?).await })
}
