use super::*;

fn endpoint(port: u16) -> Arc<EndpointState> {
    let endpoint = Endpoint {
        address: ([10, 42, 0, 9], port).into(),
        mesh: None,
        authority: None,
        weight: 1,
        pod: "".into(),
        zone: "".into(),
    };
    Arc::new(EndpointState::new(endpoint))
}

/// The port that stands for the whole export: no endpoint of these tests has it.
const WHOLE: u16 = 9999;

/// Endpoints 1 to `count` and what stands for them.
fn balancer(count: u16, is_stale: bool) -> Balancer {
    let fallback = Fallback {
        endpoint: endpoint(WHOLE),
        is_stale,
    };
    Balancer::new((1..=count).map(endpoint).collect(), Some(fallback))
}

fn picked(balancer: &Balancer, now: Instant) -> Option<u16> {
    let picked = balancer.pick(&Tried::default(), now)?;
    Some(picked.endpoint().address.port())
}

fn is_usable(balancer: &Balancer, now: Instant) -> bool {
    balancer.has(Choosy::Usable, &Tried::default(), now)
}

fn is_empty(balancer: &Balancer, now: Instant) -> bool {
    !balancer.has(Choosy::Any, &Tried::default(), now)
}

#[test]
fn r3_what_was_tried_in_vain_is_tried_again_only_if_there_is_nothing_else() {
    let now = Instant::now();
    let balancer = Balancer::new((1..=3).map(endpoint).collect(), None);
    let mut tried = Tried::default();
    let mut next = |down: &[usize]| {
        for at in down {
            balancer.endpoints[*at].failed(now);
        }
        let picked = balancer.pick(&tried, now).unwrap();
        let port = picked.endpoint().address.port();
        tried.add(picked);
        port
    };
    let mut first = [next(&[]), next(&[]), next(&[])];
    first.sort_unstable();
    assert_eq!(first, [1, 2, 3], "each once, whatever its load");
    assert_eq!(next(&[0, 1]), 3, "all were tried, and one is usable");

    let other = Balancer::new((1..=2).map(endpoint).collect(), None);
    let mut tried = Tried::default();
    tried.add(other.endpoints[0].clone());
    other.endpoints.iter().for_each(|one| one.failed(now));
    for _ in 0..20 {
        let picked = other.pick(&tried, now).unwrap();
        assert_eq!(picked.endpoint().address.port(), 2, "all are down");
    }
}

#[test]
fn r11_when_the_gateway_knows_none_of_our_endpoints_it_picks_one_itself() {
    for is_stale in [false, true] {
        let (balancer, now) = (balancer(2, is_stale), Instant::now());
        balancer.endpoints[0].refused(now);
        assert_eq!(picked(&balancer, now), Some(2), "one is left");
        balancer.endpoints[1].refused(now);
        assert_eq!(picked(&balancer, now), Some(WHOLE));
        assert!(is_usable(&balancer, now));
    }
}

#[test]
fn r11_of_many_old_endpoints_not_all_are_asked_first() {
    let (balancer, now) = (balancer(100, true), Instant::now());
    for asked in 0.. {
        let endpoint = balancer.pick(&Tried::default(), now).unwrap();
        if endpoint.endpoint().address.port() == WHOLE {
            assert_eq!(asked, MANY_REFUSED);
            return;
        }
        endpoint.refused(now);
    }
}

#[test]
fn r11_endpoints_that_are_all_down_may_have_been_replaced() {
    let now = Instant::now();
    for is_stale in [false, true] {
        let balancer = balancer(2, is_stale);
        balancer.endpoints[0].failed(now);
        assert_eq!(picked(&balancer, now), Some(2), "{is_stale}");
        balancer.endpoints[1].failed(now);
        assert_eq!(picked(&balancer, now), Some(WHOLE), "{is_stale}");
        balancer.pick(&Tried::default(), now).unwrap().failed(now);
        assert!(!is_usable(&balancer, now), "another backend is next");
    }
}

#[test]
fn r12_a_fresh_feed_that_names_no_endpoint_is_believed() {
    let now = Instant::now();
    let fresh = balancer(0, false);
    assert_eq!(picked(&fresh, now), None);
    assert!(is_empty(&fresh, now) && !is_usable(&fresh, now));
    let stale = balancer(0, true);
    assert_eq!(picked(&stale, now), Some(WHOLE));
    assert!(!is_empty(&stale, now) && is_usable(&stale, now));
}

#[test]
fn r12_a_fallback_that_fails_makes_room_for_the_next_backend() {
    let (balancer, now) = (balancer(1, true), Instant::now());
    balancer.endpoints[0].refused(now);
    balancer.pick(&Tried::default(), now).unwrap().failed(now);
    assert!(!is_usable(&balancer, now));
    assert!(
        picked(&balancer, now).is_some(),
        "and is tried all the same"
    );
}

#[test]
fn an_endpoint_that_answers_again_is_preferred() {
    let (balancer, now) = (balancer(1, true), Instant::now());
    balancer.endpoints[0].refused(now);
    assert_eq!(picked(&balancer, now), Some(WHOLE));
    balancer.endpoints[0].answered(Duration::from_millis(1), now);
    assert_eq!(picked(&balancer, now), Some(1));
}

/// Requests one after the other, 10 ms apart; how many each endpoint had, in
/// thousandths.
fn shares(balancer: &Balancer, start: Instant, latency: fn(u16) -> u64) -> Vec<u64> {
    let mut counts = vec![0; balancer.endpoints.len()];
    for at in 0..1000 {
        let now = start + Duration::from_millis(10 * at);
        let picked = balancer.pick(&Tried::default(), now).unwrap();
        let port = picked.endpoint().address.port();
        let took = Duration::from_micros(latency(port));
        picked.answered(took, now + took);
        counts[usize::from(port) - 1] += 1;
    }
    counts
}

#[test]
fn endpoints_that_are_alike_share_alike_and_a_new_one_has_its_share_at_once() {
    let now = Instant::now();
    let balancer = Balancer::new((1..=2).map(endpoint).collect(), None);
    // One was there before, and is a little faster.
    for at in 0..100 {
        balancer.endpoints[0].answered(Duration::from_micros(400), now - Duration::from_millis(at));
    }
    let counts = shares(&balancer, now, |port| 400 + 100 * u64::from(port - 1));
    assert!(counts.iter().all(|count| *count > 350), "{counts:?}");
}

#[test]
fn a_slow_endpoint_has_little_and_is_tried_again() {
    let balancer = Balancer::new((1..=2).map(endpoint).collect(), None);
    let counts = shares(&balancer, Instant::now(), |port| 500 * u64::from(port));
    assert!((1..250).contains(&counts[1]), "{counts:?}");
}
