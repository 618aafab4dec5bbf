//! What proxies hold in memory: fresh, after load, and for each idle
//! connection.

use std::{thread::sleep, time::Duration};

use anyhow::{Context as _, Result};

use super::{HTTP1, HTTP2, Outcome};
use crate::{
    load::idle,
    pair::{ONE_WORKER, Pair, Proxies, Surroundings},
    subject::Subject,
};

/// Idle connections at one time.
const IDLE: usize = 5_000;
/// How long a proxy is left alone before it is looked at.
const SETTLE: Duration = Duration::from_millis(500);
const MIB: f64 = (1 << 20) as f64;

/// A by itself, with the first request behind it, and after much load.
pub(super) fn of_a(cx: &Surroundings, subject: Subject, length: Duration) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut pair = Pair::start(cx, subject, ONE_WORKER)?;
    outcome.push("memory_fresh", "MiB", settled(&pair, of_outbound)? / MIB);
    HTTP1.run(&mut pair, length)?;
    HTTP2.run(&mut pair, length)?;
    outcome.push("memory_loaded", "MiB", settled(&pair, of_outbound)? / MIB);
    Ok(outcome)
}

/// A, for each idle HTTP/1 connection.
pub(super) fn idle_http1(cx: &Surroundings, subject: Subject) -> Result<Outcome> {
    let mut pair = Pair::start(cx, subject, ONE_WORKER)?;
    let before = settled(&pair, of_outbound)?;
    let address = pair.http(HTTP1.version, HTTP1.kind);
    let connections = pair.client(|| idle::http(address, IDLE))?;
    let after = settled(&pair, of_outbound)?;
    drop(connections);
    let mut outcome = Outcome::default();
    outcome.push("memory_http1_connection", "KiB", each(before, after));
    Ok(outcome)
}

/// A and B together, for each idle TCP connection.
pub(super) fn idle_tcp(cx: &Surroundings, subject: Subject) -> Result<Outcome> {
    let mut pair = Pair::start(cx, subject, ONE_WORKER)?;
    let before = settled(&pair, of_both)?;
    let address = pair.bytes();
    let connections = pair.client(|| idle::tcp(address, IDLE))?;
    let after = settled(&pair, of_both)?;
    drop(connections);
    let mut outcome = Outcome::default();
    outcome.push("memory_tcp_connection", "KiB", each(before, after));
    Ok(outcome)
}

fn of_outbound(proxies: &Proxies) -> Result<u64> {
    proxies.a.resident()
}

fn of_both(proxies: &Proxies) -> Result<u64> {
    Ok(proxies.a.resident()? + proxies.b.resident()?)
}

fn settled(pair: &Pair, resident: impl Fn(&Proxies) -> Result<u64>) -> Result<f64> {
    let proxies = pair.proxies.as_ref().context("there are no proxies")?;
    sleep(SETTLE);
    Ok(resident(proxies)? as f64)
}

/// KiB for each of the idle connections.
fn each(before: f64, after: f64) -> f64 {
    (after - before) / 1024.0 / IDLE as f64
}
