use std::{sync::Arc, time::Duration};

use mesh_api::link::{LinkGateway, LinkPeers, LinkSpec, LinkStatus};
use tokio::time::Instant;

use super::*;
use crate::{
    export::{Export, Offer, Port, Snapshot},
    introduction::Introduction,
    local::tests::objects,
    mirror::{Actual, Mirror, Owned},
};

pub(crate) fn link(uid: &str) -> Link {
    let spec = LinkSpec {
        cluster: "east".into(),
        trust_domain: "east".into(),
        bundle: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
        gateway: LinkGateway {
            addresses: vec!["192.0.2.1".into()],
            port: 4143,
            identity: "spiffe://east/ns/mesh-multicluster/sa/mesh-gateway".into(),
            server_name: "gateway.east.mesh".into(),
        },
        peers: LinkPeers {
            control: "spiffe://east/ns/mesh-system/sa/mesh-control".into(),
            mirror: "spiffe://east/ns/mesh-multicluster/sa/mesh-mirror".into(),
        },
        prefix: "fd6d:6573:6800:1::/64".into(),
        direction: Direction::Both,
        namespaces: Vec::new(),
    };
    let mut link = Link::new(uid, spec);
    link.metadata.uid = Some(uid.into());
    link
}

fn port() -> Port {
    Port {
        number: 80,
        name: None,
        app_protocol: None,
    }
}

fn export(name: &str) -> Export {
    Export {
        namespace: "shop".into(),
        name: name.into(),
        offer: Ok(Offer {
            ports: vec![port()],
            opaque_ports: None,
        }),
    }
}

/// As mesh-control gives `link`.
fn given(link: &Link) -> Arc<model::Link> {
    Arc::new(link.to_model(parse_bundle).unwrap())
}

fn feed(cluster_uid: &str, services: &[&str], at: Instant) -> Feed {
    let snapshot = Snapshot {
        cluster_uid: cluster_uid.into(),
        services: services.iter().map(|name| export(name)).collect(),
        ..Snapshot::default()
    };
    Feed {
        received: Some(Arc::new(Received {
            snapshot,
            link: given(&link("link-1")),
            at,
            changed: at,
        })),
        health: Health::Alive,
    }
}

/// A mirror as `link-1` makes it.
fn mirrored(service: &str, link_uid: &str) -> (ServiceName, Actual) {
    let mirror = Mirror {
        cluster: "east".into(),
        link_uid: link_uid.into(),
        remote: format!("shop/{service}"),
        ports: vec![port()],
        opaque_ports: None,
    };
    let owned = Owned {
        link_uid: link_uid.into(),
        uid: "uid-1".into(),
        resource_version: "7".into(),
        mirror: Some(mirror),
        terminating: false,
    };
    (
        ServiceName::new("shop", &format!("{service}-east")),
        Actual::Ours(owned),
    )
}

const TEN: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// A cluster with link-1 and its mirrors of these Services.
fn cluster(services: &[&str]) -> Objects {
    let mirrors = services.iter().map(|service| mirrored(service, "link-1"));
    objects(vec![link("link-1")], &["shop"], mirrors.collect())
}

fn decide(memory: &mut Memory, link: &Link, objects: &Objects, feed: &Feed) -> Decision {
    super::decide(memory, link, objects, feed, None)
}

fn deletions(decision: &Decision) -> usize {
    let is_deletion = |action: &&Action| matches!(action, Action::Delete { .. });
    decision.actions.iter().filter(is_deletion).count()
}

