//! Connections that were used once and then lie idle.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};

use super::{
    bulk::{connect, read_echo},
    carrier::{Scratch, Then, Version},
    closed::{AUTHORITY, TICK},
    requests::Kind,
    session::{Asked, Session},
    short::first_bytes,
};
use crate::interrupt;

const STALLED: Duration = Duration::from_secs(10);

/// Idle HTTP/1 connections; they end when this is dropped.
pub(crate) struct Http {
    _sessions: Vec<Session>,
    _epoll: Epoll,
}

/// Opens `count` HTTP/1 connections with one answered request of 1 KiB each.
///
/// # Errors
/// If one is refused or answered wrongly.
pub(crate) fn http(address: SocketAddr, count: usize) -> Result<Http> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut asked = Asked::new(Kind::Get(1024), AUTHORITY)?;
    let (mut scratch, mut events) = (Scratch::new(), [EpollEvent::empty(); 1]);
    let mut sessions = Vec::with_capacity(count);
    for token in 0..count {
        let mut session = Session::open(address, Version::Http1, &epoll, token as u64)?;
        let start = Instant::now();
        session.ask(&mut asked, start, start)?;
        session.flush(&epoll, start)?;
        while session.under_way() > 0 {
            interrupt::check()?;
            epoll.wait(&mut events, TICK)?;
            let now = Instant::now();
            let then = session.read(&mut scratch, &asked, now, |_| Ok(()))?;
            ensure!(then == Then::GoesOn, "connection {token} was closed");
            ensure!(now < start + STALLED, "no answer on connection {token}");
        }
        sessions.push(session);
    }
    Ok(Http {
        _sessions: sessions,
        _epoll: epoll,
    })
}

/// Opens `count` TCP connections with one echo each.
///
/// # Errors
/// If one is refused or has no echo.
pub(crate) fn tcp(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut sockets = Vec::with_capacity(count);
    for at in 0..count {
        interrupt::check()?;
        let mut socket = connect(address)?;
        socket.write_all(&first_bytes())?;
        let echo = read_echo(&mut socket, &first_bytes());
        echo.with_context(|| format!("with {at} connections that are idle"))?;
        sockets.push(socket);
    }
    Ok(sockets)
}
