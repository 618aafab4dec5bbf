use super::*;
use crate::desired::Refusal;

fn findings() -> Findings {
    Findings {
        reachable: Reachable::Feed(Health::Alive),
        synced: Synced::Done(3),
        conflicts: Some(Vec::new()),
        services: 3,
        cluster_uid: Some("east-uid".into()),
        refused: Some(0),
        gateways: None,
        observed: None,
    }
}

fn condition<'a>(status: &'a LinkStatus, kind: &str) -> &'a LinkCondition {
    let mut conditions = status.conditions.iter();
    conditions
        .find(|condition| condition.r#type == kind)
        .unwrap()
}

#[test]
fn a_healthy_link_has_three_conditions() {
    let status = status(None, &findings(), "noon").unwrap();
    let said: Vec<(&str, &str)> = status
        .conditions
        .iter()
        .map(|condition| (condition.r#type.as_str(), condition.status.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("Reachable", "True"),
            ("Synced", "True"),
            ("Conflicts", "False")
        ]
    );
    assert_eq!(status.services.mirrored, 3);
    assert_eq!(status.cluster_uid.as_deref(), Some("east-uid"));
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let first = status(None, &findings(), "noon").unwrap();
    assert_eq!(status(Some(&first), &findings(), "one"), None);
}

#[test]
fn a_condition_knows_since_when_it_holds() {
    let first = status(None, &findings(), "noon").unwrap();
    let lost = Findings {
        reachable: Reachable::Feed(Health::Lost("no route".into())),
        synced: Synced::Done(4),
        ..findings()
    };
    let second = status(Some(&first), &lost, "one").unwrap();
    assert_eq!(condition(&second, "Reachable").last_transition_time, "one");
    assert_eq!(condition(&second, "Synced").last_transition_time, "noon");
}

#[test]
fn conditions_of_others_are_kept() {
    let mut first = status(None, &findings(), "noon").unwrap();
    let other = LinkCondition {
        r#type: "Accepted".into(),
        ..first.conditions[0].clone()
    };
    first.conditions.insert(0, other.clone());
    let changed = Findings {
        synced: Synced::Stale,
        ..findings()
    };
    let second = status(Some(&first), &changed, "one").unwrap();
    assert_eq!(second.conditions[0], other);
    assert_eq!(second.conditions.len(), 4);
}

#[test]
fn m1_a_conflict_names_the_service_and_its_owner() {
    let name = |name| ServiceName::new("shop", name);
    let taken = [
        TakenName {
            name: name("web-east"),
            link: None,
        },
        TakenName {
            name: name("db-east"),
            link: Some("other".into()),
        },
    ];
    let findings = Findings {
        conflicts: Some(taken.into()),
        ..findings()
    };
    let status = status(None, &findings, "noon").unwrap();
    let condition = condition(&status, "Conflicts");
    assert_eq!(condition.status, "True");
    for part in [
        "shop/web-east",
        "did not make",
        "shop/db-east",
        "Link other",
    ] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
}

#[test]
fn m6_conflicts_stay_as_they_were_while_nothing_is_known() {
    let taken = TakenName {
        name: ServiceName::new("shop", "web-east"),
        link: None,
    };
    let known = Findings {
        conflicts: Some(vec![taken]),
        ..findings()
    };
    let first = status(None, &known, "noon").unwrap();
    let restarted = Findings {
        conflicts: None,
        synced: Synced::Waiting,
        ..findings()
    };
    let second = status(Some(&first), &restarted, "one").unwrap();
    assert_eq!(
        condition(&second, "Conflicts"),
        condition(&first, "Conflicts")
    );
}

