//! What readers cut in different places, through the pair to servers of several
//! makes: whatever is not clear is refused, and no part of it is ever taken for
//! something else.

mod answers;
mod cases;

use std::{
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, bail, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::{
    control::Port,
    namespace::{B, SERVICE, Side},
};
use tokio::net::TcpStream;

use self::cases::{Case, SMUGGLED};
use crate::{
    apache, haproxy,
    messages::equal,
    nginx,
    origin::Origin,
    place::{Place, open},
    report::{Group, Report},
    wire::{Head, Message, Wire, block_on, bytes_of},
};

/// Our own server, which others have behind them.
const ORIGIN: u16 = 8000;
/// Servers behind B, at ports that lead there past A.
const OWN: u16 = 9000;
const NGINX: u16 = 9001;
const APACHE: u16 = 9002;
const HAPROXY: u16 = 9003;
/// Through A each has a port of the Service that is greater by so much.
const THROUGH_A: u16 = 100;

/// A server, for clients with a sidecar and for those without.
fn both(port: u16) -> [Port; 2] {
    let through_a = open(port + THROUGH_A, Protocol::Detect).at(port);
    [open(port, Protocol::Detect), through_a]
}

/// How a server is reached.
fn ways(port: u16) -> [(&'static str, SocketAddr); 2] {
    [
        ("through both sidecars", (SERVICE, port + THROUGH_A).into()),
        ("without A", (B, port).into()),
    ]
}

#[test]
fn h1_h2_h3_h4_h5_h6_h7_h10_nothing_is_smuggled_past_a_server_of_any_make() {
    let servers = [OWN, NGINX, APACHE, HAPROXY];
    let ports: Vec<Port> = servers.into_iter().flat_map(both).collect();
    let mut place = Place::new(&ports);
    let seen = Seen::default();
    let _origins = [ORIGIN, OWN].map(|port| {
        let seen = seen.clone();
        Origin::start(&place, port, move |socket| serve(socket, seen.clone()))
    });
    let makes = [
        ("our own", OWN, None),
        ("nginx", NGINX, Some(behind_nginx(&place))),
        ("Apache", APACHE, Some(behind_apache(&place))),
        ("HAProxy", HAPROXY, Some(behind_haproxy(&place))),
    ];
    let mut report = Report::new(Group::Hostile);
    for (make, port, program) in makes {
        if let Some(program) = program {
            place.start(Side::B, program, &[port]);
        }
        for (way, address) in ways(port) {
            let server = Server {
                place: &place,
                seen: &seen,
                address,
            };
            server.cases(&mut report, &format!("{make}, {way}"));
            // Others change paths as they like.
            if port == OWN {
                let case = format!("{make}, {way}: paths as they were sent");
                report.case(case, server.paths());
                let lines = "connection: upgrade\r\nupgrade: x\r\n";
                let lines = format!("l5d-client-id: {FORGED}\r\n{lines}");
                let outcome = server.forges(ALMOST[0], &lines);
                report.case(
                    format!("{make}, {way}: nobody says who he is and upgrades"),
                    outcome,
                );
            }
        }
    }
    report.finish(&mut place);
}

/// Each refuses what begins with `/early` before it reads a body.
fn behind_nginx(place: &Place) -> Command {
    let early = "location /early { return 403; }\n        location / {";
    let text = of_ports(nginx::BEHIND, NGINX).replace("location / {", early);
    nginx::nginx(place.configure("nginx.conf", &text))
}

fn behind_apache(place: &Place) -> Command {
    let early = "<Location /early>\nRequire all denied\n</Location>\n";
    let text = of_ports(apache::BEHIND, APACHE) + early;
    apache::apache(place, "apache.conf", &text)
}

fn behind_haproxy(place: &Place) -> Command {
    let early = "http-request deny if { path_beg /early }\n    default_backend origin";
    let text = of_ports(haproxy::BEHIND, HAPROXY).replace("default_backend origin", early);
    haproxy::haproxy(place.configure("haproxy.cfg", &text))
}

/// A configuration with other ports. (The second one, for HTTP/2, is not used.)
fn of_ports(text: &str, port: u16) -> String {
    let text = text.replace("8010", &port.to_string());
    text.replace("8011", &(port + 50).to_string())
}

/// A request: the line's first words, and the body.
type Asked = (String, Vec<u8>);

/// Requests that came whole to our own server.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Asked>>>);

impl Seen {
    /// Notes one, and says what is answered.
    fn add(&self, request: &Message) -> Result<String> {
        let (asked, _) = request.head.first.rsplit_once(' ').context("no request")?;
        let said = format!("{asked} {}", request.body.len());
        let mut all = self.0.lock().unwrap();
        all.push((asked.to_owned(), request.body.clone()));
        Ok(said)
    }

    /// What came since this was called last.
    fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Answers what it is asked for, to `/hosts` with whom it is asked as. It refuses what
/// begins with `/early` without a look at the body, and takes what comes then for the
/// next request.
async fn serve(socket: TcpStream, seen: Seen) -> Result<()> {
    let mut wire = Wire::new(socket);
    while let Some(head) = wire.head().await? {
        if head.fields.iter().any(|(_, value)| value.contains(FORGED)) {
            seen.0.lock().unwrap().push((FORGED.to_owned(), Vec::new()));
        }
        ensure!(head.get("upgrade").is_none(), "an upgrade came through");
        if head.first.contains(" /early") {
            wire.send("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")
                .await?;
            continue;
        }
        let request = wire.request_body(&head).await?;
        let said = if head.first.contains(" /hosts ") {
            hosts(&head)
        } else {
            seen.add(&request)?
        };
        let length = said.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{said}");
        wire.send(answer).await?;
    }
    Ok(())
}

/// All that a head says of whom it is for.
fn hosts(head: &Head) -> String {
    let fields = head.fields.iter();
    let hosts = fields.filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let hosts: Vec<&str> = hosts.map(|(_, host)| &**host).collect();
    hosts.join(" and ")
}

/// Whom a client says it is.
const FORGED: &str = "spiffe://pair/ns/shop/sa/forged";

/// What some servers take for a request line.
const ALMOST: [&str; 10] = [
    "GET / HTTP/1.1\r\n",
    "GET  / HTTP/1.1\r\n",
    "\nGET / HTTP/1.1\r\n",
    "\r\n\r\n\r\nGET / HTTP/1.1\r\n",
    "\r\rGET / HTTP/1.1\r\n",
    "GET / HTTP/1.1 \r\n",
    "GET /\tHTTP/1.1\r\n",
    "G!T / HTTP/1.1\r\n",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHI / HTTP/1.1\r\n",
    "GET / HTTP/1.1\n",
];

/// A server, by one way.
struct Server<'a> {
    place: &'a Place,
    seen: &'a Seen,
    address: SocketAddr,
}

impl Server<'_> {
    fn cases(&self, report: &mut Report, name: &str) {
        for (what, cases) in cases::refused() {
            let outcomes = cases.iter().map(|case| (case, self.refuses(case)));
            report.case(format!("{name}: refuses {what}"), all(outcomes));
        }
        let outcomes = cases::taken().into_iter().map(|(case, body)| {
            let outcome = self.takes(&case, body);
            (case, outcome)
        });
        report.case(format!("{name}: takes what is clear"), all(outcomes));
        report.case(
            format!("{name}: nobody says who he is"),
            self.knows_nobody(),
        );
        report.case(
            format!("{name}: the target's authority counts"),
            self.one_authority(),
        );
        let outcome = self.answers_early();
        report.case(
            format!("{name}: an early answer to an expectation"),
            outcome,
        );
    }

    fn connect(&self) -> Result<Wire> {
        Wire::client(self.place.connect_to(self.address)?)
    }

    /// The request gets 400 and ends the connection; nobody sees it, nor what is
    /// hidden in it or comes behind it.
    fn refuses(&self, case: &Case) -> Result<()> {
        let asked = format!(
            "GET /first HTTP/1.1\r\nhost: web\r\n\r\n\
             POST /attack HTTP/1.1\r\n{}\r\n{}{CANARY}",
            case.lines, case.body
        );
        block_on(async {
            let mut wire = self.connect()?;
            wire.send(bytes_of(&asked)).await?;
            told(&wire.answer("GET").await?, "GET /first 0")?;
            equal(&wire.answer("POST").await?.head.status()?, &400)?;
            closed(&mut wire).await
        })?;
        self.goes_on()?;
        self.only(&[("GET /first", ""), ("GET /after", "")])
    }

    /// The request arrives with this body, and what comes behind it as itself.
    fn takes(&self, case: &Case, body: &str) -> Result<()> {
        let asked = format!(
            "POST /good HTTP/1.1\r\n{}\r\n{}{CANARY}",
            case.lines, case.body
        );
        block_on(async {
            let mut wire = self.connect()?;
            wire.send(asked).await?;
            let length = body.len();
            told(&wire.answer("POST").await?, &format!("POST /good {length}"))?;
            told(&wire.answer("GET").await?, "GET /canary 0")
        })?;
        self.goes_on()?;
        self.only(&[
            ("POST /good", body),
            ("GET /canary", ""),
            ("GET /after", ""),
        ])
    }

    /// Whoever has waited to send a body, and is refused, cannot go on as if it had
    /// announced none.
    fn answers_early(&self) -> Result<()> {
        // More than A keeps, so that it does not wait for it.
        let asked = "POST /early HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\n\
                     content-length: 200000\r\n\r\n";
        block_on(async {
            let mut wire = self.connect()?;
            wire.send(asked).await?;
            equal(&wire.answer("POST").await?.head.status()?, &403)?;
            // It may be closed already.
            let _ = wire.send(format!("{SMUGGLED}{CANARY}")).await;
            closed(&mut wire).await
        })?;
        self.goes_on()?;
        self.only(&[("GET /after", "")])
    }

    /// H4: a target may say for whom it is, and `Host` something else.
    fn one_authority(&self) -> Result<()> {
        let asked = "GET http://shop.example/hosts HTTP/1.1\r\nhost: web\r\n\r\n";
        block_on(async {
            let mut wire = self.connect()?;
            wire.send(asked).await?;
            told(&wire.answer("GET").await?, "shop.example")
        })
    }

    /// H6, H7: what a client says of who it is reaches nobody, however it begins: as
    /// bytes that nobody reads it would. Nor does it if it is to be taken out by others.
    fn knows_nobody(&self) -> Result<()> {
        let once = format!("connection: close\r\nl5d-client-id: {FORGED}\r\n");
        let twice = format!(
            "connection: close, l5d-client-id\r\n\
             L5D-CLIENT-ID: {FORGED}\r\nL5d-Client-Id: {FORGED}\r\n"
        );
        for lines in [&once, &twice] {
            for line in ALMOST {
                self.forges(line, lines)?;
            }
        }
        Ok(())
    }

    /// A request that begins so, and says in these lines who its client is.
    fn forges(&self, begin: &str, lines: &str) -> Result<()> {
        let asked = format!("{begin}host: web\r\n{lines}\r\n");
        block_on(async {
            let mut wire = self.connect()?;
            wire.send(&asked).await?;
            wire.finish().await?;
            // Refused, or answered; either may break off.
            let _ = wire.rest().await;
            Ok(())
        })?;
        let seen = self.seen.take();
        let forged = seen.iter().any(|(asked, _)| asked == FORGED);
        ensure!(!forged, "the server was told so by {begin:?}");
        Ok(())
    }

    /// H5: rules that name paths see the bytes that the application sees.
    fn paths(&self) -> Result<()> {
        const PATHS: &[&str] = &[
            "//a",
            "/a//b",
            "/%2Fa",
            "/%2e%2e/a",
            "/a/../b",
            "/./a",
            "/a/.",
            "/a;x=y",
            "/A",
            "/%61",
            "/a%00b",
            "/a\\b",
            "/a/..;/b",
            "/%252e",
            "/a?b=/../c",
            "/a??",
            "/%c0%af",
            "/a%",
            "*",
        ];
        for path in PATHS {
            let method = if *path == "*" { "OPTIONS" } else { "GET" };
            let asked = format!("{method} {path} HTTP/1.1\r\nhost: web\r\n\r\n");
            block_on(async {
                let mut wire = self.connect()?;
                wire.send(asked).await?;
                told(&wire.answer(method).await?, &format!("{method} {path} 0"))
            })?;
            self.only(&[(&format!("{method} {path}"), "")])?;
        }
        Ok(())
    }

    /// A request of somebody else is answered as itself.
    fn goes_on(&self) -> Result<()> {
        block_on(async {
            let mut wire = self.connect()?;
            wire.send("GET /after HTTP/1.1\r\nhost: web\r\n\r\n")
                .await?;
            told(&wire.answer("GET").await?, "GET /after 0")
        })
    }

    /// These requests were seen since this was asked last, in that order, and no
    /// others.
    fn only(&self, expected: &[(&str, &str)]) -> Result<()> {
        let seen = self.seen.take();
        let seen: Vec<(&str, &str)> = seen
            .iter()
            .map(|(asked, body)| (&**asked, std::str::from_utf8(body).unwrap_or("no text")))
            .collect();
        equal(&&seen[..], &expected)
    }
}

/// Comes behind what is tried.
const CANARY: &str = "GET /canary HTTP/1.1\r\nhost: web\r\n\r\n";

fn told(answer: &Message, expected: &str) -> Result<()> {
    equal(&answer.head.status()?, &200)?;
    equal(&&*String::from_utf8_lossy(&answer.body), &expected)
}

/// The connection ends, and nothing more comes on it.
async fn closed(wire: &mut Wire) -> Result<()> {
    // What was not read may reset it.
    let rest = wire.rest().await.unwrap_or_default();
    ensure!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    Ok(())
}

/// Fails with the first cases that do, and how many there are.
fn all<C: std::borrow::Borrow<Case>>(
    outcomes: impl Iterator<Item = (C, Result<()>)>,
) -> Result<()> {
    const SHOWN: usize = 5;
    let failed = outcomes.filter_map(|(case, outcome)| {
        let error = outcome.err()?;
        Some(format!("{}: {error:#}", case.borrow().name))
    });
    let failed: Vec<String> = failed.collect();
    if failed.is_empty() {
        return Ok(());
    }
    let shown = &failed[..failed.len().min(SHOWN)];
    bail!("{} cases: {}", failed.len(), shown.join("; "))
}
