//! What costs a peer little and us something is counted here, and nowhere else.
//!
//! Each kind has a bucket of tokens: a burst, and so many a second. It is filled
//! again only when it is empty, so that counting is a subtraction.

use std::time::Instant;

use crate::{
    fault::{Fault, Flood},
    limits::Limits,
};

/// The buckets of one connection.
#[derive(Debug)]
pub(crate) struct Floods {
    resets: Bucket,
    control: Bucket,
    idle: Bucket,
    tiny_data: Bucket,
    expansion: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    filled: Instant,
}

/// DATA frames below this are tiny.
pub(crate) const TINY: usize = 16;
/// WINDOW_UPDATEs and the like that one DATA frame of ours may bring about.
const PER_DATA_FRAME: u32 = 4;
/// Streams that a client may give up without being taken for a wasteful one.
const WASTED: u32 = 32;
/// How much shorter compression makes ordinary fields, at most.
const COMPRESSION: usize = 64;

impl Floods {
    pub(crate) const fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            resets: Bucket::new(limits.resets, now),
            control: Bucket::new(limits.control_frames, now),
            idle: Bucket::new(limits.idle_frames, now),
            tiny_data: Bucket::new(limits.tiny_data_frames, now),
            expansion: Bucket::new(limits.expanded_bytes, now),
        }
    }

    /// Counts one of a kind.
    pub(crate) fn spend(
        &mut self,
        flood: Flood,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Fault> {
        let (bucket, rate) = match flood {
            Flood::Resets => (&mut self.resets, limits.resets),
            Flood::Control => (&mut self.control, limits.control_frames),
            Flood::Idle => (&mut self.idle, limits.idle_frames),
            Flood::TinyData => (&mut self.tiny_data, limits.tiny_data_frames),
            // These are not counted one by one.
            Flood::HeaderBlock | Flood::Expansion => return Err(Fault::Flood(flood)),
        };
        if bucket.spend(1, rate, now) {
            Ok(())
        } else {
            Err(Fault::Flood(flood))
        }
    }

    /// Counts what a header block became beyond what compression brings.
    pub(crate) fn expanded(
        &mut self,
        block: usize,
        weight: usize,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Fault> {
        let excess = weight.saturating_sub(block.saturating_mul(COMPRESSION));
        let excess = u32::try_from(excess).unwrap_or(u32::MAX);
        if self.expansion.spend(excess, limits.expanded_bytes, now) {
            Ok(())
        } else {
            Err(Fault::Flood(Flood::Expansion))
        }
    }

    /// We have sent DATA, for which the peer may open windows, and measure the
    /// path by a ping, as some do for each frame that they get.
    pub(crate) fn sent_data(&mut self, limits: &Limits) {
        self.idle.earn(PER_DATA_FRAME, limits.idle_frames);
        self.control.earn(1, limits.control_frames);
    }

    /// Whether the peer has lately given up more than a client does that leaves a
    /// page: what it opens next may be for nothing, too.
    pub(crate) const fn wastes(&self, limits: &Limits) -> bool {
        let [burst, _] = limits.resets;
        self.resets.tokens.saturating_add(WASTED) < burst
    }

    /// A stream has got its answer: another may be given up, so that a client
    /// whose requests often take too long is not taken for an attacker.
    pub(crate) fn answered(&mut self, limits: &Limits) {
        self.resets.earn(1, limits.resets);
    }
}

impl Bucket {
    const fn new([burst, _]: [u32; 2], now: Instant) -> Self {
        Self {
            tokens: burst,
            filled: now,
        }
    }

    fn earn(&mut self, tokens: u32, [burst, _]: [u32; 2]) {
        self.tokens = self.tokens.saturating_add(tokens).min(burst);
    }

    fn spend(&mut self, n: u32, [burst, per_second]: [u32; 2], now: Instant) -> bool {
        if self.tokens < n {
            let elapsed = now.saturating_duration_since(self.filled).as_millis();
            let earned = elapsed.saturating_mul(u128::from(per_second)) / 1000;
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            if earned > 0 {
                self.earn(earned, [burst, per_second]);
                self.filled = now;
            }
        }
        let left = self.tokens.checked_sub(n);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_a_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new([3, 10], start);
        let spent = |bucket: &mut Bucket, now| {
            (0..100)
                .take_while(|_| bucket.spend(1, [3, 10], now))
                .count()
        };
        assert_eq!(spent(&mut bucket, start), 3);
        assert_eq!(spent(&mut bucket, start + Duration::from_millis(200)), 2);
        assert_eq!(spent(&mut bucket, start + Duration::from_secs(60)), 3);
    }

    #[test]
    fn h13_who_gives_up_much_and_gets_no_answers_is_wasteful() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut floods = Floods::new(&limits, now);
        for _ in 0..WASTED {
            floods.spend(Flood::Resets, &limits, now).unwrap();
            assert!(!floods.wastes(&limits));
        }
        floods.spend(Flood::Resets, &limits, now).unwrap();
        assert!(floods.wastes(&limits));
        floods.answered(&limits);
        assert!(!floods.wastes(&limits));
    }

    #[test]
    fn h13_answers_pay_for_as_many_resets() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut floods = Floods::new(&limits, now);
        for _ in 0..100_000 {
            floods.answered(&limits);
            floods.spend(Flood::Resets, &limits, now).unwrap();
        }
        let rest = (0..).take_while(|_| floods.spend(Flood::Resets, &limits, now).is_ok());
        assert_eq!(rest.count(), 999);
    }

    #[test]
    fn h14_bombs_have_a_rate_and_large_cookies_have_none() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut floods = Floods::new(&limits, now);
        let bombs = (0..).take_while(|_| floods.expanded(30, 64 * 1024, &limits, now).is_ok());
        assert!(bombs.count() <= 530);
        let mut floods = Floods::new(&limits, now);
        for request in 0..100_000 {
            let now = now + Duration::from_micros(100) * request;
            floods.expanded(40, 4096, &limits, now).unwrap();
        }
    }

    #[test]
    fn h14_windows_are_paid_for_by_data() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut floods = Floods::new(&limits, now);
        for _ in 0..100_000 {
            floods.sent_data(&limits);
            floods.spend(Flood::Idle, &limits, now).unwrap();
            floods.spend(Flood::Idle, &limits, now).unwrap();
            floods.spend(Flood::Control, &limits, now).unwrap();
        }
        let rest = (0..).take_while(|_| floods.spend(Flood::Idle, &limits, now).is_ok());
        assert!(rest.count() <= 10_000);
    }
}
