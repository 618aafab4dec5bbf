//! Bounds strike where they are set, and are counted.

use super::*;
use crate::limits::Bound;

/// A server that bears this, and how often a bound has struck when it was fed.
fn struck(limits: Limits, bound: Bound, input: &[Vec<u8>]) -> u64 {
    let counted = limits.struck.clone();
    let before = counted.times(bound);
    let mut server = Peer::new(Role::Server, limits);
    for bytes in input {
        server.feed(bytes);
    }
    counted.times(bound) - before
}

#[test]
fn h15_a_connection_whose_readers_are_slow_has_to_stop() {
    // More than half the connection's window, so that it has to be opened again.
    let streams = (0..9).map(|n| 2 * n + 1);
    let slow: Vec<_> = streams
        .flat_map(|id| [get(id, 0), data(id, 0, 16_000).repeat(4)])
        .collect();
    for (bound, expected) in [(500_000, 1), (600_000, 0)] {
        let limits = Limits {
            connection_unconsumed: bound,
            ..Limits::default()
        };
        let times = struck(limits, Bound::ConnectionUnconsumed, &slow);
        assert_eq!(times, expected, "{bound}");
    }
}

#[test]
fn h13_one_stream_too_many_is_refused_and_counted() {
    for (most, expected) in [(2, 1), (3, 0)] {
        let limits = Limits {
            streams: most,
            ..Limits::default()
        };
        let requests = [get(1, 0), get(3, 0), get(5, 0)];
        assert_eq!(struck(limits, Bound::Streams, &requests), expected);
    }
}

#[test]
fn h9_a_target_that_is_too_long_is_414() {
    let path = format!("/{}", "a".repeat(99));
    let head = Head::request("GET", "web", &path).unwrap();
    let request = frame(Kind::Headers, WHOLE | END, 1, &block(&head));
    for (most, seen) in [(99, vec![]), (100, vec![Seen::Head(1, true)])] {
        let limits = Limits {
            target_bytes: most,
            ..Limits::default()
        };
        let counted = limits.struck.clone();
        let mut server = Peer::new(Role::Server, limits);
        assert_eq!(server.feed(&request), seen);
        let answer = server.written();
        let is_414 = answer.iter().any(|frame| frame.3.ends_with(b"414"));
        assert_eq!(is_414, seen.is_empty(), "{answer:?}");
        assert_eq!(counted.times(Bound::TargetBytes), u64::from(is_414));
    }
}
