//! How long a peer is heard that was told of the end, and goes on sending.
//!
//! It is heard only so that it may learn of the end: who closes a socket that holds
//! something unread resets it, and may so take back what it has said last
//! (RFC 9112 §9.6). All that is heard is thrown away, and takes time from others.

use std::time::Duration;

use mesh_http::fault::Fault;

/// What is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Whoever sends all of a body before it looks at the answer is to get it: that is
    /// heard until its end, some 60 MB in a second.
    WithAnybody,
    /// Who speaks HTTP/2 hears what it is told while it sends. What is under way when it
    /// is told may arrive; who goes on beyond that is broken off.
    WithTheFaulty {
        /// How often something may still come.
        reads: u8,
    },
}

impl Patience {
    /// Between two reads of a body.
    const SHORT: Duration = Duration::from_millis(4);
    /// Between two reads of what may be under way.
    const LONG: Duration = Duration::from_millis(100);

    pub(crate) const fn of(fault: Fault, is_http2: bool) -> Self {
        match fault {
            Fault::Finished | Fault::EarlyAnswer => Self::WithAnybody,
            _ if is_http2 => Self::WithTheFaulty { reads: 3 },
            _ => Self::WithAnybody,
        }
    }

    /// Something was thrown away; says how long nothing more is read, or that it was the
    /// last.
    pub(crate) const fn wears(&mut self) -> Option<Duration> {
        match self {
            Self::WithAnybody => Some(Self::SHORT),
            Self::WithTheFaulty { reads: 0 | 1 } => None,
            Self::WithTheFaulty { reads } => {
                *reads -= 1;
                Some(Self::LONG)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_http::fault::Flood;

    use super::*;

    #[test]
    fn h13_h14_who_speaks_http2_and_was_sent_away_is_broken_off_and_nobody_else() {
        let endless = 10_000;
        for (fault, is_http2, reads) in [
            (Fault::Flood(Flood::Resets), true, 2),
            (Fault::FrameSize, true, 2),
            (Fault::Finished, true, endless),
            (Fault::Finished, false, endless),
            (Fault::EarlyAnswer, false, endless),
            (Fault::HeadTimeout, false, endless),
        ] {
            let mut patience = Patience::of(fault, is_http2);
            let heard = (0..endless).take_while(|_| patience.wears().is_some());
            assert_eq!(heard.count(), reads, "{fault:?}");
        }
    }
}
