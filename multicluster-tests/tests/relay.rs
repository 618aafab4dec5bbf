//! Bad paths in a real kernel: two networks and the router between them, each
//! a namespace, with the firewall that the lab has. Needs root, `ip`
//! (iproute2), `nft` (nftables) and `nsenter` (util-linux):
//!
//!     cargo test --profile quick -p mesh-lab --features lab --test relay

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, not in their helpers"
)]

mod relay {
    pub(crate) mod namespaces;
    pub(crate) mod traffic;
}

use std::{
    net::TcpStream,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use mesh_lab::{
    fault::path::PathFault,
    relay::{path::Path, queue::Tally},
};

use crate::relay::{
    namespaces::{LEFT, RIGHT, ROUTER, World},
    traffic::{self, CLOSED, Peer},
};

/// More than any answer without faults takes on a busy machine, and less than
/// a round trip of the paths below.
const QUICK: Duration = Duration::from_millis(40);
const MEGABYTE: u64 = 1_000_000;

#[test]
fn a_delay_is_felt_on_both_ways_until_the_guard_is_dropped() {
    let world = World::new();
    let mut peer = Peer::connect(&world);
    peer.answers_within(QUICK);
    let fault = bad_path(Path::default().with_delay(ms(50)));
    let times: Vec<Duration> = (0..5).map(|_| peer.round_trip().unwrap()).collect();
    let best = *times.iter().min().unwrap();
    println!("round trips with 50 ms each way: {times:?}");
    assert!(best >= ms(100) && best < ms(100) + QUICK, "{best:?}");
    drop(fault);
    peer.answers_within(QUICK);
    world.is_as_before();
}

#[test]
fn a_panic_makes_the_path_good_again() {
    let world = World::new();
    let mut peer = Peer::connect(&world);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _fault = bad_path(Path::default().with_delay(ms(50)));
        assert!(peer.round_trip().unwrap() >= ms(100));
        panic!("as a test does that fails");
    }));
    assert!(panicked.is_err());
    peer.answers_within(QUICK);
    world.is_as_before();
}

#[test]
fn nothing_passes_when_all_is_lost_and_connections_live_on() {
    let world = World::new();
    let mut peer = Peer::connect(&world);
    let fault = bad_path(Path::default().with_loss(1.0));
    peer.round_trip().expect_err("nothing passes");
    let [forth, back] = fault.stop().unwrap();
    assert!(forth.lost > 0 && forth.carried == 0, "{forth}");
    assert_eq!(back, Tally::default(), "nobody was asked");
    // What was lost is sent again; its answer comes first.
    peer.answers_within(QUICK);
}

#[test]
fn a_transfer_gets_through_losses() {
    let world = World::new();
    let fault = bad_path(Path::default().with_loss(0.2));
    let took = traffic::transfer(&world, MEGABYTE / 4);
    let [forth, _] = fault.stop().unwrap();
    println!("0.25 MB at a loss of 20 % took {took:?}: {forth}");
    assert!(forth.lost > 0);
}

#[test]
fn a_transfer_takes_as_long_as_the_rate_says() {
    let world = World::new();
    let fault = bad_path(Path::default().with_rate(2 * MEGABYTE));
    let took = traffic::transfer(&world, 2 * MEGABYTE);
    println!("2 MB at 2 MB/s took {took:?}: {:?}", fault.stop().unwrap());
    assert!(took >= ms(1000));
    assert!(took < ms(3000), "a queue that is full must not stop it");
}

#[test]
fn a_relay_without_faults_carries_a_fast_link() {
    let world = World::new();
    let bare = traffic::megabits(&world, 50 * MEGABYTE);
    let fault = bad_path(Ok(Path::default()));
    let relayed = traffic::megabits(&world, 50 * MEGABYTE);
    let [forth, back] = fault.stop().unwrap();
    println!("{relayed:.0} Mbit/s through the relay, {bare:.0} without it");
    println!("forth: {forth}; back: {back}");
    assert!(relayed >= 500.0);
    assert_eq!(forth.overflowed, 0);
}

#[test]
fn the_firewall_judges_a_relayed_packet_once() {
    let world = World::new();
    let fault = bad_path(Path::default().with_delay(ms(5)));
    let mut peer = Peer::connect(&world);
    peer.round_trip().unwrap();
    assert_eq!(world.dropped_packets(), 0);
    let refused = world
        .left
        .enter(|| TcpStream::connect_timeout(&CLOSED, ms(300)));
    refused.expect_err("the port is not open");
    let dropped = world.dropped_packets();
    let [forth, _] = fault.stop().unwrap();
    println!("{dropped} packets were dropped; {forth}");
    assert!(dropped >= 1);
    // SYN, its ACK, the question and the ACK of the answer, with a little luck
    // fewer; no packet for the closed port.
    assert!(forth.carried <= 5, "{forth}");
}

#[test]
fn a_relay_that_is_killed_leaves_a_good_path() {
    let world = World::new();
    let mut peer = Peer::connect(&world);
    let fault = bad_path(Path::default().with_delay(ms(50)));
    world.router.kill_programs();
    peer.answers_within(QUICK);
    fault.stop().expect_err("it did not end by itself");
    world.is_as_before();
}

#[test]
fn a_fault_that_cannot_start_leaves_nothing() {
    let world = World::new();
    let path = Path::default();
    PathFault::start(ROUTER, LEFT, "nowhere", path).expect_err("no such interface");
    PathFault::start("mesh-t-nowhere", LEFT, RIGHT, path).expect_err("no such namespace");
    world.is_as_before();
}

fn bad_path(path: anyhow::Result<Path>) -> PathFault {
    let begin = Instant::now();
    let fault = PathFault::start(ROUTER, LEFT, RIGHT, path.unwrap()).unwrap();
    println!("the path was bad after {:?}", begin.elapsed());
    fault
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
