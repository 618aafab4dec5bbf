//! The packets that are on a path, in one direction. No I/O and no clock.

use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Error, Result, bail};
use rand::{Rng, RngExt as _};

use super::path::Path;

/// The packets on a path, in the order they came.
#[derive(Debug)]
pub(crate) struct Queue {
    path: Path,
    /// Bytes that may be on the path; what comes on top is dropped.
    bound: usize,
    bytes: usize,
    packets: VecDeque<Queued>,
    /// When the path has taken in all packets so far.
    free: Option<Instant>,
    tally: Tally,
}

#[derive(Debug)]
struct Queued {
    due: Instant,
    packet: Box<[u8]>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives then.
    Due(Instant),
    /// The dice were against it.
    Lost,
    /// The path was full.
    Overflowed,
}

/// What became of packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// They have arrived, or still fly.
    pub carried: u64,
    /// The path lost them.
    pub lost: u64,
    /// The path was full.
    pub overflowed: u64,
}

impl Queue {
    pub(crate) fn new(path: Path) -> Self {
        Self {
            path,
            bound: path.buffer(),
            bytes: 0,
            packets: VecDeque::new(),
            free: None,
            tally: Tally::default(),
        }
    }

    /// Takes in a packet, or drops it.
    pub(crate) fn accept(&mut self, packet: &[u8], now: Instant, dice: &mut impl Rng) -> Fate {
        let fate = self.fate(packet.len(), now, dice);
        match fate {
            Fate::Due(due) => {
                self.tally.carried += 1;
                self.bytes += packet.len();
                let packet = packet.into();
                self.packets.push_back(Queued { due, packet });
            }
            Fate::Lost => self.tally.lost += 1,
            Fate::Overflowed => self.tally.overflowed += 1,
        }
        fate
    }

    fn fate(&mut self, length: usize, now: Instant, dice: &mut impl Rng) -> Fate {
        if dice.random_bool(self.path.loss()) {
            return Fate::Lost;
        }
        if self.bytes + length > self.bound {
            return Fate::Overflowed;
        }
        let start = self.free.map_or(now, |free| free.max(now));
        let sent = start + self.path.serialisation(length);
        self.free = Some(sent);
        let arrives = sent + self.path.delay() + self.late(dice);
        // Never before the one ahead of it.
        let last = self.packets.back().map(|queued| queued.due);
        Fate::Due(last.map_or(arrives, |last| last.max(arrives)))
    }

    fn late(&self, dice: &mut impl Rng) -> Duration {
        self.path.jitter().mul_f64(dice.random())
    }

    /// Takes out the next packet that has arrived.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Box<[u8]>> {
        let queued = self.packets.pop_front_if(|queued| queued.due <= now)?;
        self.bytes -= queued.packet.len();
        Some(queued.packet)
    }

    /// When the next packet arrives.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.packets.front().map(|queued| queued.due)
    }

    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            carried,
            lost,
            overflowed,
        } = self;
        write!(f, "{carried} carried, {lost} lost, {overflowed} overflowed")
    }
}

/// Reads what `Display` writes.
impl FromStr for Tally {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<_> = text.split([',', ' ']).filter(|w| !w.is_empty()).collect();
        let [carried, "carried", lost, "lost", overflowed, "overflowed"] = words[..] else {
            bail!("{text:?} says not what became of packets");
        };
        Ok(Self {
            carried: carried.parse()?,
            lost: lost.parse()?,
            overflowed: overflowed.parse()?,
        })
    }
}

#[cfg(test)]
mod tests;
