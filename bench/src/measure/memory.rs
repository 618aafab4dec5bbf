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

pub(super) fn measure(cx: &Surroundings, subject: Subject, length: Duration) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut pair = Pair::start(cx, subject, ONE_WORKER)?;
    let of_a = |pair: &Pair| settled(pair, |proxies| proxies.a.resident());
    let of_both = |pair: &Pair| {
        settled(pair, |proxies| {
            Ok(proxies.a.resident()? + proxies.b.resident()?)
        })
    };
    outcome.push("memory_fresh", "MiB", of_a(&pair)? / MIB);
    HTTP1.run(&mut pair, length)?;
    HTTP2.run(&mut pair, length)?;
    outcome.push("memory_loaded", "MiB", of_a(&pair)? / MIB);
    drop(pair);

    let mut pair = Pair::start(cx, subject, ONE_WORKER)?;
    let (before, address) = (of_a(&pair)?, pair.http(HTTP1.version, HTTP1.kind));
    let connections = pair.client(|| idle::http(address, IDLE))?;
    outcome.push("memory_http1_connection", "KiB", each(before, of_a(&pair)?));
    drop(connections);
    drop(pair);

    let mut pair = Pair::start(cx, subject, ONE_WORKER)?;
    let (before, address) = (of_both(&pair)?, pair.bytes());
    let connections = pair.client(|| idle::tcp(address, IDLE))?;
    outcome.push(
        "memory_tcp_connection",
        "KiB",
        each(before, of_both(&pair)?),
    );
    drop(connections);
    Ok(outcome)
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
