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
    use std::{collections::HashSet, time::Duration};

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

    /// What the engine was told of a limit; none of what it does not know.
    fn told(engine: &engine::Limits, limit: Limit) -> Option<u64> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        Some(match limit {
            Limit::HeaderBytes => engine.head_bytes as u64,
            Limit::HeaderLines => engine.head_lines as u64,
            Limit::TargetBytes => engine.target_bytes as u64,
            Limit::Streams => engine.streams.into(),
            Limit::StreamBytes => engine.stream_window_most.into(),
            Limit::ConnectionBytes => engine.connection_unconsumed as u64,
            Limit::ProcessBytes => left(&engine.budget),
            Limit::HeaderTime => millis(engine.head_time),
            Limit::BodyTime => millis(engine.body_time),
            Limit::IdleTime | Limit::ServerIdleTime => millis(engine.idle_time),
            Limit::WriteTime => millis(engine.write_time),
            Limit::SettingsTime => millis(engine.settings_time),
            Limit::Connections
            | Limit::ConnectionsPerPeer
            | Limit::Handshakes
            | Limit::HandshakesPerAddress
            | Limit::Tunnels
            | Limit::HandshakeTime
            | Limit::DetectTime => return None,
        })
    }

    /// How much it gives, one by one.
    fn left(budget: &Arc<Budget>) -> u64 {
        let given = (0..1000)
            .map_while(|_| budget.lend(1))
            .collect::<Vec<_>>()
            .len();
        given as u64
    }

    /// All limits that a program has, each with a number that no other has.
    fn all_different(program: Program) -> Limits {
        let entries = Limit::of(program).map(|limit| {
            let setting = limit.setting();
            let value = setting.range.0 + 7 * (limit as u64 + 1);
            format!("{}={}", limit.name(), setting.unit.text(value))
        });
        let text = entries.collect::<Vec<_>>().join(",");
        let limits = Limits::parse(program, &text).unwrap();
        let numbers = Limit::of(program).map(|limit| limits.get(limit));
        let numbers: HashSet<_> = numbers.collect();
        assert_eq!(numbers.len(), Limit::of(program).count(), "{text}");
        limits
    }

    #[test]
    fn what_is_set_is_what_the_engine_gets_for_clients_peers_and_servers() {
        for program in [Program::Sidecar, Program::Gateway] {
            let limits = all_different(program);
            let bounds = Bounds::new(limits.clone(), budget(&limits));
            let roles = [bounds.clients(), bounds.peers(), bounds.servers()];
            let number = |limit| Some(limits.get(limit));
            for limit in Limit::of(program) {
                let same = number(limit);
                let expected = match limit {
                    _ if bound(limit).is_none() => [None; 3],
                    // Between sidecars there is what one adds.
                    Limit::HeaderBytes => [same, Some(as_one_block(&roles[0]) as u64), same],
                    Limit::HeaderLines => [same, same.map(|it| it + ADDED_LINES as u64), same],
                    Limit::IdleTime | Limit::ServerIdleTime => {
                        let idle = number(Limit::IdleTime);
                        [idle, idle, number(Limit::ServerIdleTime)]
                    }
                    _ => [same; 3],
                };
                let found = roles.each_ref().map(|engine| told(engine, limit));
                assert_eq!(found, expected, "{limit} of the {}", program.as_str());
            }
        }
    }
}
