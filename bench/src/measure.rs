//! What is measured, in groups that come out of one load.

mod memory;
mod traffic;
mod workers;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

pub(crate) use self::traffic::handshaker;
use self::traffic::{GRPC, HTTP1, HTTP2};
use crate::{
    pair::{ONE_WORKER, Pair, Surroundings},
    subject::Subject,
};

/// Measures that come out of one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Group {
    /// HTTP/1, 64 connections, 1 KiB.
    Http1,
    /// HTTP/2, 8 connections with 32 streams, 1 KiB.
    Http2,
    /// gRPC unary calls, 8 connections with 32 streams, 100 bytes.
    Grpc,
    /// HTTP/1 at a steady rate.
    Latency,
    /// One TCP connection, each direction.
    Bulk,
    /// New connections, with one request or one echo each.
    Connections,
    /// Handshakes with B alone.
    Handshakes,
    /// Bodies of several sizes, both ways.
    Bodies,
    /// What A holds, fresh and after load.
    Memory,
    /// What A holds for each idle HTTP/1 connection.
    IdleHttp1,
    /// What A and B hold for each idle TCP connection.
    IdleTcp,
    /// Two workers against one.
    Workers,
}

/// One number of one round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) measure: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

/// What came of one round of a group.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) figures: Vec<Figure>,
    /// By rate, for the plots.
    pub(crate) latencies: Vec<(u32, Histogram<u64>)>,
}

impl Group {
    pub(crate) const ALL: [Self; 12] = [
        Self::Http1,
        Self::Http2,
        Self::Grpc,
        Self::Latency,
        Self::Bulk,
        Self::Connections,
        Self::Handshakes,
        Self::Bodies,
        Self::Memory,
        Self::IdleHttp1,
        Self::IdleTcp,
        Self::Workers,
    ];

    /// Whether each round is of pairs that have just been started.
    pub(crate) const fn is_of_fresh_pairs(self) -> bool {
        matches!(
            self,
            Self::Memory | Self::IdleHttp1 | Self::IdleTcp | Self::Workers
        )
    }

    /// Whether it says anything of this subject.
    pub(crate) const fn is_of(self, subject: Subject) -> bool {
        match self {
            Self::Http1 | Self::Http2 | Self::Grpc | Self::Latency | Self::Bodies => true,
            // nginx carries bytes only with a module that Debian has apart.
            Self::Bulk | Self::Connections => !matches!(subject, Subject::Nginx),
            Self::Handshakes => {
                matches!(subject, Subject::Mesh | Subject::Haproxy | Subject::Envoy)
            }
            Self::Memory | Self::IdleHttp1 | Self::IdleTcp => {
                !matches!(subject, Subject::Direct | Subject::Nginx)
            }
            Self::Workers => matches!(subject, Subject::Mesh | Subject::Haproxy),
        }
    }

    /// How many rounds there are of it, when `rounds` are asked for: what does
    /// not vary needs few.
    pub(crate) fn rounds(self, rounds: u32) -> u32 {
        match self {
            Self::Memory | Self::IdleHttp1 | Self::IdleTcp => rounds.min(2),
            Self::Workers => rounds.min(3),
            _ => rounds,
        }
    }

    /// One round; `pairs` are those that run.
    ///
    /// # Errors
    /// If anything is not as it has to be: then there is no figure.
    pub(crate) fn measure(
        self,
        cx: &Surroundings,
        pairs: &mut BTreeMap<Subject, Pair>,
        subject: Subject,
        length: Duration,
    ) -> Result<Outcome> {
        if self.is_of_fresh_pairs() {
            return self.measure_fresh(cx, subject, length);
        }
        let pair = match pairs.entry(subject) {
            Entry::Occupied(running) => running.into_mut(),
            Entry::Vacant(none) => none.insert(Pair::start(cx, subject, ONE_WORKER)?),
        };
        match self {
            Self::Http1 => traffic::requests(pair, "http1", &HTTP1, length),
            Self::Http2 => traffic::requests(pair, "http2", &HTTP2, length),
            Self::Grpc => traffic::requests(pair, "grpc", &GRPC, length),
            Self::Latency => traffic::latency(pair, length),
            Self::Bulk => traffic::bulk(pair, length),
            Self::Connections => traffic::connections(pair, length),
            Self::Handshakes => traffic::handshakes(cx, pair, length),
            Self::Bodies => traffic::bodies(pair, length),
            Self::Memory | Self::IdleHttp1 | Self::IdleTcp | Self::Workers => {
                bail!("it has pairs of its own")
            }
        }
    }

    fn measure_fresh(
        self,
        cx: &Surroundings,
        subject: Subject,
        length: Duration,
    ) -> Result<Outcome> {
        match self {
            Self::Memory => memory::of_a(cx, subject, length),
            Self::IdleHttp1 => memory::idle_http1(cx, subject),
            Self::IdleTcp => memory::idle_tcp(cx, subject),
            Self::Workers => workers::measure(cx, subject, length),
            _ => bail!("it has the pairs that run"),
        }
    }
}

impl Outcome {
    fn push(&mut self, measure: impl Into<String>, unit: &'static str, value: f64) {
        self.figures.push(Figure {
            measure: measure.into(),
            unit,
            value,
        });
    }
}
