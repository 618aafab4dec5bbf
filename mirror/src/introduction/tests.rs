use mesh_testing::ca::TestRoot;

use super::*;

fn root(trust_domain: &str) -> Vec<u8> {
    TestRoot::new(trust_domain).bundle().remove(0)
}

fn link(bundle: &[Vec<u8>]) -> Link {
    let mut link = crate::decide::tests::link("link-1");
    link.spec.bundle = to_pem(bundle);
    link
}

fn said(trust_domain: &str, roots: Vec<Vec<u8>>, hosts: &[&str]) -> Introduction {
    let bundle = v1::Bundle {
        trust_domain: trust_domain.into(),
        roots,
    };
    let hosts = hosts.iter().map(|host| (*host).into()).collect();
    Introduction::new(Some(bundle), hosts)
}

fn keep(link: &mut Link, observed: Observed) {
    link.status = Some(LinkStatus {
        bundle: observed.bundle,
        gateway_addresses: observed.addresses,
        observed_spec: Some(observed.spec),
        ..LinkStatus::default()
    });
}

#[test]
fn a_rotated_root_is_kept_and_used() {
    let (old, new) = (root("east"), root("east"));
    let mut link = link(std::slice::from_ref(&old));
    let said = said("east", vec![old.clone(), new.clone()], &[]);
    let observed = observe(&link, &said, &BTreeSet::new());
    keep(&mut link, observed);
    let effective = link.effective_spec();
    assert_eq!(parse_bundle(&effective.bundle).unwrap(), [old, new]);
}

#[test]
fn what_the_spec_says_already_is_not_repeated() {
    let root = root("east");
    let link = link(std::slice::from_ref(&root));
    let said = said("east", vec![root], &["192.0.2.1"]);
    let observed = observe(&link, &said, &BTreeSet::from(["192.0.2.1"]));
    assert_eq!(observed.bundle, None);
    assert!(observed.addresses.is_empty());
}

#[test]
fn a_bundle_of_another_trust_domain_or_of_no_use_changes_nothing() {
    let (old, new) = (root("east"), root("east"));
    let mut link = link(std::slice::from_ref(&old));
    let rotated = said("east", vec![new.clone()], &[]);
    let kept = observe(&link, &rotated, &BTreeSet::new());
    keep(&mut link, kept.clone());
    for (what, said) in [
        ("west", said("west", vec![old.clone()], &[])),
        ("empty", said("east", Vec::new(), &[])),
        ("garbage", said("east", vec![vec![1, 2, 3]], &[])),
        (
            "partly garbage",
            said("east", vec![old.clone(), vec![0]], &[]),
        ),
        ("a flood", said("east", vec![old; 17], &[])),
        ("nothing", Introduction::new(None, Vec::new())),
    ] {
        assert_eq!(observe(&link, &said, &BTreeSet::new()), kept, "{what}");
    }
}

#[test]
fn a_new_address_is_taken_once_it_answers() {
    let mut link = link(&[]);
    let moved = said("east", Vec::new(), &["192.0.2.9", "192.0.2.8"]);
    let deaf = observe(&link, &moved, &BTreeSet::from(["192.0.2.1"]));
    assert!(deaf.addresses.is_empty());
    let heard = observe(&link, &moved, &BTreeSet::from(["192.0.2.9"]));
    assert_eq!(heard.addresses, ["192.0.2.8", "192.0.2.9"]);
    keep(&mut link, heard.clone());
    let silent = said("east", Vec::new(), &[]);
    assert_eq!(observe(&link, &silent, &BTreeSet::new()), heard);
    let back = said("east", Vec::new(), &["192.0.2.1"]);
    let observed = observe(&link, &back, &BTreeSet::new());
    assert!(observed.addresses.is_empty(), "as the spec says");
}

#[test]
fn a_peer_does_not_lead_us_to_ourselves() {
    let bad = [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "169.254.169.254",
        "fe80::1",
        "::ffff:127.0.0.1",
        "localhost",
        "kubernetes.default.svc",
        "a.svc.cluster.local",
        "a b",
        "",
    ];
    for host in bad {
        assert!(
            said("east", Vec::new(), &[host]).hosts().is_empty(),
            "{host}"
        );
    }
    let good = ["192.0.2.1", "2001:db8::1", "10.0.0.1", "gateway.example"];
    assert_eq!(said("east", Vec::new(), &good).hosts().len(), good.len());
}
