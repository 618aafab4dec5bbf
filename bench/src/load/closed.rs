//! As many requests as there can be: each answer is followed by the next
//! request.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};

use super::{
    carrier::{Scratch, Then, Version},
    requests::Kind,
    session::{Asked, Session},
    window::{Used, Window},
};
use crate::interrupt;

/// How long nothing may happen.
const STALLED: Duration = Duration::from_secs(15);
/// How often a loop that waits looks whether it is to end, in milliseconds.
pub(crate) const TICK: u8 = 100;

/// What is asked of whom.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) version: Version,
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    /// Requests at one time on each.
    pub(crate) streams: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// Requests that were answered within the window.
    pub(crate) requests: u64,
    /// Bytes of bodies that came within the window, also of answers that were
    /// not whole at its ends.
    pub(crate) bytes: u64,
    pub(crate) used: Used,
}

/// Runs `plan` until the window is over, and lets what is under way end.
///
/// # Errors
/// If any answer is wrong, or none comes.
pub(crate) fn run(plan: &Plan, mut window: Window) -> Result<Done> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut asked = Asked::new(plan.kind, AUTHORITY)?;
    let mut sessions = Vec::new();
    for token in 0..plan.connections {
        sessions.push(Session::open(
            plan.address,
            plan.version,
            &epoll,
            token as u64,
        )?);
    }
    for session in &mut sessions {
        fill(session, &mut asked, plan.streams, &epoll)?;
    }
    let (mut requests, mut bytes, mut last) = (0, 0, Instant::now());
    let (mut scratch, mut events) = (Scratch::new(), vec![EpollEvent::empty(); 256]);
    while !window.is_over() || sessions.iter().any(|session| session.under_way() > 0) {
        interrupt::check()?;
        let woken = epoll.wait(&mut events, TICK)?;
        let now = Instant::now();
        let counts = window.is_open(now)?;
        for event in &events[..woken] {
            let session = &mut sessions[usize::try_from(event.data())?];
            let before = (requests, session.received());
            let then = session.read(&mut scratch, &asked, now, |_| {
                requests += u64::from(counts);
                last = now;
                Ok(())
            });
            let then = then.with_context(|| format!("after {} requests", before.0))?;
            if session.received() > before.1 {
                last = now;
                bytes += if counts {
                    session.received() - before.1
                } else {
                    0
                };
            }
            ensure!(
                then == Then::GoesOn || window.is_over(),
                "a connection was closed"
            );
            if !window.is_over() {
                fill(session, &mut asked, plan.streams, &epoll)?;
            } else {
                session.flush(&epoll, now)?;
            }
        }
        if now.duration_since(last) > STALLED {
            bail!("no answer for {STALLED:?}");
        }
    }
    let used = window.used().context("the window is over")?;
    Ok(Done {
        requests,
        bytes,
        used,
    })
}

/// The name that requests are for.
pub(crate) const AUTHORITY: &str = "web.shop.svc.cluster.local:8000";

/// Sends requests until so many are under way.
fn fill(session: &mut Session, asked: &mut Asked, streams: usize, epoll: &Epoll) -> Result<()> {
    let now = Instant::now();
    while session.under_way() < streams && session.has_room() {
        session.ask(asked, now, now)?;
    }
    session.flush(epoll, now)
}
