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
    Arc::new(EndpointState::new(endpoint, Instant::now()))
}

/// Port 99 stands for the whole export.
const WHOLE: u16 = 99;

/// Endpoints 1 to `count` and what stands for them.
fn balancer(count: u16, is_stale: bool) -> Balancer {
    let fallback = Fallback {
        endpoint: endpoint(WHOLE),
        is_stale,
    };
    Balancer::new((1..=count).map(endpoint).collect(), Some(fallback))
}

fn picked(balancer: &Balancer, now: Instant) -> Option<u16> {
    let picked = balancer.pick(now)?;
    Some(picked.endpoint().address.port())
}

#[test]
fn r11_when_the_gateway_knows_none_of_our_endpoints_it_picks_one_itself() {
    for is_stale in [false, true] {
        let (balancer, now) = (balancer(2, is_stale), Instant::now());
        balancer.endpoints[0].refused(now);
        assert_eq!(picked(&balancer, now), Some(2), "one is left");
        balancer.endpoints[1].refused(now);
        assert_eq!(picked(&balancer, now), Some(WHOLE));
        assert!(balancer.is_usable(now));
    }
}

#[test]
fn r11_of_many_old_endpoints_not_all_are_asked_first() {
    let (balancer, now) = (balancer(100, true), Instant::now());
    for asked in 0.. {
        let endpoint = balancer.pick(now).unwrap();
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
        balancer.pick(now).unwrap().failed(now);
        assert!(!balancer.is_usable(now), "another backend is next");
    }
}

#[test]
fn r12_a_fresh_feed_that_names_no_endpoint_is_believed() {
    let now = Instant::now();
    let fresh = balancer(0, false);
    assert_eq!(picked(&fresh, now), None);
    assert!(fresh.is_empty() && !fresh.is_usable(now));
    let stale = balancer(0, true);
    assert_eq!(picked(&stale, now), Some(WHOLE));
    assert!(!stale.is_empty() && stale.is_usable(now));
}

#[test]
fn r12_a_fallback_that_fails_makes_room_for_the_next_backend() {
    let (balancer, now) = (balancer(1, true), Instant::now());
    balancer.endpoints[0].refused(now);
    balancer.pick(now).unwrap().failed(now);
    assert!(!balancer.is_usable(now));
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
