//! The interval in which something is measured.

use std::time::{Duration, Instant};

use anyhow::Result;
use mesh_pair::{namespace::link_bytes, process::cpu_time};

/// Proxies' time and link's bytes at one moment.
struct Sample {
    at: Instant,
    cpu: Duration,
    link: u64,
}

/// Watches processes from the warm-up's end to the window's end. It is made and
/// asked on a thread in A's namespace.
pub(crate) struct Window {
    pids: Vec<u32>,
    opens: Instant,
    closes: Instant,
    start: Option<Sample>,
    end: Option<Sample>,
}

/// What was used within the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    /// Processor time of the watched processes.
    pub(crate) cpu: Duration,
    /// Bytes that crossed the link, in both directions.
    pub(crate) link: u64,
}

impl Window {
    /// A window of `length` that opens after `warm_up`.
    pub(crate) fn new(pids: &[u32], warm_up: Duration, length: Duration) -> Self {
        let opens = Instant::now() + warm_up;
        Self {
            pids: pids.to_vec(),
            opens,
            closes: opens + length,
            start: None,
            end: None,
        }
    }

    /// Whether what happens at `now` counts. To be asked all the time: samples
    /// are taken when the window opens and closes.
    ///
    /// # Errors
    /// If a process has ended.
    pub(crate) fn is_open(&mut self, now: Instant) -> Result<bool> {
        if self.start.is_none() {
            if now >= self.opens {
                self.start = Some(self.sample()?);
            }
            return Ok(false);
        }
        if self.end.is_none() && now >= self.closes {
            self.end = Some(self.sample()?);
        }
        Ok(self.end.is_none())
    }

    /// Whether it is over.
    pub(crate) const fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Whether `moment` is between the warm-up's end and the window's.
    pub(crate) fn holds(&self, moment: Instant) -> bool {
        (self.opens..self.closes).contains(&moment)
    }

    /// Whether it has been over for `long`.
    pub(crate) fn is_long_over(&self, now: Instant, long: Duration) -> bool {
        now.saturating_duration_since(self.closes) > long
    }

    /// What was used; none while it is not over.
    pub(crate) fn used(&self) -> Option<Used> {
        let (start, end) = (self.start.as_ref()?, self.end.as_ref()?);
        Some(Used {
            seconds: end.at.duration_since(start.at).as_secs_f64(),
            cpu: end.cpu.saturating_sub(start.cpu),
            link: end.link.saturating_sub(start.link),
        })
    }

    fn sample(&self) -> Result<Sample> {
        Ok(Sample {
            at: Instant::now(),
            cpu: cpu_time(&self.pids)?,
            link: link_bytes()?,
        })
    }
}
