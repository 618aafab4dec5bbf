//! Tunnels to gateways on loopback addresses, some of which do not answer.

mod gateway;

use std::time::{Duration, Instant};

use mesh_testing::dns::{Says, TestDns};
use mesh_wire::mesh1::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use self::gateway::{HERE, LONG, THERE, World};
use super::*;
use crate::TunnelRefused;

/// Waits until it holds.
async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

async fn open(tunnels: &Tunnels, link: &Link) -> TunnelStream {
    tunnels.open(link, Target::Probe).await.unwrap()
}

async fn echoes(stream: &mut TunnelStream) -> bool {
    let mut back = [0; 2];
    stream.write_all(b"hi").await.is_ok()
        && matches!(timeout(LONG, stream.read_exact(&mut back)).await, Ok(Ok(_)))
}

fn live(tunnels: &Tunnels) -> u64 {
    let report = tunnels.report(Instant::now());
    report.iter().map(|link| link.live).sum()
}

#[tokio::test]
async fn r1_an_address_that_does_not_answer_holds_nobody_up() {
    let world = World::new().await;
    let _here = world.silent(HERE).await;
    let there = world.serve(THERE).await;
    for _ in 0..6 {
        // Which one comes first is a matter of chance.
        let (tunnels, start) = (world.tunnels(), Instant::now());
        let mut stream = open(&tunnels, &world.link(&[HERE, THERE])).await;
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(echoes(&mut stream).await);
    }
    assert_eq!(there.streams(), 6);
}

#[tokio::test]
async fn tunnels_are_spread_over_all_addresses_that_answer() {
    let world = World::new().await;
    let (here, there) = (world.serve(HERE).await, world.serve(THERE).await);
    let (tunnels, link) = (world.tunnels(), world.link(&[HERE, THERE]));
    let mut streams = vec![open(&tunnels, &link).await];
    until("both are connected", || live(&tunnels) == 2).await;
    for _ in 0..40 {
        streams.push(open(&tunnels, &link).await);
    }
    until("all are there", || here.streams() + there.streams() == 41).await;
    assert!(here.streams() >= 18 && there.streams() >= 18);
}

#[tokio::test]
async fn r1_a_dead_address_is_left_at_once_and_the_others_carry_on() {
    let world = World::new().await;
    let (here, there) = (world.serve(HERE).await, world.serve(THERE).await);
    let (tunnels, link) = (world.tunnels(), world.link(&[HERE, THERE]));
    open(&tunnels, &link).await;
    until("both are connected", || live(&tunnels) == 2).await;

    here.kill();
    until("one is left", || live(&tunnels) == 1).await;
    for _ in 0..20 {
        assert!(echoes(&mut open(&tunnels, &link).await).await);
    }
    assert!(tunnels.is_available(&link, Instant::now()));

    there.kill();
    let lost = || !tunnels.is_available(&link, Instant::now());
    let took = until("the link is lost", lost).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let refused = tunnels.open(&link, Target::Probe).await.err().unwrap();
    assert_eq!(refused.reason(), "unreachable", "{refused}");
    let report = &tunnels.report(Instant::now())[0];
    assert!(!report.is_available && report.failed.contains_key("unreachable"));

    // Nobody asks, and yet it is found when it is back.
    let _back = world.serve(HERE).await;
    until("it is connected again", || live(&tunnels) == 1).await;
    assert!(echoes(&mut open(&tunnels, &link).await).await);
}

#[tokio::test]
async fn r1_a_gateway_that_gives_no_sign_of_life_is_left_within_10_seconds() {
    let world = World::new().await;
    let here = world.serve(HERE).await;
    let (tunnels, link) = (world.tunnels(), world.link(&[HERE]));
    let mut stream = open(&tunnels, &link).await;
    assert!(echoes(&mut stream).await);

    here.freeze();
    let lost = || !tunnels.is_available(&link, Instant::now());
    let took = until("the link is lost", lost).await;
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(stream.read_u8().await.is_err(), "who waits is told");
}

