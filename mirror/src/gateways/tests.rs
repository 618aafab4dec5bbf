use super::*;

const FAST: Option<Duration> = Some(Duration::from_millis(2));
const SLOW: Option<Duration> = Some(Duration::from_millis(200));

fn probed(address: &str, latency: Option<Duration>) -> Probed {
    Probed {
        address: address.into(),
        alive: latency.is_some(),
        latency,
    }
}

fn after(answers: &[Option<Duration>]) -> Option<bool> {
    let mut way = Way::default();
    for answer in answers {
        way.heard(*answer);
    }
    way.alive
}

#[test]
fn s7_a_gateway_that_is_dead_from_the_start_is_said_to_be() {
    assert_eq!(after(&[]), None);
    assert_eq!(after(&[None]), None);
    assert_eq!(after(&[None, None]), Some(false));
}

#[test]
fn one_missing_answer_is_no_death_and_one_answer_is_life() {
    assert_eq!(after(&[FAST, None]), Some(true));
    assert_eq!(after(&[FAST, None, FAST, None]), Some(true));
    assert_eq!(after(&[FAST, None, None]), Some(false));
    assert_eq!(after(&[None, None, None, FAST]), Some(true));
}

#[test]
fn s28_how_long_answers_take_is_no_news() {
    let mut there = None;
    assert!(!replace(&mut there, Vec::new(), true));
    assert!(replace(&mut there, vec![probed("a", FAST)], false));
    assert!(!replace(&mut there, vec![probed("a", SLOW)], false));
    assert!(replace(&mut there, vec![probed("a", SLOW)], true));
    assert!(!replace(&mut there, vec![probed("a", SLOW)], true));
    assert!(replace(&mut there, vec![probed("a", None)], false));
    assert!(replace(&mut there, vec![probed("b", FAST)], false));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_hangs_does_not_keep_another_waiting() {
    let mut links = crate::feed::tests::links();
    let link = Arc::make_mut(&mut links.links[0]);
    link.gateway.hosts = vec!["good.example".into(), "hangs.example".into()];
    let links = watch::Sender::new(Some(Arc::new(links)));
    let probe: Probe = Arc::new(|link| {
        Box::pin(async move {
            if &*link.gateway.hosts[0] == "hangs.example" {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    });
    let feed = watch::Sender::new(Feed::default());
    let gateways = watch::Sender::new(None);
    let mut seen = gateways.subscribe();
    let start = Instant::now();
    let dead = async {
        let both = |known: &Gateways| known.as_ref().is_some_and(|all| all.len() == 2);
        seen.wait_for(both).await.unwrap().clone().unwrap()
    };
    let known = tokio::select! {
        () = watch("east", links.subscribe(), &feed, &probe, &gateways) => unreachable!(),
        known = dead => known,
    };
    assert!(known[0].alive && !known[1].alive);
    assert!(start.elapsed() < Duration::from_secs(20));
}
