use super::*;
use crate::{
    desired::{Refusal, Refused},
    mirror::ServiceName,
    status::TakenName,
};

fn findings() -> Findings {
    Findings {
        reachable: Reachable::Feed(Health::Alive),
        synced: Synced::Done(3),
        conflicts: Some(Vec::new()),
        services: 3,
        cluster_uid: None,
        refused: Some(0),
        gateways: None,
        observed: None,
    }
}

fn with(synced: Synced) -> Findings {
    Findings {
        synced,
        ..findings()
    }
}

fn lost() -> Findings {
    Findings {
        reachable: Reachable::Feed(Health::Lost("no route".into())),
        synced: Synced::Stale,
        ..findings()
    }
}

fn refusing(name: &str) -> Findings {
    let refused = Refused {
        remote: name.into(),
        reason: Refusal::NamespaceMissing,
    };
    Findings {
        refused: Some(1),
        ..with(Synced::Incomplete(vec![refused]))
    }
}

fn conflicting(name: &str) -> Findings {
    let taken = TakenName {
        name: ServiceName::new("shop", name),
        link: None,
    };
    Findings {
        conflicts: Some(vec![taken]),
        ..with(Synced::NamesTaken(1))
    }
}

fn reasons(notes: &[Note]) -> Vec<&'static str> {
    notes.iter().map(|note| note.reason).collect()
}

/// What is said of looks that are two minutes apart.
fn said(looks: &[Findings]) -> Vec<&'static str> {
    let (mut news, start) = (News::default(), Instant::now());
    let mut said = Vec::new();
    for (minutes, findings) in (0..).step_by(2).zip(looks) {
        let now = start + Duration::from_secs(60 * minutes);
        said.extend(reasons(&news.after(findings, Done::default(), now)));
    }
    said
}

#[test]
fn what_goes_wrong_is_said_once_and_its_end_too() {
    let well = findings();
    let stranger = with(Synced::AnotherCluster("u".into()));
    let held = with(Synced::HeldBack(9));
    for (wrong, begin, end) in [
        (lost(), "FeedLost", "FeedBack"),
        (stranger, "AnotherCluster", "ClusterKnown"),
        (held, "RemovalsHeldBack", "RemovalsReleased"),
        (conflicting("web-east"), "NamesTaken", "ConflictsOver"),
        (refusing("shop/web"), "ServicesRefused", "AllAccepted"),
    ] {
        let looks = [&well, &wrong, &wrong, &well, &well].map(Clone::clone);
        assert_eq!(said(&looks), [begin, end]);
    }
    assert!(said(&[well.clone(), well]).is_empty());
}

#[test]
fn s23_a_missing_namespace_is_an_event_that_names_it() {
    let notes = News::default().after(&refusing("shop/web"), Done::default(), Instant::now());
    assert!(notes[0].warning);
    assert!(notes[0].text.contains("shop/web"), "{}", notes[0].text);
    assert!(
        notes[0].text.contains("does not exist"),
        "{}",
        notes[0].text
    );
}

#[test]
fn mirrors_are_counted_and_not_listed() {
    let (mut news, start) = (News::default(), Instant::now());
    let done = |created, removed| Done {
        created,
        removed,
        repaired: 0,
    };
    let first = news.after(&findings(), done(5000, 0), start);
    assert_eq!(first[0].text, "Mirror Services: 5000 created.");
    for second in 1..60 {
        let now = start + Duration::from_secs(second);
        assert!(news.after(&findings(), done(1, 2), now).is_empty());
    }
    assert_eq!(news.due(), Some(start + Duration::from_secs(60)));
    let second = news.after(&findings(), Done::default(), news.due().unwrap());
    assert_eq!(second[0].text, "Mirror Services: 59 created, 118 removed.");
    assert_eq!(news.due(), None);
}

#[test]
fn m8_a_peer_that_changes_all_the_time_makes_no_storm_of_events() {
    let (mut news, start) = (News::default(), Instant::now());
    let mut count = 0;
    for tick in 0..3600_u32 {
        let findings = match tick % 4 {
            0 => findings(),
            1 => lost(),
            2 => conflicting(&format!("s{tick}")),
            _ => refusing(&format!("shop/s{tick}")),
        };
        let done = Done {
            created: 7,
            ..Done::default()
        };
        let now = start + Duration::from_secs(1) * tick;
        count += news.after(&findings, done, now).len();
    }
    assert!(count <= 6 * 61, "{count} events in an hour");
}

#[test]
fn what_was_over_before_it_could_be_said_is_not_said() {
    let (mut news, start) = (News::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut look = |findings: &Findings, seconds| {
        let notes = news.after(findings, Done::default(), at(seconds));
        (reasons(&notes), news.due())
    };
    assert_eq!(look(&lost(), 0).0, ["FeedLost"]);
    assert_eq!(look(&findings(), 10), (vec![], Some(at(60))));
    assert_eq!(look(&lost(), 20), (vec![], None));
    assert_eq!(look(&findings(), 70).0, ["FeedBack"]);
}
