use super::*;
use crate::desired::Refusal;

fn findings() -> Findings {
    Findings {
        reachable: Reachable::Feed(Health::Alive),
        synced: Synced::Done(3),
        conflicts: Some(Vec::new()),
        services: 3,
        cluster_uid: Some("east-uid".into()),
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
    assert_eq!(status.services, 3);
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
