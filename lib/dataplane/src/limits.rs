//! What a sidecar or gateway bears of others: read from flags and environment,
//! handed to the engine, counted when it strikes.
//!
//! The table itself is in `mesh_core::limits`.

mod settings;
mod strikes;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mesh_core::limits::{Limit, Limits, Program};
use mesh_http::limits::{self as engine, Bound, Budget, Struck};

pub use self::{
    settings::{GatewayLimits, SidecarLimits},
    strikes::Strikes,
};

/// Fields that a sidecar adds to a request on its way to another.
const ADDED_LINES: usize = 8;
/// What one field weighs in HTTP/2 beyond its name and value (RFC 9113 §6.5.2).
const WEIGHT: usize = 32;

/// What connections of one direction bear. Clones share what is counted.
#[derive(Clone, Debug)]
pub struct Bounds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    clients: Arc<engine::Limits>,
    peers: Arc<engine::Limits>,
    servers: Arc<engine::Limits>,
    /// By the limits' order; what the engine counts is not in here.
    counts: [AtomicU64; Limit::ALL.len()],
}

impl Bounds {
    /// Of one direction of a program; `budget` is for the whole process.
    #[must_use]
    pub fn new(limits: Limits, budget: Arc<Budget>) -> Self {
        let of_clients = of_engine(&limits, budget);
        let of_peers = engine::Limits {
            head_lines: of_clients.head_lines + ADDED_LINES,
            head_bytes: as_one_block(&of_clients),
            ..of_clients.clone()
        };
        let of_servers = engine::Limits {
            idle_time: limits.time(Limit::ServerIdleTime),
            ..of_clients.clone()
        };
        Self(Arc::new(Inner {
            limits,
            clients: Arc::new(of_clients),
            peers: Arc::new(of_peers),
            servers: Arc::new(of_servers),
            counts: [const { AtomicU64::new(0) }; Limit::ALL.len()],
        }))
    }

    /// The numbers.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What connections bear that clients open.
    #[must_use]
    pub fn clients(&self) -> Arc<engine::Limits> {
        self.0.clients.clone()
    }

    /// What connections between sidecars bear: whatever one has let through fits.
    #[must_use]
    pub fn peers(&self) -> Arc<engine::Limits> {
        self.0.peers.clone()
    }

    /// What connections to applications bear.
    #[must_use]
    pub fn servers(&self) -> Arc<engine::Limits> {
        self.0.servers.clone()
    }

