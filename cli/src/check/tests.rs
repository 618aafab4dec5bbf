use std::collections::BTreeMap;

use mesh_api::{
    link::{Direction, LinkCondition, LinkStatus},
    names,
};

use super::state::{LinkState, MeshedPod, Program, State, Version};
use crate::multicluster::dns::DnsFacts;

fn program(ready: i32) -> Option<Program> {
    Some(Program {
        wanted: 1,
        ready,
        image: "mesh.dev/mesh-control:dev".into(),
    })
}

fn pod(namespace: &str, ready: bool, tag: &str) -> MeshedPod {
    MeshedPod {
        namespace: namespace.into(),
        name: "web-1".into(),
        ready,
        image: format!("mesh.dev/mesh-proxy:{tag}"),
    }
}

/// A cluster where all is well, without links.
fn healthy() -> State {
    State {
        context: "west".into(),
        version: Version {
            name: "v1.36.3".into(),
            minor: 36,
        },
        definitions: Ok(vec![
            "links.mesh.dev".into(),
            "trafficsplits.split.smi-spec.io".into(),
        ]),
        identity: Ok(("west".parse().unwrap(), "west".parse().unwrap())),
        control: Ok(program(1)),
        gateway: Ok(None),
        mirror: Ok(None),
        roots: Ok(BTreeMap::from([
            (names::SYSTEM_NAMESPACE.into(), "PEM".into()),
            ("shop".into(), "PEM".into()),
        ])),
        pods: Ok(vec![pod("shop", true, "dev")]),
        links: Ok(Vec::new()),
        dns: DnsFacts::default(),
    }
}

/// The lines of a report that are not good.
fn findings(state: &State) -> Vec<String> {
    let text = super::report(state).to_string();
    text.lines()
        .filter(|line| line.starts_with(['‼', '×']))
        .map(Into::into)
        .collect()
}

#[test]
fn a_healthy_cluster_has_nothing_to_look_at() {
    let report = super::report(&healthy());
    assert!(!report.failed());
    let expected = "\
Kubernetes
√ the API server answers, version v1.36.3

Control plane
√ the custom resources are defined
√ cluster west, trust domain west
√ mesh-control is ready (1 of 1), mesh.dev/mesh-control:dev

Meshed pods
√ 1 ready
√ all have the control plane's version, dev
√ the roots are in every meshed namespace

Not checked: whether requests get through (no traffic is sent), the pods' own
certificates, and policies. `mesh explain SERVICE` and `mesh multicluster check`
look at those.

7 good, 0 to look at, 0 failed
";
    assert_eq!(report.to_string(), expected);
}

/// Makes a healthy cluster ill.
type Break = fn(&mut State);

#[test]
fn what_is_broken_fails_the_check() {
    let cases: [(&str, Break); 6] = [
        ("× version v1.36.3 has no native sidecars", |s| {
            s.version.minor = 28;
        }),
        (
            "× not defined: links.mesh.dev, trafficsplits.split.smi-spec.io",
            |s| {
                s.definitions = Ok(Vec::new());
            },
        ),
        ("× mesh-control: 0 of 1 ready", |s| {
            s.control = Ok(program(0));
        }),
        ("× mesh-control is not installed", |s| s.control = Ok(None)),
        ("× the sidecar is not ready in 1 of 1: shop/web-1", |s| {
            s.pods = Ok(vec![pod("shop", false, "dev")]);
        }),
        ("× the roots are missing or old in: other", |s| {
            s.pods = Ok(vec![pod("other", true, "dev")]);
        }),
    ];
    for (finding, break_it) in cases {
        let mut state = healthy();
        break_it(&mut state);
        assert_eq!(findings(&state), [finding]);
        assert!(super::report(&state).failed());
    }
}

#[test]
fn what_only_deserves_attention_fails_nothing() {
    let mut state = healthy();
    state.pods = Ok(vec![pod("shop", true, "old")]);
    assert!(findings(&state)[0].starts_with("‼ 1 have another version"));
    assert!(!super::report(&state).failed());
}

#[test]
fn c9_what_may_not_be_read_is_said_and_fails() {
    let mut state = healthy();
    state.links = Err("context west: you may not list Links".into());
    assert_eq!(
        findings(&state),
        ["× could not be checked: context west: you may not list Links"]
    );
}

fn link(conditions: &[(&str, &str)]) -> LinkState {
    let mut link = crate::multicluster::tests::link_to("east", Direction::Both);
    link.status = Some(LinkStatus {
        conditions: conditions
            .iter()
            .map(|(kind, status)| LinkCondition {
                r#type: (*kind).into(),
                status: (*status).into(),
                reason: "Why".into(),
                message: "what happened".into(),
                last_transition_time: String::new(),
            })
            .collect(),
        ..LinkStatus::default()
    });
    LinkState { link, peer: None }
}

#[test]
fn the_conditions_of_a_link_are_told() {
    let mut state = healthy();
    state.links = Ok(vec![link(&[
        ("Reachable", "False"),
        ("Synced", "True"),
        ("Conflicts", "True"),
    ])]);
    let found = findings(&state);
    assert!(
        found.contains(&"× Reachable is False: Why".into()),
        "{found:?}"
    );
    assert!(found.contains(&"‼ some Services are not mirrored: Why".into()));
    assert!(!found.iter().any(|line| line.contains("Synced")));
}

#[test]
fn a_link_without_a_status_is_a_question_to_the_mirror() {
    let mut state = healthy();
    state.links = Ok(vec![link(&[])]);
    assert!(findings(&state).contains(&"‼ Reachable is not known".into()));
}