#[tokio::test]
async fn a_connection_that_nobody_holds_any_more_ends_after_its_last_tunnel() {
    let world = World::new().await;
    let here = world.serve(HERE).await;
    let tunnels = world.tunnels();
    let mut stream = open(&tunnels, &world.link(&[HERE])).await;
    drop(tunnels);
    for _ in 0..3 {
        assert!(echoes(&mut stream).await);
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    drop(stream);
    until("it is closed", || here.connections() == 0).await;
}

#[tokio::test]
async fn g13_a_gateway_that_sends_us_away_keeps_the_tunnels_that_run() {
    let world = World::new().await;
    let here = world.serve(HERE).await;
    let (tunnels, link) = (world.tunnels(), world.link(&[HERE]));
    let (mut old, outer) = tunnels.open_on(&link, Target::Probe).await.unwrap();
    assert!(echoes(&mut old).await);

    here.leave();
    until("it takes no more", || outer.is_closing()).await;
    let mut new = open(&tunnels, &link).await;
    assert!(echoes(&mut new).await && echoes(&mut old).await);
    assert_eq!((here.connections(), here.streams()), (2, 2));
    old.shutdown().await.unwrap();
    assert!(old.read_u8().await.is_err(), "its end comes back");
    drop((old, outer));
    until("the old one is closed", || here.connections() == 1).await;
    assert!(echoes(&mut new).await);
    assert!(tunnels.is_available(&link, Instant::now()));
}

#[tokio::test]
async fn who_reads_and_who_writes_is_told_why_a_tunnel_is_refused() {
    fn why(error: &io::Error) -> Option<Reason> {
        error.get_ref()?.downcast_ref::<TunnelRefused>()?.reason
    }
    let world = World::new().await;
    let here = world.serve(HERE).await;
    here.refuse(Reason::Overloaded);
    let (tunnels, link) = (world.tunnels(), world.link(&[HERE]));
    let mut stream = open(&tunnels, &link).await;
    for _ in 0..2 {
        let error = timeout(LONG, stream.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(why(&error), Some(Reason::Overloaded), "{error}");
    }
    // More than may wait for the answer.
    let mut stream = open(&tunnels, &link).await;
    let writing = stream.write_all(&[0; 1_000_000]);
    let error = timeout(LONG, writing).await.unwrap().unwrap_err();
    assert_eq!(why(&error), Some(Reason::Overloaded), "{error}");
}

#[tokio::test]
async fn r10_a_name_that_cannot_be_resolved_leads_where_it_led_before() {
    let dns = TestDns::saying(Says::Addresses(vec![HERE], 0)).await;
    let resolver = Resolver::asking(dns.address).unwrap();
    assert_eq!(resolver.resolve("gateway.").await.unwrap(), [HERE]);
    for trouble in [Says::NxDomain, Says::ServFail, Says::Silence] {
        dns.say(trouble.clone());
        let answer = resolver.answer("gateway.").await.unwrap();
        assert_eq!(answer.addresses, [HERE], "{trouble:?}");
        let again = answer.valid_until.saturating_duration_since(Instant::now());
        assert!(again <= Duration::from_secs(2), "asked again soon");
        assert!(resolver.resolve("other.").await.is_err(), "{trouble:?}");
    }
    dns.say(Says::Addresses(vec![THERE], 30));
    let answer = resolver.answer("gateway.").await.unwrap();
    assert_eq!(answer.addresses, [THERE]);
    assert!(answer.valid_until <= Instant::now() + Duration::from_secs(30));
}

#[tokio::test]
async fn r10_a_gateway_that_moves_is_followed_within_the_ttl_and_loses_no_tunnel() {
    let dns = TestDns::saying(Says::Addresses(vec![HERE], 1)).await;
    let world = World::new().await;
    let (here, there) = (world.serve(HERE).await, world.serve(THERE).await);
    let resolver = Resolver::asking(dns.address).unwrap();
    let (tunnels, link) = (world.tunnels_with(resolver), world.named("gateway."));
    let (mut old, outer) = tunnels.open_on(&link, Target::Probe).await.unwrap();

    dns.say(Says::Addresses(vec![THERE], 1));
    let took = until("the old one takes no more", || outer.is_closing()).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(echoes(&mut open(&tunnels, &link).await).await);
    assert_eq!((here.streams(), there.streams()), (1, 1));
    assert!(echoes(&mut old).await, "what runs goes on");
    drop((old, outer));
    until("the old one is closed", || here.connections() == 0).await;

    dns.say(Says::Silence);
    there.kill();
    let _back = world.serve(THERE).await;
    until("it is connected again", || live(&tunnels) == 1).await;
}
