//! Broken situations, each with the hop that has to be named.

use mesh_api::link::{Direction, Link};

use super::{
    Place, State, Verdict, diagnose,
    facts::*,
    first_broken,
    fixtures::{NOW, attempt, bundle, down, endpoint, facts, service},
    probe::*,
    verdict,
};

fn call(facts: &mut Facts) -> &mut Call {
    facts.call.as_mut().unwrap()
}

fn found(facts: &mut Facts) -> &mut LinkFacts {
    &mut facts.links.as_mut().unwrap()[0]
}

fn peer(facts: &mut Facts) -> &mut PeerFacts {
    match &mut found(facts).peer {
        Peer::Known(peer) => peer,
        _ => panic!("it is known"),
    }
}

fn back(facts: &mut Facts) -> &mut Link {
    &mut peer(facts).links.as_mut().unwrap()[0]
}

fn there(facts: &mut Facts) -> &mut There {
    match &mut call(facts).backends[0].way {
        Way::Linked {
            there: Some(there), ..
        } => there,
        _ => panic!("it is linked"),
    }
}

fn exported(facts: &mut Facts, exported: Exported) {
    there(facts).service = Ok(Some(service(exported)));
}

fn pods(facts: &mut Facts, change: impl Fn(&mut Endpoint)) {
    for endpoint in there(facts).endpoints.as_mut().unwrap() {
        change(endpoint);
    }
}

fn sidecar(facts: &mut Facts) -> &mut SidecarProbe {
    call(facts).sidecar.as_mut().unwrap()
}

fn tried(facts: &mut Facts, outcome: Outcome) {
    sidecar(facts).backends[0].tried = vec![attempt(Outcome::Admitted), attempt(outcome)];
}

/// The gateway's only address fails at `step`.
fn gateway_fails(facts: &mut Facts, name: &str, reason: &str) {
    let probe = found(facts).probe.as_mut().unwrap();
    let steps = &mut probe.gateways[0].steps;
    let at = steps.iter().position(|step| step.step == name).unwrap();
    steps.truncate(at + 1);
    steps[at].ok = false;
    steps[at].reason = reason.into();
    tried(facts, Outcome::Failed);
}

