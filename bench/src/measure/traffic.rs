//! Groups whose pairs run on: load for some seconds, and what it cost.

use std::{sync::PoisonError, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mesh_pair::identity::{CLIENT, SERVER};
use mesh_testing::ca::id;

use super::Outcome;
use crate::{
    load::{
        bulk::{self, Direction},
        carrier::Version,
        closed::{Done, Plan},
        handshakes, open,
        requests::{GRPC_MESSAGE, Kind},
        short,
        window::{Used, Window},
    },
    pair::{Pair, Surroundings, crossed},
    stats::microseconds_at,
};

/// Requests a second of the group `Latency`.
const RATES: [u32; 2] = [2_000, 8_000];
/// Names and sizes of the group `Bodies`.
const BODIES: [(&str, usize); 4] = [
    ("0b", 0),
    ("1kib", 1 << 10),
    ("64kib", 64 << 10),
    ("10mib", 10 << 20),
];

/// How long the first load of a kind goes on before anything counts.
const FIRST: Duration = Duration::from_millis(1500);
/// A body from this size on is counted by its bytes.
const LARGE: usize = 1 << 20;

/// The load of a group, but for where it goes.
pub(super) struct Load {
    pub(super) version: Version,
    pub(super) kind: Kind,
    connections: usize,
    streams: usize,
}

pub(super) const HTTP1: Load = Load {
    version: Version::Http1,
    kind: Kind::Get(1024),
    connections: 64,
    streams: 1,
};
pub(super) const HTTP2: Load = Load {
    version: Version::Http2,
    kind: Kind::Get(1024),
    connections: 8,
    streams: 32,
};
pub(super) const GRPC: Load = Load {
    version: Version::Http2,
    kind: Kind::Grpc(GRPC_MESSAGE),
    connections: 8,
    streams: 32,
};

impl Load {
    pub(super) fn plan(&self, pair: &Pair) -> Plan {
        Plan {
            address: pair.http(self.version, self.kind),
            version: self.version,
            kind: self.kind,
            connections: self.connections,
            streams: self.streams,
        }
    }

    /// Carries it for `length`, after it was seen to be encrypted, and has been
    /// carried once: there may be hundreds of connections to open between A and
    /// B.
    pub(super) fn run(&self, pair: &mut Pair, length: Duration) -> Result<Done> {
        let plan = self.plan(pair);
        if pair.verify(self.version, self.kind)? {
            pair.closed(&plan, FIRST)?;
        }
        let done = pair.closed(&plan, length)?;
        ensure!(
            done.requests > 0,
            "no request was answered within the interval"
        );
        Ok(done)
    }
}

pub(super) fn requests(
    pair: &mut Pair,
    name: &str,
    load: &Load,
    length: Duration,
) -> Result<Outcome> {
    let done = load.run(pair, length)?;
    worked(pair, &done.used)?;
    let mut outcome = Outcome::default();
    outcome.push(format!("{name}_rate"), "requests/s", rate(&done));
    if pair.proxies.is_some() {
        let cpu = done.used.cpu.as_secs_f64() / done.requests as f64 * 100_000.0;
        outcome.push(format!("{name}_cpu"), "s/100k", cpu);
    }
    Ok(outcome)
}

/// A load that went past the proxies would make them look very fast.
fn worked(pair: &Pair, used: &Used) -> Result<()> {
    ensure!(
        pair.proxies.is_none() || !used.cpu.is_zero(),
        "the proxies had nothing to do"
    );
    Ok(())
}

pub(super) fn rate(done: &Done) -> f64 {
    done.requests as f64 / done.used.seconds
}

pub(super) fn latency(pair: &mut Pair, length: Duration) -> Result<Outcome> {
    pair.verify(HTTP1.version, HTTP1.kind)?;
    let plan = HTTP1.plan(pair);
    let mut outcome = Outcome::default();
    for rate in RATES {
        let pids = pair.pids();
        let window = || Window::new(&pids, length / 4, length);
        let done = pair.client(|| open::run(&plan, rate, window()))?;
        ensure!(
            !done.latencies.is_empty(),
            "no request was due within the interval"
        );
        crossed(
            done.used.link,
            done.answered * 1024,
            plan.connections as u64 * 1024,
        )?;
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let value = microseconds_at(&done.latencies, quantile);
            outcome.push(format!("latency_{rate}_{name}"), "us", value);
        }
        outcome.latencies.push((rate, done.latencies));
    }
    Ok(outcome)
}