#[test]
fn m11_a_leader_whose_feed_is_lost_removes_nothing_that_another_may_have_made() {
    let mut memory = Memory::default();
    let mut feed = feed("east-uid", &["web"], Instant::now());
    let both = cluster(&["web", "new"]);
    feed.health = Health::Lost("cut".into());
    let stale = decide(&mut memory, &link("link-1"), &both, &feed);
    assert_eq!(stale.actions, []);
    assert_eq!(stale.findings.synced, Synced::Stale);
    // What this cluster's own Link forbids goes all the same.
    let mut elsewhere = link("link-1");
    elsewhere.spec.namespaces = vec!["other".into()];
    assert_eq!(deletions(&decide(&mut memory, &elsewhere, &both, &feed)), 2);
    feed.health = Health::Alive;
    let alive = decide(&mut memory, &link("link-1"), &both, &feed);
    assert_eq!(deletions(&alive), 1);
}

#[test]
fn what_is_exported_is_mirrored_and_then_all_is_well() {
    let mut memory = Memory::default();
    let feed = feed("east-uid", &["web"], Instant::now());
    let first = decide(&mut memory, &link("link-1"), &cluster(&[]), &feed);
    assert!(matches!(first.actions[..], [Action::Create { .. }]));
    let second = decide(&mut memory, &link("link-1"), &cluster(&["web"]), &feed);
    assert_eq!(second.actions, []);
    assert_eq!(second.findings.synced, Synced::Done(1));
    assert_eq!(second.findings.services, 1);
    assert_eq!(second.findings.cluster_uid.as_deref(), Some("east-uid"));
}

#[test]
fn m6_before_the_first_snapshot_nothing_is_written() {
    let mut memory = Memory::default();
    let decision = decide(
        &mut memory,
        &link("link-1"),
        &cluster(&TEN),
        &Feed::default(),
    );
    assert_eq!(decision.actions, []);
    assert_eq!(decision.findings.synced, Synced::Waiting);
    assert_eq!(decision.findings.services, 10);
}

#[test]
fn m7_a_lost_feed_keeps_all_mirrors_and_marks_them_stale() {
    let mut lost = feed("east-uid", &TEN, Instant::now());
    lost.health = Health::Lost("nothing was heard for 15 seconds".into());
    let decision = decide(
        &mut Memory::default(),
        &link("link-1"),
        &cluster(&TEN),
        &lost,
    );
    assert_eq!(decision.actions, []);
    assert_eq!(decision.findings.synced, Synced::Stale);
}

#[test]
fn m9_a_deleted_mirror_comes_back_even_while_the_feed_is_lost() {
    let mut lost = feed("east-uid", &["web"], Instant::now());
    lost.health = Health::Lost("no route".into());
    let decision = decide(
        &mut Memory::default(),
        &link("link-1"),
        &cluster(&[]),
        &lost,
    );
    assert!(matches!(decision.actions[..], [Action::Create { .. }]));
}

#[test]
fn m6_an_empty_feed_removes_nothing_until_it_is_confirmed() {
    let mut memory = Memory::default();
    let (start, link, cluster) = (Instant::now(), link("link-1"), cluster(&TEN));
    let first = decide(&mut memory, &link, &cluster, &feed("east-uid", &[], start));
    assert_eq!(first.actions, []);
    assert_eq!(first.findings.synced, Synced::HeldBack(10));
    let later = first.ask_again.unwrap();
    assert_eq!(later, start + CONFIRMATION);
    let second = decide(&mut memory, &link, &cluster, &feed("east-uid", &[], later));
    assert_eq!(deletions(&second), 10);
    assert_eq!(second.ask_again, None);
}

#[test]
fn m6_while_removals_wait_everything_else_goes_on() {
    let feed = feed("east-uid", &["new"], Instant::now());
    let decision = decide(
        &mut Memory::default(),
        &link("link-1"),
        &cluster(&TEN),
        &feed,
    );
    assert!(matches!(decision.actions[..], [Action::Create { .. }]));
    assert_eq!(decision.findings.synced, Synced::HeldBack(10));
}

