//! What a path does to packets.

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};

/// The worst path that is still one: longer delays are mistakes.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// How long packets may wait for their turn on a path with a rate: a buffer
/// as routers have it.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// Room for one burst however slow the path is.
const SMALLEST_BUFFER: u64 = 64 << 10;
/// Without a rate nothing waits but for the delay; this is 100 ms of 5 Gbit/s.
const LARGEST_BUFFER: u64 = 64 << 20;

/// A path in one direction; without faults until told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Path {
    delay: Duration,
    jitter: Duration,
    loss: f64,
    rate: Option<u64>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} late, up to {:?} more, {} % lost",
            self.delay,
            self.jitter,
            self.loss * 100.0
        )?;
        match self.rate {
            Some(rate) => write!(f, ", {rate} bytes/s"),
            None => Ok(()),
        }
    }
}

impl Path {
    /// Every packet takes this long.
    ///
    /// # Errors
    /// If it is longer than a minute.
    pub fn with_delay(self, delay: Duration) -> Result<Self> {
        ensure!(delay <= LONGEST_DELAY, "a delay of {delay:?}");
        Ok(Self { delay, ..self })
    }

    /// Every packet takes up to this much longer than the delay, but packets
    /// keep their order.
    ///
    /// # Errors
    /// If it is longer than a minute.
    pub fn with_jitter(self, jitter: Duration) -> Result<Self> {
        ensure!(jitter <= LONGEST_DELAY, "a jitter of {jitter:?}");
        Ok(Self { jitter, ..self })
    }

    /// The share of packets that never arrives, from 0 to 1.
    ///
    /// # Errors
    /// If it is no share.
    pub fn with_loss(self, loss: f64) -> Result<Self> {
        ensure!((0.0..=1.0).contains(&loss), "a loss of {loss}");
        Ok(Self { loss, ..self })
    }

    /// How many bytes of IP packets fit through in a second.
    ///
    /// # Errors
    /// If it is zero: use a loss of 1.
    pub fn with_rate(self, bytes_per_second: u64) -> Result<Self> {
        ensure!(bytes_per_second > 0, "a rate of nothing");
        let rate = Some(bytes_per_second);
        Ok(Self { rate, ..self })
    }

    pub(crate) const fn delay(&self) -> Duration {
        self.delay
    }

    pub(crate) const fn jitter(&self) -> Duration {
        self.jitter
    }

    pub(crate) const fn loss(&self) -> f64 {
        self.loss
    }

    pub(crate) const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// How long a packet of `length` bytes occupies the path.
    pub(crate) fn serialisation(&self, length: usize) -> Duration {
        let nanoseconds = |rate| length as u64 * 1_000_000_000 / rate;
        Duration::from_nanos(self.rate.map_or(0, nanoseconds))
    }

    /// How many bytes may be on the path: those that fly, and those that wait.
    pub(crate) fn buffer(&self) -> usize {
        let time = self.delay + self.jitter + LONGEST_WAIT;
        let bytes = self.rate.map_or(LARGEST_BUFFER, |rate| {
            let bytes = u128::from(rate) * time.as_millis() / 1000;
            u64::try_from(bytes).unwrap_or(LARGEST_BUFFER)
        });
        usize::try_from(bytes.clamp(SMALLEST_BUFFER, LARGEST_BUFFER)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_path_is_refused() {
        let minute = Duration::from_secs(60);
        let path = Path::default();
        for (given, accepted) in [
            (path.with_delay(minute), true),
            (path.with_delay(minute * 2), false),
            (path.with_jitter(minute), true),
            (path.with_jitter(minute * 2), false),
            (path.with_loss(0.0), true),
            (path.with_loss(1.0), true),
            (path.with_loss(1.1), false),
            (path.with_loss(-0.1), false),
            (path.with_loss(f64::NAN), false),
            (path.with_rate(1), true),
            (path.with_rate(0), false),
        ] {
            assert_eq!(given.is_ok(), accepted, "{given:?}");
        }
    }

    #[test]
    fn the_buffer_holds_what_flies_and_a_short_wait() {
        let path = Path::default();
        let slow = path.with_delay(Duration::from_millis(750)).unwrap();
        for (path, bytes) in [
            (path, 64 << 20),
            (slow.with_rate(1_000_000).unwrap(), 1_000_000),
            (slow.with_rate(1).unwrap(), 64 << 10),
            (slow.with_rate(u64::MAX).unwrap(), 64 << 20),
        ] {
            assert_eq!(path.buffer(), bytes, "{path:?}");
        }
    }
}