pub(super) fn bulk(pair: &mut Pair, length: Duration) -> Result<Outcome> {
    pair.verify_bytes()?;
    let (address, pids) = (pair.bytes(), pair.pids());
    let mut outcome = Outcome::default();
    for (name, direction) in [("down", Direction::Down), ("up", Direction::Up)] {
        let window = Window::new(&pids, length / 4, length);
        let done = pair.client(|| bulk::run(address, direction, window))?;
        worked(pair, &done.used)?;
        ensure!(done.bytes > 0, "nothing was carried");
        // Socket buffers fill and empty at the ends of the interval.
        crossed(done.used.link, done.bytes, 32 << 20)?;
        let gigabits = done.bytes as f64 * 8.0 / 1e9 / done.used.seconds;
        outcome.push(format!("bulk_{name}_rate"), "Gbit/s", gigabits);
        if pair.proxies.is_some() {
            let gib = done.bytes as f64 / f64::from(1 << 30);
            let cpu = done.used.cpu.as_secs_f64() / gib;
            outcome.push(format!("bulk_{name}_cpu"), "s/GiB", cpu);
        }
    }
    Ok(outcome)
}

pub(super) fn connections(pair: &mut Pair, length: Duration) -> Result<Outcome> {
    pair.verify(HTTP1.version, HTTP1.kind)?;
    pair.verify_bytes()?;
    let mut outcome = Outcome::default();
    let pids = pair.pids();
    let window = || Window::new(&pids, length / 5, length);
    let (http, bytes) = (pair.http(HTTP1.version, HTTP1.kind), pair.bytes());
    let done = pair.client(|| short::http(http, window()))?;
    push_each(
        &mut outcome,
        "connections_http1",
        &done,
        pair.proxies.is_some(),
    )?;
    let done = pair.client(|| short::tcp(bytes, window()))?;
    push_each(
        &mut outcome,
        "connections_tcp",
        &done,
        pair.proxies.is_some(),
    )?;
    Ok(outcome)
}

/// How many a second, and what each costs.
fn push_each(outcome: &mut Outcome, name: &str, done: &Done, has_cost: bool) -> Result<()> {
    ensure!(done.requests > 0, "{name}: none within the interval");
    outcome.push(format!("{name}_rate"), "1/s", rate(done));
    if has_cost {
        let each = done.used.cpu.as_secs_f64() * 1000.0 / done.requests as f64;
        outcome.push(format!("{name}_cpu"), "ms each", each);
    }
    Ok(())
}

/// Who shakes hands with B.
pub(crate) fn handshaker(cx: &Surroundings, pair: &Pair) -> handshakes::Peer {
    let root = cx.root.lock().unwrap_or_else(PoisonError::into_inner);
    let (address, alpn) = pair.tls();
    handshakes::Peer {
        address,
        tls: root.tls(CLIENT),
        identity: id(SERVER),
        alpn,
    }
}

pub(super) fn handshakes(cx: &Surroundings, pair: &mut Pair, length: Duration) -> Result<Outcome> {
    let peer = handshaker(cx, pair);
    let proxies = pair.proxies.as_ref().context("there is no B")?;
    let window = Window::new(&proxies.b.pids(), length / 5, length);
    let done = pair.client(|| handshakes::run(&peer, window))?;
    worked(pair, &done.used)?;
    let mut outcome = Outcome::default();
    push_each(&mut outcome, "handshakes", &done, true)?;
    Ok(outcome)
}

pub(super) fn bodies(pair: &mut Pair, length: Duration) -> Result<Outcome> {
    // Empty ones have no marker to be looked for.
    pair.verify(Version::Http1, Kind::Post(1024))?;
    let mut outcome = Outcome::default();
    for (name, size) in BODIES {
        let is_large = size >= LARGE;
        let load = Load {
            kind: Kind::Post(size),
            connections: if is_large { 4 } else { 16 },
            ..HTTP1
        };
        let length = if is_large { length } else { length / 2 };
        let done = pair.closed(&load.plan(pair), length)?;
        worked(pair, &done.used)?;
        // Of large ones, few are whole within the interval.
        let requests = match size {
            LARGE.. => done.bytes as f64 / size as f64,
            _ => done.requests as f64,
        };
        ensure!(
            requests > 0.0,
            "{name}: nothing was carried within the interval"
        );
        let rate = requests / done.used.seconds;
        outcome.push(format!("body_{name}_rate"), "requests/s", rate);
        if pair.proxies.is_some() {
            let cpu = done.used.cpu.as_secs_f64() / requests * 100_000.0;
            outcome.push(format!("body_{name}_cpu"), "s/100k", cpu);
        }
    }
    Ok(outcome)
}