#[test]
fn m6_another_cluster_changes_nothing_until_it_has_answered_for_a_minute() {
    let mut known = link("link-1");
    known.status = Some(LinkStatus {
        cluster_uid: Some("east-uid".into()),
        ..Default::default()
    });
    let mut memory = Memory::new(&known);
    let start = Instant::now();
    let first = decide(
        &mut memory,
        &known,
        &cluster(&["web"]),
        &feed("new-uid", &["db"], start),
    );
    assert_eq!(first.actions, []);
    assert_eq!(
        first.findings.synced,
        Synced::AnotherCluster("new-uid".into())
    );
    assert_eq!(first.findings.cluster_uid.as_deref(), Some("east-uid"));
    let later = first.ask_again.unwrap();
    let second = decide(
        &mut memory,
        &known,
        &cluster(&["web"]),
        &feed("new-uid", &["db"], later),
    );
    assert_eq!(second.actions.len(), 2);
    assert_eq!(second.findings.cluster_uid.as_deref(), Some("new-uid"));
}

#[test]
fn m6_the_old_cluster_is_believed_at_once_when_it_is_back() {
    let mut memory = Memory::default();
    let (start, link) = (Instant::now(), link("link-1"));
    let mut look = |uid, seconds| {
        let at = start + Duration::from_secs(seconds);
        decide(
            &mut memory,
            &link,
            &cluster(&["web"]),
            &feed(uid, &["web"], at),
        )
        .findings
        .synced
    };
    assert_eq!(look("east-uid", 0), Synced::Done(1));
    assert_eq!(
        look("new-uid", 10),
        Synced::AnotherCluster("new-uid".into())
    );
    assert_eq!(look("east-uid", 20), Synced::Done(1));
}

#[test]
fn m3_what_the_link_forbids_from_now_on_goes_at_once() {
    let mut narrowed = link("link-1");
    narrowed.spec.namespaces = vec!["bank".into()];
    let feed = feed("east-uid", &TEN, Instant::now());
    let decision = decide(&mut Memory::default(), &narrowed, &cluster(&TEN), &feed);
    assert_eq!(deletions(&decision), 10);
    // That needs no word of the peer.
    let silent = Feed::default();
    let decision = decide(&mut Memory::default(), &narrowed, &cluster(&TEN), &silent);
    assert_eq!(deletions(&decision), 10);
    let mut memory = Memory {
        cluster_uid: Some("another".into()),
        ..Memory::default()
    };
    let decision = decide(&mut memory, &narrowed, &cluster(&TEN), &feed);
    assert_eq!(deletions(&decision), 10);
}

#[test]
fn m2_the_second_link_is_told_which_link_has_the_name() {
    let there = objects(
        vec![link("link-0"), link("link-1")],
        &["shop"],
        vec![mirrored("web", "link-0")],
    );
    let feed = feed("east-uid", &["web"], Instant::now());
    let decision = decide(&mut Memory::default(), &link("link-1"), &there, &feed);
    assert_eq!(decision.actions, []);
    let taken = decision.findings.conflicts.unwrap();
    assert_eq!(taken[0].link.as_deref(), Some("link-0"));
    assert_eq!(decision.findings.services, 0);
    assert_eq!(decision.findings.synced, Synced::NamesTaken(1));
}

#[test]
fn m10_a_link_that_imports_no_longer_removes_exactly_what_it_made() {
    let mut exporting = link("link-1");
    exporting.spec.direction = Direction::Export;
    let foreign = (ServiceName::new("shop", "c-east"), Actual::Foreign);
    let there = objects(
        vec![exporting.clone(), link("link-0")],
        &["shop"],
        vec![mirrored("a", "link-1"), mirrored("b", "link-0"), foreign],
    );
    let decision = decide(&mut Memory::default(), &exporting, &there, &Feed::default());
    assert_eq!(decision.actions.len(), 1);
    assert_eq!(
        *decision.actions[0].name(),
        ServiceName::new("shop", "a-east")
    );
}

