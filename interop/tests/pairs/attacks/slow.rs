//! Clients that begin and do not go on.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::namespace::{B, SERVICE, Side};

use super::{HONEST, THROUGH_A};
use crate::{
    origin::Origin,
    place::{Place, open},
    report::{Group, Report},
    wire::{Wire, block_on},
};

/// Clients at one time.
const CLIENTS: usize = 5000;
/// Where HTTP/1 is spoken, and HTTP/2, as A and B are told.
const HTTP1: u16 = 9002;
const HTTP2: u16 = 9003;
/// What is spoken is found out within 10 s, and a head is there within 10 s more. The
/// rest is for machines that are busy.
const DEADLINE: Duration = Duration::from_secs(45);
/// What one of them may cost meanwhile, in bytes.
const EACH: u64 = 20 << 10;

/// How they begin.
const BEGIN: [(u16, &str); 5] = [
    (HTTP1, "GET / HTTP/1.1\r\nhost: w"),
    (HTTP1, "P"),
    (HTTP1, ""),
    (HTTP2, "PRI * HTTP/2.0\r\n\r\nSM\r\n"),
    (HTTP2, ""),
];

#[test]
fn h17_thousands_of_clients_that_do_not_go_on_are_closed_on_the_deadline() {
    let declared = [
        open(HTTP1, Protocol::Http1),
        open(HTTP2, Protocol::Http2),
        open(HONEST, Protocol::Detect),
        open(HONEST + THROUGH_A, Protocol::Detect).at(HONEST),
    ];
    let mut place = Place::new(&declared);
    let _origin = Origin::http1(&place, HONEST);
    let mut report = Report::new(Group::Slow);
    let before = place.pair.sidecar(Side::B).resident().unwrap();
    let start = Instant::now();
    let clients: Vec<(TcpStream, &str)> = place.pair.site().a.enter(begin).unwrap().unwrap();
    report.case("others are served meanwhile", served(&place));
    let held = place.pair.sidecar(Side::B).resident().unwrap();
    let more = held.saturating_sub(before) / CLIENTS as u64;
    let outcome = || {
        ensure!(more < EACH, "{more} bytes for each");
        Ok(())
    };
    report.case("each costs little", outcome());
    let closed = clients
        .into_iter()
        .try_for_each(|(socket, began)| closed(socket, began, start));
    report.case(format!("{CLIENTS} clients are closed"), closed);
    report.case("others are served afterwards", served(&place));
    report.finish(&mut place);
}

/// All begin, past A.
fn begin() -> Result<Vec<(TcpStream, &'static str)>> {
    let clients = (0..CLIENTS).map(|n| {
        let (port, begin) = BEGIN[n % BEGIN.len()];
        let mut socket = TcpStream::connect((B, port))?;
        socket.write_all(begin.as_bytes())?;
        Ok((socket, begin))
    });
    clients.collect()
}

/// The sidecar has ended it, in time, and by itself.
fn closed(mut socket: TcpStream, began: &str, start: Instant) -> Result<()> {
    let left = DEADLINE.saturating_sub(start.elapsed());
    socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    let mut said = Vec::new();
    match socket.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => bail!("{began:?}: {error} after {:?}", start.elapsed()),
    }
    let said = String::from_utf8_lossy(&said);
    ensure!(!said.contains(" 200 "), "{began:?}: {said}");
    Ok(())
}

fn served(place: &Place) -> Result<()> {
    for to in [(B, HONEST), (SERVICE, HONEST + THROUGH_A)] {
        block_on(async {
            let mut wire = Wire::client(place.connect_to(to.into())?)?;
            wire.send("GET /bytes/10 HTTP/1.1\r\nhost: web\r\n\r\n")
                .await?;
            let answer = wire.answer("GET").await?;
            ensure!(answer.body.len() == 10, "{answer:?}");
            Ok(())
        })?;
    }
    Ok(())
}