fn condition(facts: &mut Facts, kind: &str, status: &str, reason: &str, message: &str) {
    let status_of = found(facts).link.status.as_mut().unwrap();
    let condition = status_of.conditions.iter_mut().find(|c| c.r#type == kind);
    let condition = condition.unwrap();
    condition.status = status.into();
    condition.reason = reason.into();
    condition.message = message.into();
}

/// mesh-mirror has removed the Service, or never made it.
fn no_mirror_service(facts: &mut Facts) {
    call(facts).service = Ok(None);
    call(facts).backends[0].service = Ok(None);
    call(facts).sidecar = Err("there is no Service to ask its sidecar about".into());
}

fn split(facts: &mut Facts) {
    call(facts).split = Ok(Some(Split {
        name: "web".into(),
        has_primary: false,
        unseen: 0,
    }));
}

fn local_backend(name: &str, service: Option<Service>) -> Backend {
    Backend {
        namespace: "shop".into(),
        name: name.into(),
        port: Some(80),
        weight: 1,
        service: Ok(service),
        way: Way::Local(Ok(Vec::new())),
    }
}

fn no_context(facts: &mut Facts) {
    found(facts).peer = Peer::NoContext;
    let Way::Linked { there, .. } = &mut call(facts).backends[0].way else {
        panic!("it is linked");
    };
    *there = None;
}

type Break = fn(&mut Facts);

/// What is broken, and the hop that has to be named first.
const BROKEN: &[(&str, Place, Break)] = &[
    ("the client does not exist", Place::Client, |f| {
        call(f).client = Ok(Client::Missing("shop/x".into()));
    }),
    ("the client has no sidecar", Place::Client, |f| {
        call(f).client = Ok(Client::Pod {
            name: "shop/x".into(),
            meshed: false,
            ready: false,
        });
    }),
    ("the client's sidecar is not ready", Place::Client, |f| {
        call(f).client = Ok(Client::Pod {
            name: "shop/x".into(),
            meshed: true,
            ready: false,
        });
    }),
    ("the client's certificate has expired", Place::Client, |f| {
        sidecar(f).own.certificate.as_mut().unwrap().not_after = NOW - 1;
    }),
    (
        "the client's certificate is not valid yet",
        Place::Client,
        |f| {
            sidecar(f).own.clock = NOW - 7200;
        },
    ),
    ("the client has no certificate", Place::Client, |f| {
        sidecar(f).own.certificate = None;
    }),
    ("the client's clock is off", Place::Client, |f| {
        sidecar(f).own.clock = NOW + 1800;
    }),
    ("the DNS rule is missing", Place::Name, |f| {
        call(f).dns.overrides = None;
    }),
    ("CoreDNS does not import overrides", Place::Name, |f| {
        call(f).dns.corefile = Some(". {\n kubernetes cluster.local {\n }\n}".into());
    }),
    ("mesh-control is down here", Place::Control, |f| {
        f.control = down();
    }),
    ("mesh-control is not installed", Place::Control, |f| {
        f.control = Ok(None);
    }),
    (
        "the mirror Service is missing, and nothing says why",
        Place::Service,
        no_mirror_service,
    ),
    (
        "there is no Link, so there is no mirror",
        Place::Service,
        |f| {
            no_mirror_service(f);
            f.links = Ok(Vec::new());
            call(f).unlinked = Some("east".into());
            call(f).backends = vec![local_backend("web-east", None)];
        },
    ),
    ("the mirror's name is taken", Place::Service, |f| {
        call(f).service = Ok(Some(service(Exported::No)));
    }),
    ("the mirror is another Link's", Place::Service, |f| {
        let Ok(Some(Service {
            mirror: Some(mirror),
            ..
        })) = &mut call(f).service
        else {
            panic!("it is a mirror");
        };
        mirror.link_uid = "uid-of-another".into();
    }),
    (
        "the mirror is stale, and nothing says why",
        Place::Service,
        |f| {
            condition(f, "Synced", "False", "Stale", "lost");
        },
    ),
    ("the port is not declared", Place::Service, |f| {
        call(f).port = Some(81);
    }),
    ("the sidecar knows no such port", Place::Service, |f| {
        sidecar(f).kind = "undefined-port".into();
    }),
    ("the Service is missing", Place::Service, |f| {
        call(f).target.alias = None;
        call(f).service = Ok(None);
        call(f).backends = vec![local_backend("web", None)];
    }),
    ("the split names what is no Service", Place::Route, |f| {
        split(f);
        call(f).backends.push(local_backend("web-wset", None));
    }),
    ("the split has no weight", Place::Route, |f| {
        split(f);
        call(f).backends[0].weight = 0;
    }),
    ("there is no Link", Place::Link, |f| {
        f.links = Ok(Vec::new());
        no_mirror_service(f);
    }),
    ("the Link's prefix is none", Place::Link, |f| {
        found(f).link.spec.prefix = "10.0.0.0/8".into();
    }),
    ("the Link's bundle is damaged", Place::Link, |f| {
        found(f).link.spec.bundle = "PEM".into();
    }),
    ("the Link has other roots than the peer", Place::Link, |f| {
        found(f).link.spec.bundle = bundle("other");
        gateway_fails(f, "tls", "unknown_issuer");
    }),
    ("the same, and the peer cannot be asked", Place::Link, |f| {
        no_context(f);
        gateway_fails(f, "tls", "unknown_issuer");
    }),
    (
        "other roots of the same name, and the peer cannot be asked",
        Place::Link,
        |f| {
            no_context(f);
            gateway_fails(f, "tls", "signature");
        },
    ),
    ("the Link back has other roots than we", Place::Link, |f| {
        back(f).spec.bundle = bundle("other");
        gateway_fails(f, "probe", "refused_by_peer");
    }),
    ("the trust domains are equal", Place::Link, |f| {
        f.cluster = Ok(("west".parse().unwrap(), "east".parse().unwrap()));
    }),
    ("the peer has another trust domain now", Place::Link, |f| {
        peer(f).cluster = Ok(("east".parse().unwrap(), "orient".parse().unwrap()));
    }),
    ("the Link does not import", Place::Link, |f| {
        found(f).link.spec.direction = Direction::Export;
    }),
    ("the peer has no Link back", Place::Link, |f| {
        peer(f).links = Ok(Vec::new());
        gateway_fails(f, "probe", "refused_by_peer");
    }),
    ("the same, and the peer cannot be asked", Place::Link, |f| {
        no_context(f);
        gateway_fails(f, "probe", "refused_by_peer");
    }),
    ("the Link back does not export", Place::Link, |f| {
        back(f).spec.direction = Direction::Import;
    }),
    ("mesh-mirror is down", Place::Mirror, |f| f.mirror = down()),
    (
        "the peer does not admit our mesh-mirror",
        Place::Mirror,
        |f| {
            back(f).spec.peers.mirror = "spiffe://west/ns/other/sa/mirror".into();
        },
    ),
    (
        "the same, and the peer cannot be asked",
        Place::Mirror,
        |f| {
            no_context(f);
            condition(
                f,
                "Reachable",
                "False",
                "FeedLost",
                "lost: the peer does not export to this cluster",
            );
        },
    ),
    (
        "mesh-mirror's certificate has expired",
        Place::Mirror,
        |f| {
            let own = &mut found(f).probe.as_mut().unwrap().own;
            own.certificate.as_mut().unwrap().not_after = NOW - 1;
        },
    ),
    ("another cluster answers", Place::Mirror, |f| {
        condition(f, "Synced", "False", "AnotherCluster", "another");
    }),
    (
        "the feed is lost, and nothing says why",
        Place::Mirror,
        |f| {
            condition(f, "Reachable", "False", "FeedLost", "lost");
        },
    ),
    ("the gateway has no ready replica", Place::Gateway, |f| {
        peer(f).gateway = down();
        condition(f, "Reachable", "False", "FeedLost", "lost");
        condition(f, "Synced", "False", "Stale", "lost");
        gateway_fails(f, "dial", "refused");
    }),
    (
        "the gateway's Service has no address",
        Place::Gateway,
        |f| {
            peer(f).door = Ok(DoorState::NoAddress);
        },
    ),
    ("the gateway has no Service", Place::Gateway, |f| {
        peer(f).door = Ok(DoorState::NoService);
    }),
    ("the Link leads to another address", Place::Gateway, |f| {
        found(f).link.spec.gateway.addresses = vec!["192.0.2.9".into()];
        gateway_fails(f, "dial", "timeout");
    }),
    ("the gateway's port is closed", Place::Gateway, |f| {
        gateway_fails(f, "dial", "refused");
    }),
    ("the gateway is black-holed", Place::Gateway, |f| {
        gateway_fails(f, "dial", "timeout");
    }),
    (
        "the gateway's certificate has expired",
        Place::Gateway,
        |f| {
            gateway_fails(f, "tls", "expired");
        },
    ),
    ("the gateway's clock is off", Place::Gateway, |f| {
        gateway_fails(f, "tls", "not_yet_valid");
    }),
    ("mesh-control is down there", Place::PeerControl, |f| {
        peer(f).control = down();
        condition(f, "Reachable", "False", "FeedLost", "lost");
    }),
    (
        "the same, and the peer cannot be asked",
        Place::PeerControl,
        |f| {
            no_context(f);
            let step = &mut found(f).probe.as_mut().unwrap().gateways[0].steps[3];
            step.ok = false;
        },
    ),
    ("the Service is not there", Place::Export, |f| {
        there(f).service = Ok(None);
        no_mirror_service(f);
    }),
    ("it is exported no more", Place::Export, |f| {
        exported(f, Exported::No);
        no_mirror_service(f);
    }),
    (
        "the same, and the peer cannot be asked",
        Place::Export,
        |f| {
            no_context(f);
            no_mirror_service(f);
        },
    ),
    (
        "it is exported no more, and its removal is held back",
        Place::Export,
        |f| {
            exported(f, Exported::No);
            condition(f, "Synced", "False", "RemovalHeldBack", "held back");
        },
    ),
    ("it is exported to others only", Place::Export, |f| {
        exported(f, Exported::To(vec!["north".into()]));
        no_mirror_service(f);
    }),
    (
        "the peer's Service does not have the port",
        Place::Export,
        |f| {
            there(f).service = Ok(Some(Service {
                ports: vec![81],
                ..service(Exported::All)
            }));
        },
    ),
    (
        "the mirror's name is taken, so it is not made",
        Place::Export,
        |f| {
            no_mirror_service(f);
            condition(
                f,
                "Conflicts",
                "True",
                "NameTaken",
                "These names are taken: shop/web-east (a Service).",
            );
        },
    ),
    ("the mirror is refused here", Place::Export, |f| {
        no_mirror_service(f);
        condition(
            f,
            "Synced",
            "False",
            "Incomplete",
            "1 is not mirrored: shop/web (no namespace).",
        );
    }),
    (
        "the Link's namespaces leave its namespace out",
        Place::Export,
        |f| {
            no_mirror_service(f);
            found(f).link.spec.namespaces = vec!["other".into()];
        },
    ),
    ("there is no endpoint", Place::Endpoints, |f| {
        there(f).endpoints = Ok(Vec::new());
        sidecar(f).backends[0].endpoints = 0;
        sidecar(f).backends[0].tried.clear();
    }),
    (
        "the same, and the peer cannot be asked",
        Place::Endpoints,
        |f| {
            no_context(f);
            sidecar(f).backends[0].endpoints = 0;
            sidecar(f).backends[0].tried.clear();
        },
    ),
    ("its pods have no sidecar", Place::Endpoints, |f| {
        pods(f, |pod| pod.meshed = false);
    }),
    ("its pods are not ready", Place::Endpoints, |f| {
        pods(f, |pod| pod.ready = false);
    }),
    ("its sidecars are not ready", Place::Endpoints, |f| {
        pods(f, |pod| pod.sidecar_ready = false);
    }),
    (
        "the clock of a sidecar there is off",
        Place::Endpoints,
        |f| {
            pods(f, |pod| pod.own = Some(own_at(NOW + 3600)));
        },
    ),
    ("no pod serves the port", Place::Endpoints, |f| {
        pods(f, |pod| pod.ports = vec![443]);
    }),
    (
        "the sidecar is told of no endpoint",
        Place::Endpoints,
        |f| {
            sidecar(f).backends[0].endpoints = 0;
            sidecar(f).backends[0].tried.clear();
        },
    ),
    (
        "an endpoint cannot be connected to",
        Place::Connection,
        |f| tried(f, Outcome::Failed),
    ),
    ("policy denies", Place::Policy, |f| {
        tried(f, Outcome::Refused);
    }),
];

fn own_at(clock: u64) -> Own {
    Own {
        certificate: None,
        clock,
    }
}

#[test]
fn t7_pods_that_are_not_ready_because_their_clock_is_off_are_said_to_be() {
    let mut facts = facts();
    pods(&mut facts, |pod| {
        pod.ready = false;
        pod.sidecar_ready = false;
        pod.own = Some(own_at(NOW + 25 * 3600));
    });
    let hops = diagnose(&facts);
    let first = &hops[first_broken(&hops).unwrap()];
    let said = "the clock of the sidecar of web-1 is 25 h ahead of this machine's";
    assert_eq!((first.place, first.text.as_str()), (Place::Endpoints, said));
}

#[test]
fn every_broken_situation_names_its_hop() {
    assert!(BROKEN.len() >= 25);
    for (situation, place, break_it) in BROKEN {
        let mut facts = facts();
        break_it(&mut facts);
        let hops = diagnose(&facts);
        let first = first_broken(&hops).map(|at| &hops[at]);
        assert_eq!(
            first.map(|hop| hop.place),
            Some(*place),
            "{situation}: {hops:#?}"
        );
        assert!(!first.unwrap().text.is_empty(), "{situation}");
        assert_eq!(verdict(&hops), Verdict::Broken, "{situation}");
    }
}

#[test]
fn a_call_that_works_is_green_with_and_without_the_peers_context() {
    let mut facts = facts();
    let hops = diagnose(&facts);
    assert_eq!(verdict(&hops), Verdict::Good, "{hops:#?}");
    no_context(&mut facts);
    let hops = diagnose(&facts);
    assert_eq!(verdict(&hops), Verdict::Good, "{hops:#?}");
}

#[test]
fn links_that_work_are_green_without_a_call() {
    let mut facts = facts();
    facts.call = None;
    assert_eq!(verdict(&diagnose(&facts)), Verdict::Good);
    facts.links = Ok(Vec::new());
    assert_eq!(verdict(&diagnose(&facts)), Verdict::Broken);
}

/// What cannot be read, and the hop that must not be green then.
const UNREAD: &[(Place, Break)] = &[
    (Place::Client, |f| call(f).client = Err("no".into())),
    (Place::Client, |f| {
        call(f).client = Ok(Client::None("shop".into()));
    }),
    (Place::Client, |f| call(f).sidecar = Err("no".into())),
    (Place::Connection, |f| call(f).sidecar = Err("no".into())),
    (Place::Policy, |f| call(f).sidecar = Err("no".into())),
    (Place::Policy, |f| tried(f, Outcome::Unknown)),
    (Place::Name, |f| {
        call(f).dns = crate::multicluster::dns::DnsFacts::default();
    }),
    (Place::Control, |f| f.control = Err("no".into())),
    (Place::Service, |f| call(f).service = Err("no".into())),
    (Place::Endpoints, |f| {
        let mut web = local_backend("web", None);
        web.service = Err("no".into());
        call(f).backends.push(web);
    }),
    (Place::Route, |f| call(f).split = Err("no".into())),
    (Place::Route, |f| call(f).routes = Err("no".into())),
    (Place::Link, |f| f.links = Err("no".into())),
    (Place::Link, |f| f.roots = Err("no".into())),
    (Place::Link, |f| f.cluster = Err("no".into())),
    (Place::Link, |f| peer(f).links = Err("no".into())),
    (Place::Mirror, |f| f.mirror = Err("no".into())),
    (Place::Mirror, |f| found(f).link.status = None),
    (Place::Gateway, |f| found(f).probe = Err("no".into())),
    (Place::PeerControl, |f| found(f).probe = Err("no".into())),
    (Place::Export, |f| there(f).service = Err("no".into())),
    (Place::Endpoints, |f| there(f).endpoints = Err("no".into())),
];

#[test]
fn c9_what_could_not_be_read_is_never_green() {
    for (at, (place, break_it)) in UNREAD.iter().enumerate() {
        let mut facts = facts();
        break_it(&mut facts);
        let hops = diagnose(&facts);
        let unknown = |hop: &&super::Hop| hop.place == *place && hop.state == State::Unknown;
        assert!(
            hops.iter().any(|hop| unknown(&hop)),
            "{at} {place:?}: {hops:#?}"
        );
        assert_ne!(verdict(&hops), Verdict::Good, "{at} {place:?}");
    }
}

#[test]
fn without_any_probe_and_peer_nothing_is_green_that_was_not_seen() {
    let mut facts = facts();
    no_context(&mut facts);
    found(&mut facts).probe = Err("no".into());
    call(&mut facts).sidecar = Err("no".into());
    let hops = diagnose(&facts);
    assert_eq!(verdict(&hops), Verdict::Unknown);
    for place in [Place::Link, Place::Gateway, Place::Endpoints, Place::Policy] {
        let hop = hops.iter().find(|hop| hop.place == place).unwrap();
        assert_eq!(hop.state, State::Unknown, "{place:?}");
    }
}

#[test]
fn a_mirror_that_is_missing_follows_from_what_is_broken_behind_it() {
    let mut facts = facts();
    exported(&mut facts, Exported::No);
    no_mirror_service(&mut facts);
    let hops = diagnose(&facts);
    let service = hops.iter().find(|hop| hop.place == Place::Service).unwrap();
    assert_eq!(service.state, State::Follows);
    let export = &hops[first_broken(&hops).unwrap()];
    assert!(
        export
            .advice
            .contains("kubectl --context east -n shop label service web")
    );
}

#[test]
fn backends_of_a_split_that_were_not_looked_at_are_unknown() {
    let mut facts = facts();
    split(&mut facts);
    for (unseen, weight, state) in [
        (0, 1, State::Good),
        (2, 1, State::Unknown),
        (0, 0, State::Broken),
        (2, 0, State::Unknown),
    ] {
        let call = call(&mut facts);
        call.split.as_mut().unwrap().as_mut().unwrap().unseen = unseen;
        call.backends[0].weight = weight;
        let hops = diagnose(&facts);
        let route = hops.iter().find(|hop| hop.place == Place::Route).unwrap();
        assert_eq!(route.state, state, "{unseen} {weight}: {}", route.text);
    }
}

#[test]
fn every_backend_of_a_split_is_looked_at() {
    let mut facts = facts();
    split(&mut facts);
    let mut web = local_backend("web", Some(service(Exported::No)));
    web.way = Way::Local(Ok(vec![endpoint("web-1")]));
    call(&mut facts).backends.push(web);
    sidecar(&mut facts).backends.push(BackendProbe {
        service: "shop/web".into(),
        port: 80,
        known: true,
        endpoints: 1,
        tried: vec![attempt(Outcome::Unmeshed)],
    });
    let hops = diagnose(&facts);
    assert_eq!(verdict(&hops), Verdict::Good, "{hops:#?}");
    let about = hops.iter().filter(|hop| hop.place == Place::Endpoints);
    assert_eq!(
        about.map(|hop| hop.about.as_str()).collect::<Vec<_>>(),
        ["web-east", "web"]
    );
}

#[test]
fn a_probe_page_of_a_newer_program_is_read_as_far_as_it_is_known() {
    let page = r#"{"clock": 5, "certificate": null, "new": 1, "kind": "service", "backends":
        [{"service": "shop/web", "tried": [{"endpoint": "a", "outcome": "maybe"}]}]}"#;
    let page: SidecarProbe = serde_json::from_str(page).unwrap();
    let backend = page.backend("shop", "web", Some(80)).unwrap();
    assert_eq!(backend.tried[0].outcome, Outcome::Unknown);
    assert!(!backend.known);
}