#[test]
fn m5_a_link_whose_cluster_has_no_legal_name_writes_nothing() {
    let mut wrong = link("link-1");
    wrong.spec.cluster = "East!".into();
    let feed = feed("east-uid", &[], Instant::now());
    let decision = decide(&mut Memory::default(), &wrong, &cluster(&TEN), &feed);
    assert_eq!(decision.actions, []);
    assert!(matches!(decision.findings.synced, Synced::InvalidLink(_)));
}

/// A feed by way of `link` with an introduction of other addresses.
fn introducing(cluster_uid: &str, link: &Link) -> Feed {
    let at = Instant::now();
    let mut feed = feed(cluster_uid, &["web"], at);
    let snapshot = Snapshot {
        introduction: Introduction::new(None, vec!["192.0.2.9".into()]),
        ..feed.received.as_ref().unwrap().snapshot.clone()
    };
    feed.received = Some(Arc::new(Received {
        snapshot,
        link: given(link),
        at,
        changed: at,
    }));
    feed
}

fn observed(memory: &mut Memory, link: &Link, feed: &Feed) -> Option<Vec<String>> {
    let alive = Probed {
        address: "192.0.2.9".into(),
        alive: true,
        latency: None,
    };
    let objects = cluster(&["web"]);
    let decision = super::decide(memory, link, &objects, feed, Some(&[alive]));
    decision.findings.observed.map(|o| o.addresses)
}

#[test]
fn an_introduction_counts_from_a_living_feed_of_the_right_cluster_only() {
    let mut known = link("link-1");
    known.status = Some(LinkStatus {
        cluster_uid: Some("east-uid".into()),
        ..LinkStatus::default()
    });
    let mut memory = Memory::new(&known);
    let stranger = introducing("other-uid", &known);
    assert_eq!(observed(&mut memory, &known, &stranger), None);
    let taken = Some(vec!["192.0.2.9".to_owned()]);
    let right = introducing("east-uid", &known);
    assert_eq!(observed(&mut memory, &known, &right), taken);
    let stale = Feed {
        health: Health::Lost("no route".into()),
        ..right
    };
    assert_eq!(observed(&mut memory, &known, &stale), None);
}

/// However late it is said: mesh-control may tell of an edit long after it.
#[test]
fn an_introduction_by_way_of_what_an_edit_gave_up_does_not_count() {
    let mut memory = Memory::default();
    let before = link("link-1");
    assert!(observed(&mut memory, &before, &introducing("east-uid", &before)).is_some());
    let edits: [fn(&mut LinkSpec); 4] = [
        |spec| spec.gateway.addresses = vec!["192.0.2.77".into()],
        |spec| spec.gateway.port = 4144,
        |spec| spec.gateway.server_name = "door.east.mesh".into(),
        |spec| spec.bundle = spec.bundle.replace("AAAA", "BBBB"),
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        let mut after = before.clone();
        edit(&mut after.spec);
        let late = introducing("east-uid", &before);
        let seen = observed(&mut memory, &after, &late);
        assert_eq!(seen, None, "edit {index}");
        let new = introducing("east-uid", &after);
        assert!(
            observed(&mut memory, &after, &new).is_some(),
            "edit {index}"
        );
    }
}

#[test]
fn an_introduction_counts_on_the_way_that_the_last_one_showed() {
    let mut memory = Memory::default();
    let spec = link("link-1");
    let mut moved = spec.clone();
    moved.status = Some(LinkStatus {
        gateway_addresses: vec!["192.0.2.9".into()],
        observed_spec: Some(spec.spec.fingerprint()),
        ..LinkStatus::default()
    });
    let by_spec = introducing("east-uid", &spec);
    assert_eq!(observed(&mut memory, &moved, &by_spec), None);
    let by_status = introducing("east-uid", &moved);
    assert_eq!(
        observed(&mut memory, &moved, &by_status),
        Some(vec!["192.0.2.9".to_owned()])
    );
}