#[test]
fn m5_what_is_refused_is_listed_but_not_without_end() {
    let refused = |n| Refused {
        remote: format!("shop/s{n}"),
        reason: Refusal::NamespaceMissing,
    };
    let findings = Findings {
        synced: Synced::Incomplete((0..1000).map(refused).collect()),
        ..findings()
    };
    let status = status(None, &findings, "noon").unwrap();
    let message = &condition(&status, "Synced").message;
    assert!(message.starts_with("1000 exported Services are not mirrored: shop/s0 ("));
    assert!(message.contains("and 995 more"), "{message}");
    assert!(message.len() < 2048);
}

#[test]
fn c6_text_of_the_peer_shows_no_control_characters() {
    let refused = Refused {
        remote: format!("a\u{1b}[31m\n\"{}", "x".repeat(5000)),
        reason: Refusal::NamespaceName,
    };
    let findings = Findings {
        synced: Synced::Incomplete(vec![refused]),
        ..findings()
    };
    let status = status(None, &findings, "noon").unwrap();
    let message = &condition(&status, "Synced").message;
    assert!(!message.chars().any(char::is_control), "{message}");
    assert!(message.len() < 2048);
}

fn probed(address: &str, alive: bool, ms: u64) -> Probed {
    Probed {
        address: address.into(),
        alive,
        latency: alive.then(|| Duration::from_millis(ms)),
    }
}

fn with_gateways(gateways: Vec<Probed>) -> Findings {
    Findings {
        gateways: Some(gateways),
        ..findings()
    }
}

#[test]
fn s28_a_gateway_that_answers_a_little_later_is_not_worth_a_write() {
    let first = with_gateways(vec![probed("192.0.2.1", true, 20)]);
    let first = status(None, &first, "noon").unwrap();
    let later = with_gateways(vec![probed("192.0.2.1", true, 30)]);
    assert_eq!(status(Some(&first), &later, "one"), None);
    let restarted = Findings {
        gateways: None,
        ..findings()
    };
    assert_eq!(status(Some(&first), &restarted, "two"), None);
}

#[test]
fn each_address_of_a_gateway_knows_since_when_it_is_as_it_is() {
    let both = |alive| {
        let first = probed("192.0.2.1", true, 20);
        with_gateways(vec![first, probed("192.0.2.2", alive, 20)])
    };
    let first = status(None, &both(true), "noon").unwrap();
    let second = status(Some(&first), &both(false), "one").unwrap();
    let said: Vec<_> = second
        .gateways
        .iter()
        .map(|g| (g.alive, g.latency_ms, g.last_change.as_str()))
        .collect();
    assert_eq!(said, [(true, Some(20), "noon"), (false, None, "one")]);
    assert_eq!(second.last_change.as_deref(), Some("one"));
    assert!(second.message.contains("192.0.2.2"), "{}", second.message);
}

#[test]
fn the_message_says_what_is_wrong_first() {
    let said = |findings: &Findings| status(None, findings, "noon").unwrap().message;
    assert_eq!(said(&findings()), "All 3 exported Services are mirrored.");
    let lost = Findings {
        reachable: Reachable::Feed(Health::Lost("no route".into())),
        synced: Synced::Stale,
        ..findings()
    };
    assert!(said(&lost).contains("no route"));
    let stranger = Findings {
        synced: Synced::AnotherCluster("u".into()),
        ..findings()
    };
    assert!(said(&stranger).starts_with("Another cluster"));
    let quiet = Findings {
        reachable: Reachable::NotImporting,
        synced: Synced::NotImporting,
        ..findings()
    };
    assert!(said(&quiet).contains("imports nothing"));
}

#[test]
fn m6_counts_stay_as_they_were_while_nothing_is_known() {
    let counted = Findings {
        refused: Some(4),
        synced: Synced::NamesTaken(0),
        ..findings()
    };
    let first = status(None, &counted, "noon").unwrap();
    let restarted = Findings {
        refused: None,
        conflicts: None,
        synced: Synced::Waiting,
        ..findings()
    };
    let second = status(Some(&first), &restarted, "one").unwrap();
    assert_eq!(second.services, first.services);
    assert_eq!(second.services.refused, 4);
}
