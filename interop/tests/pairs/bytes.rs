//! Protocols that nobody reads: bytes in both directions, and how they end.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use mesh_core::destination::Protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    content::{SIZES, check, content},
    messages::equal,
    origin::Origin,
    place::{Place, declared, detected},
    report::{Group, Report},
    wire::Wire,
};

/// Sends back what comes.
const ECHO: u16 = 9100;
const ECHO_DETECTED: u16 = 9101;
/// Sends, and closes.
const SPEAKS_FIRST: u16 = 9110;
const SPEAKS_FIRST_DETECTED: u16 = 9111;
/// Reads to the end, and then says how much that was.
const COUNT: u16 = 9120;
const COUNT_DETECTED: u16 = 9121;
/// Resets a connection after its first byte.
const RESETS: u16 = 9130;
const RESETS_DETECTED: u16 = 9131;
/// Tells us how connections end.
const TELLS: u16 = 9140;
const TELLS_DETECTED: u16 = 9141;
/// Greets, ends its half, and tells us all that comes afterwards.
const ENDS: u16 = 9150;
const ENDS_DETECTED: u16 = 9151;

const DEADLINE: Duration = Duration::from_secs(20);
const GREETING: &[u8] = b"220 here first\r\n";

#[test]
fn bytes_arrive_and_end_as_they_were_sent() {
    let pairs = [
        (ECHO, ECHO_DETECTED),
        (SPEAKS_FIRST, SPEAKS_FIRST_DETECTED),
        (COUNT, COUNT_DETECTED),
        (RESETS, RESETS_DETECTED),
        (TELLS, TELLS_DETECTED),
        (ENDS, ENDS_DETECTED),
    ];
    let ports: Vec<_> = pairs
        .into_iter()
        .flat_map(|(port, same)| [declared(port, Protocol::Opaque), detected(same).at(port)])
        .collect();
    let mut place = Place::new(&ports);
    let ((ends, told), (all, arrived)) = (sync_channel(16), sync_channel(16));
    let _origins = origins(&place, ends, all);
    let mut report = Report::new(Group::Bytes);
    for (how, at) in [("declared", 0), ("detected", 1)] {
        for size in SIZES {
            let outcome = echoed(&place, ECHO + at, size);
            report.case(format!("{how}: {size} bytes both ways"), outcome);
        }
        let outcome = server_first(&place, SPEAKS_FIRST + at);
        report.case(format!("{how}: the server speaks first"), outcome);
        let outcome = client_ends(&place, COUNT + at);
        report.case(format!("{how}: the client ends first"), outcome);
        let outcome = server_ends(&place, ENDS + at, &arrived);
        report.case(format!("{how}: the server ends first"), outcome);
        let outcome = server_resets(&place, RESETS + at);
        report.case(format!("{how}: the server resets"), outcome);
        let outcome = client_resets(&place, TELLS + at, &told);
        report.case(format!("{how}: the client resets"), outcome);
        let outcome = client_closes(&place, TELLS + at, &told);
        report.case(format!("{how}: the client closes"), outcome);
    }
    report.finish(&mut place);
}

/// How a connection ended for a server.
type End = Result<usize, ErrorKind>;

fn origins(place: &Place, ends: SyncSender<End>, arrived: SyncSender<Vec<u8>>) -> [Origin; 6] {
    [
        Origin::start(place, ECHO, |socket| async {
            Ok(Wire::new(socket).echo().await?)
        }),
        Origin::start(place, SPEAKS_FIRST, |mut socket| async move {
            socket.write_all(GREETING).await?;
            Ok(socket.write_all(&content(100_000)).await?)
        }),
        Origin::start(place, COUNT, |mut socket| async move {
            let mut all = Vec::new();
            socket.read_to_end(&mut all).await?;
            Ok(socket.write_all(all.len().to_string().as_bytes()).await?)
        }),
        Origin::start(place, RESETS, |mut socket| async move {
            socket.read_u8().await?;
            // Closing now resets: what was sent does not matter any more.
            Ok(socket.set_zero_linger()?)
        }),
        Origin::start(place, TELLS, move |mut socket| {
            let ends = ends.clone();
            async move {
                let end = socket.read_to_end(&mut Vec::new()).await;
                Ok(ends.send(end.map_err(|error| error.kind()))?)
            }
        }),
        Origin::start(place, ENDS, move |mut socket| {
            let arrived = arrived.clone();
            async move {
                socket.write_all(GREETING).await?;
                socket.shutdown().await?;
                let mut all = Vec::new();
                socket.read_to_end(&mut all).await?;
                Ok(arrived.send(all)?)
            }
        }),
    ]
}

fn client(place: &Place, port: u16) -> Result<TcpStream> {
    let socket = place.connect(port)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    Ok(socket)
}

fn echoed(place: &Place, port: u16, length: usize) -> Result<()> {
    let socket = client(place, port)?;
    let mut sending = socket.try_clone()?;
    // The first byte is no method's.
    let sender = std::thread::spawn(move || -> Result<()> {
        sending.write_all(b"\0")?;
        sending.write_all(&content(length))?;
        Ok(sending.shutdown(Shutdown::Write)?)
    });
    let mut back = Vec::new();
    (&socket).read_to_end(&mut back)?;
    sender.join().ok().context("the sender has panicked")??;
    equal(&back.first(), &Some(&0))?;
    check(&back[1..], length)
}

fn server_first(place: &Place, port: u16) -> Result<()> {
    let mut socket = client(place, port)?;
    let mut all = Vec::new();
    socket.read_to_end(&mut all)?;
    let body = all.strip_prefix(GREETING).context("no greeting")?;
    check(body, 100_000)
}

fn client_ends(place: &Place, port: u16) -> Result<()> {
    let mut socket = client(place, port)?;
    socket.write_all(&[1; 30_000])?;
    socket.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    equal(&&*answer, &"30000")
}

/// The client goes on when it has seen the end, and all of that arrives.
fn server_ends(place: &Place, port: u16, arrived: &Receiver<Vec<u8>>) -> Result<()> {
    const LENGTH: usize = 1 << 20;
    let mut socket = client(place, port)?;
    // No method's.
    socket.write_all(b"\0")?;
    let mut said = Vec::new();
    socket.read_to_end(&mut said)?;
    equal(&&*said, &GREETING)?;
    socket.write_all(&content(LENGTH))?;
    socket.shutdown(Shutdown::Write)?;
    let all = arrived.recv_timeout(DEADLINE)?;
    equal(&all.first(), &Some(&0))?;
    check(&all[1..], LENGTH)
}

fn server_resets(place: &Place, port: u16) -> Result<()> {
    let mut socket = client(place, port)?;
    socket.write_all(&[1])?;
    match socket.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => bail!("{other:?} instead of a reset"),
    }
}

fn client_resets(place: &Place, port: u16, told: &Receiver<End>) -> Result<()> {
    let mut socket = client(place, port)?;
    socket.write_all(&[1; 100])?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Linger, &RESET)?;
    drop(socket);
    let end = told.recv_timeout(DEADLINE)?;
    equal(&end, &Err(ErrorKind::ConnectionReset))
}

/// To be reset when it is closed.
const RESET: nix::libc::linger = nix::libc::linger {
    l_onoff: 1,
    l_linger: 0,
};

fn client_closes(place: &Place, port: u16, told: &Receiver<End>) -> Result<()> {
    let mut socket = client(place, port)?;
    socket.write_all(&[1; 100])?;
    drop(socket);
    let end = told.recv_timeout(DEADLINE)?;
    equal(&end, &Ok(100))
}
