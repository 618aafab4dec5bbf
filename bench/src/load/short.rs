//! One short connection after the other, several at one time.

use std::{
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};

use super::{
    bulk::{ECHO, connect, read_echo},
    carrier::{Scratch, Then, Version},
    closed::{AUTHORITY, Done, TICK},
    payload::MARKER,
    requests::Kind,
    session::{Asked, Session},
    window::Window,
};
use crate::interrupt;

/// Connections at one time.
const LANES: usize = 16;
/// Bytes of the only answer on each.
const ANSWER: usize = 100;
const STALLED: Duration = Duration::from_secs(10);

/// New connections with one HTTP/1 request each, until the window is over.
///
/// # Errors
/// If any answer is wrong, or none comes.
pub(crate) fn http(address: SocketAddr, mut window: Window) -> Result<Done> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut asked = Asked::new(Kind::Get(ANSWER), AUTHORITY)?;
    let mut lanes = Vec::new();
    for token in 0..LANES {
        lanes.push(lane(address, &mut asked, &epoll, token)?);
    }
    let (mut done, mut last) = (0, Instant::now());
    let (mut scratch, mut events) = (Scratch::new(), vec![EpollEvent::empty(); LANES]);
    while !window.is_over() {
        interrupt::check()?;
        let woken = epoll.wait(&mut events, TICK)?;
        let now = Instant::now();
        let counts = window.is_open(now)?;
        for event in &events[..woken] {
            let token = usize::try_from(event.data())?;
            let session = &mut lanes[token];
            let then = session.read(&mut scratch, &asked, now, |_| {
                done += u64::from(counts);
                last = now;
                Ok(())
            })?;
            if session.under_way() == 0 {
                // Dropping the old one closes it, which takes it out of epoll.
                *session = lane(address, &mut asked, &epoll, token)?;
            } else {
                ensure!(then == Then::GoesOn, "a connection was closed");
                session.flush(&epoll, now)?;
            }
        }
        if now.duration_since(last) > STALLED {
            bail!("no answer for {STALLED:?}");
        }
    }
    let used = window.used().context("the window is over")?;
    Ok(Done {
        requests: done,
        bytes: 0,
        used,
    })
}

/// A new connection with its request.
fn lane(address: SocketAddr, asked: &mut Asked, epoll: &Epoll, token: usize) -> Result<Session> {
    let mut session = Session::open(address, Version::Http1, epoll, token as u64)?;
    let now = Instant::now();
    session.ask(asked, now, now)?;
    session.flush(epoll, now)?;
    Ok(session)
}

/// New TCP connections with one echo each, until the window is over: opened
/// several at a time, and then spoken on one after the other.
///
/// # Errors
/// If an echo is wrong, or none comes.
pub(crate) fn tcp(address: SocketAddr, mut window: Window) -> Result<Done> {
    let mut done = 0;
    while !window.is_over() {
        interrupt::check()?;
        let mut sockets = Vec::with_capacity(LANES);
        for _ in 0..LANES {
            let mut socket = connect(address)?;
            socket.write_all(&first_bytes())?;
            sockets.push(socket);
        }
        for socket in &mut sockets {
            read_echo(socket, &first_bytes())?;
        }
        if window.is_open(Instant::now())? {
            done += LANES as u64;
        }
    }
    let used = window.used().context("the window is over")?;
    Ok(Done {
        requests: done,
        bytes: 0,
        used,
    })
}

/// What asks for an echo, of itself.
pub(crate) fn first_bytes() -> [u8; 1 + MARKER.len()] {
    let mut bytes = [ECHO; 1 + MARKER.len()];
    bytes[1..].copy_from_slice(MARKER);
    bytes
}
