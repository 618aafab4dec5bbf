//! Bounds strike where they are set, and are counted.

use super::{super::windows::HELD_UP, *};
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
fn h15_who_reads_nothing_while_all_have_to_wait_is_left() {
    let limits = Limits {
        connection_unconsumed: 500_000,
        ..Limits::default()
    };
    let mut server = Peer::new(Role::Server, limits);
    let stalled = |id| [get(id, 0), data(id, 0, 16_000).repeat(4)].concat();
    let pass = |server: &mut Peer, time: Duration| {
        server.now += time;
        server.core.on_deadline(server.now);
        server.feed("")
    };
    // As long as others can be served, a reader has its time.
    server.feed(stalled(1));
    assert_eq!(pass(&mut server, 4 * HELD_UP), []);
    for id in (3..=17).step_by(2) {
        server.feed(stalled(id));
    }
    assert!(server.core.next_deadline().unwrap() <= server.now + HELD_UP);
    // One takes a little, and keeps its stream.
    server.now += HELD_UP / 2;
    server.core.consume(server.now, StreamId(9), 1000);
    let left = pass(&mut server, HELD_UP / 2);
    let expected = [1, 3, 5, 7, 11, 13, 15, 17];
    assert_eq!(
        left,
        expected.map(|id| Seen::Reset(id, ResetReason::Timeout))
    );
    server.written();
    assert_eq!(server.core.unconsumed, 63_000);
    // What comes now is taken again.
    assert_eq!(server.feed(stalled(19)).len(), 5);
    assert_eq!(pass(&mut server, 2 * HELD_UP), []);
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