    /// Counts that a limit has struck which the engine does not know.
    pub fn strike(&self, limit: Limit) {
        self.0.counts[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a limit has struck so far.
    #[must_use]
    pub fn struck(&self, limit: Limit) -> u64 {
        match bound(limit) {
            Some(bound) => self.0.clients.struck.times(bound),
            None => self.0.counts[limit as usize].load(Ordering::Relaxed),
        }
    }
}

/// A sidecar's, by default.
impl Default for Bounds {
    fn default() -> Self {
        let limits = Limits::of(Program::Sidecar);
        let budget = budget(&limits);
        Self::new(limits, budget)
    }
}

/// What the windows of a process have together.
#[must_use]
pub fn budget(limits: &Limits) -> Arc<Budget> {
    Arc::new(Budget::new(limits.size(Limit::ProcessBytes)))
}

fn of_engine(limits: &Limits, budget: Arc<Budget>) -> engine::Limits {
    engine::Limits {
        head_lines: limits.size(Limit::HeaderLines),
        head_bytes: limits.size(Limit::HeaderBytes),
        target_bytes: limits.size(Limit::TargetBytes),
        streams: limits.size_u32(Limit::Streams),
        stream_window_most: limits.size_u32(Limit::StreamBytes),
        connection_unconsumed: limits.size(Limit::ConnectionBytes),
        head_time: limits.time(Limit::HeaderTime),
        body_time: limits.time(Limit::BodyTime),
        idle_time: limits.time(Limit::IdleTime),
        write_time: limits.time(Limit::WriteTime),
        settings_time: limits.time(Limit::SettingsTime),
        budget,
        struck: Arc::<Struck>::default(),
        ..engine::Limits::default()
    }
}

/// What an HTTP/1 head may weigh as a header block, with the fields that a sidecar
/// adds to it. (HTTP/1 counts the target by itself.)
const fn as_one_block(limits: &engine::Limits) -> usize {
    let lines = limits.head_lines + 2 * ADDED_LINES;
    limits.head_bytes + limits.target_bytes + lines * WEIGHT + 1024
}

/// What the engine calls it, if it is the engine that counts it.
const fn bound(limit: Limit) -> Option<Bound> {
    Some(match limit {
        Limit::HeaderBytes => Bound::HeadBytes,
        Limit::HeaderLines => Bound::HeadLines,
        Limit::TargetBytes => Bound::TargetBytes,
        Limit::Streams => Bound::Streams,
        Limit::StreamBytes => Bound::StreamWindow,
        Limit::ConnectionBytes => Bound::ConnectionUnconsumed,
        Limit::ProcessBytes => Bound::Budget,
        Limit::HeaderTime => Bound::HeadTime,
        Limit::BodyTime => Bound::BodyTime,
        Limit::IdleTime => Bound::IdleTime,
        Limit::ServerIdleTime => Bound::ServerIdleTime,
        Limit::WriteTime => Bound::WriteTime,
        Limit::SettingsTime => Bound::SettingsTime,
        Limit::Connections
        | Limit::ConnectionsPerPeer
        | Limit::Handshakes
        | Limit::HandshakesPerAddress
        | Limit::Tunnels
        | Limit::HandshakeTime
        | Limit::DetectTime => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_bound_of_the_engine_is_one_limit() {
        let bounds: HashSet<_> = Limit::ALL
            .into_iter()
            .filter_map(bound)
            .map(index)
            .collect();
        assert_eq!(bounds.len(), Bound::SettingsTime as usize + 1);
    }

    const fn index(bound: Bound) -> usize {
        bound as usize
    }

    #[test]
    fn each_limit_is_counted_by_itself() {
        for limit in Limit::ALL {
            let bounds = Bounds::default();
            match bound(limit) {
                Some(bound) => bounds.servers().struck.count(bound),
                None => bounds.strike(limit),
            }
            let struck = Limit::ALL.map(|limit| bounds.clone().struck(limit));
            assert_eq!(struck.iter().sum::<u64>(), 1, "{limit}");
            assert_eq!(struck[limit as usize], 1, "{limit}");
        }
    }

    #[test]
    fn what_is_set_is_what_the_engine_gets() {
        let text = "header-bytes=2Ki,header-lines=9,target-bytes=3Ki,streams=4,\
                    stream-bytes=65Ki,connection-bytes=66Ki,process-bytes=7,header-time=108ms,\
                    body-time=109ms,idle-time=10s,server-idle-time=111ms,write-time=112ms,\
                    settings-time=113ms";
        let limits = Limits::parse(Program::Sidecar, text).unwrap();
        let bounds = Bounds::new(limits.clone(), budget(&limits));
        let engine = bounds.clients();
        assert_eq!((engine.head_bytes, engine.head_lines), (2048, 9));
        assert_eq!((engine.target_bytes, engine.streams), (3072, 4));
        assert_eq!(engine.stream_window_most, 65 * 1024);
        assert_eq!(engine.connection_unconsumed, 66 * 1024);
        assert!(engine.budget.grant(7) && !engine.budget.grant(1));
        let times = [
            engine.head_time,
            engine.body_time,
            engine.idle_time,
            bounds.servers().idle_time,
            engine.write_time,
            engine.settings_time,
        ];
        let times = times.map(|time| time.as_millis());
        assert_eq!(times, [108, 109, 10_000, 111, 112, 113]);
    }
}
