//! Requests at a steady rate, whether or not earlier ones have been answered. A
//! latency begins when its request was due, so that a proxy that stalls cannot
//! hide it by slowing its client down.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
    timer::{Expiration, TimerSetTimeFlags},
    timerfd::{ClockId, TimerFd, TimerFlags},
};

use super::{
    carrier::{Scratch, Then},
    closed::{AUTHORITY, Plan, TICK},
    session::{Asked, Session},
    window::{Used, Window},
};
use crate::{interrupt, stats::latencies};

/// How long those that were due within the window may take afterwards.
const LATEST: Duration = Duration::from_secs(60);
/// The timer's token.
const TIMER: u64 = u64::MAX;

/// What came of it.
pub(crate) struct Done {
    /// Of all requests that were due within the window, in nanoseconds. A proxy
    /// that cannot keep up with the rate is seen by latencies that grow.
    pub(crate) latencies: Histogram<u64>,
    /// How many answers came within the window.
    pub(crate) answered: u64,
    pub(crate) used: Used,
}

/// A schedule: the next request is due at `next`.
struct Schedule {
    next: Instant,
    interval: Duration,
}

impl Schedule {
    /// The requests that have become due by `now`.
    fn due(&mut self, now: Instant) -> impl Iterator<Item = Instant> {
        std::iter::from_fn(move || {
            let due = self.next;
            (due <= now).then(|| {
                self.next += self.interval;
                due
            })
        })
    }
}

/// Asks `rate` times a second, over connections with one request each at a
/// time, until the window is over.
///
/// # Errors
/// If any answer is wrong, or does not come.
pub(crate) fn run(plan: &Plan, rate: u32, mut window: Window) -> Result<Done> {
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
    let mut free: VecDeque<usize> = (0..sessions.len()).collect();
    let mut waiting = VecDeque::new();
    let interval = Duration::from_secs(1) / rate;
    let timer = timer(interval)?;
    epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
    let mut schedule = Schedule {
        next: Instant::now() + interval,
        interval,
    };
    let (mut latencies, mut answered) = (latencies(), 0);
    let (mut scratch, mut events) = (Scratch::new(), vec![EpollEvent::empty(); 256]);
    while !window.is_over() || free.len() < sessions.len() {
        interrupt::check()?;
        let woken = epoll.wait(&mut events, TICK)?;
        for event in &events[..woken] {
            if event.data() == TIMER {
                timer.wait()?;
                continue;
            }
            let at = usize::try_from(event.data())?;
            let now = Instant::now();
            let counts = window.is_open(now)?;
            let session = &mut sessions[at];
            let then = session.read(&mut scratch, &asked, now, |due| {
                free.push_back(at);
                answered += u64::from(counts);
                if window.holds(due) {
                    latencies.record(nanoseconds(now.saturating_duration_since(due)))?;
                }
                Ok(())
            })?;
            ensure!(then == Then::GoesOn, "a connection was closed");
            session.flush(&epoll, now)?;
        }
        let now = Instant::now();
        window.is_open(now)?;
        if !window.is_over() {
            waiting.extend(schedule.due(now));
        } else if window.is_long_over(now, LATEST) {
            bail!("answers are missing {LATEST:?} after the last request");
        }
        while !waiting.is_empty()
            && let Some(at) = free.pop_front()
            && let Some(due) = waiting.pop_front()
        {
            sessions[at].ask(&mut asked, due, now)?;
            sessions[at].flush(&epoll, now)?;
        }
    }
    let used = window.used().context("the window is over")?;
    Ok(Done {
        latencies,
        answered,
        used,
    })
}

fn nanoseconds(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Wakes us once for each request.
fn timer(interval: Duration) -> Result<TimerFd> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
    let each = Expiration::Interval(interval.into());
    timer.set(each, TimerSetTimeFlags::empty())?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_due_when_the_schedule_says_and_not_when_we_come_round() {
        let start = Instant::now();
        let interval = Duration::from_micros(500);
        let mut schedule = Schedule {
            next: start,
            interval,
        };
        assert_eq!(schedule.due(start).collect::<Vec<_>>(), [start]);
        assert_eq!(schedule.due(start + interval / 2).count(), 0);
        let late = start + interval * 3;
        let due: Vec<_> = schedule.due(late).collect();
        assert_eq!(due, [1, 2, 3].map(|passed| start + interval * passed));
    }
}
