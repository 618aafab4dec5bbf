//! A call from west to `web-east` in which all is well.

use std::collections::BTreeMap;

use mesh_api::link::{Direction, Link, LinkCondition, LinkStatus};
use mesh_core::identity::TrustDomain;

use super::{facts::*, probe::*};
use crate::{
    check::state::Program,
    multicluster::{dns::DnsFacts, facts::Door, tests::link_to},
};

pub(super) const NOW: u64 = 1_800_000_000;
const COREFILE: &str =
    ".:53 {\n kubernetes cluster.local {\n }\n import /etc/coredns/custom/*.override\n}\n";

/// A root, and another one.
pub(super) fn bundle(of: &str) -> String {
    ROOTS.with(|roots| roots[of].clone())
}

fn fingerprints(of: &str) -> Vec<String> {
    crate::multicluster::facts::fingerprints(&bundle(of)).expect("a root")
}

thread_local! {
    static ROOTS: BTreeMap<&'static str, String> = ["west", "east", "other"]
        .into_iter()
        .map(|name| {
            let trust_domain: TrustDomain = name.parse().expect("a trust domain");
            (name, mesh_testing::ca::TestRoot::new(trust_domain.as_str()).bundle_pem())
        })
        .collect();
}

fn ready() -> Read<Option<Program>> {
    Ok(Some(Program {
        wanted: 1,
        ready: 1,
        image: String::new(),
    }))
}

pub(super) fn down() -> Read<Option<Program>> {
    Ok(Some(Program {
        wanted: 1,
        ready: 0,
        image: String::new(),
    }))
}

fn own(identity: &str) -> Own {
    Own {
        certificate: Some(Certificate {
            identity: identity.into(),
            not_before: NOW - 3600,
            not_after: NOW + 3600,
        }),
        clock: NOW,
    }
}

fn link(peer: &str, direction: Direction) -> Link {
    let mut link = link_to(peer, direction);
    link.spec.bundle = bundle(peer);
    link.spec.peers.mirror = format!("spiffe://{peer}/ns/mesh-multicluster/sa/mesh-mirror");
    link.metadata.uid = Some(format!("uid-{peer}"));
    let condition = |kind: &str, status: &str, reason: &str| LinkCondition {
        r#type: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: "all is well".into(),
        last_transition_time: String::new(),
    };
    link.status = Some(LinkStatus {
        conditions: vec![
            condition("Reachable", "True", "Connected"),
            condition("Synced", "True", "Synced"),
            condition("Conflicts", "False", "None"),
        ],
        ..LinkStatus::default()
    });
    link
}

fn step(step: &str) -> Step {
    Step {
        step: step.into(),
        ok: true,
        millis: 2,
        reason: String::new(),
        text: String::new(),
    }
}

pub(super) fn endpoint(pod: &str) -> Endpoint {
    Endpoint {
        pod: pod.into(),
        ready: true,
        meshed: true,
        sidecar_ready: true,
        ports: vec![80],
        own: None,
    }
}

pub(super) fn service(exported: Exported) -> Service {
    Service {
        ports: vec![80],
        addresses: vec!["10.43.0.9".into()],
        exported,
        mirror: None,
    }
}

fn mirror() -> Service {
    Service {
        mirror: Some(MirrorOf {
            cluster: "east".into(),
            remote: "shop/web".into(),
            link_uid: "uid-east".into(),
        }),
        ..service(Exported::Never)
    }
}

fn east() -> PeerFacts {
    PeerFacts {
        context: "east".into(),
        cluster: Ok((
            "east".parse().expect("a name"),
            "east".parse().expect("a name"),
        )),
        roots: Ok(fingerprints("east")),
        control: ready(),
        gateway: ready(),
        door: Ok(DoorState::At(Door {
            addresses: vec!["192.0.2.1".into()],
            port: 4143,
        })),
        links: Ok(vec![link("west", Direction::Both)]),
    }
}

pub(super) fn facts() -> Facts {
    Facts {
        context: "west".into(),
        now: NOW,
        cluster: Ok((
            "west".parse().expect("a name"),
            "west".parse().expect("a name"),
        )),
        roots: Ok(fingerprints("west")),
        control: ready(),
        mirror: ready(),
        links: Ok(vec![LinkFacts {
            link: link("east", Direction::Both),
            probe: Ok(LinkProbe {
                own: own("spiffe://west/ns/mesh-multicluster/sa/mesh-mirror"),
                gateways: vec![GatewayProbe {
                    address: "192.0.2.1:4143".into(),
                    steps: ["dial", "tls", "probe", "exports"].map(step).into(),
                }],
            }),
            peer: Peer::Known(Box::new(east())),
        }]),
        call: Some(call()),
    }
}

fn call() -> Call {
    let peer = "east".parse().expect("a name");
    Call {
        unlinked: None,
        target: Target {
            asked: "web.east".into(),
            namespace: "shop".into(),
            name: "web-east".into(),
            alias: Some("east".into()),
        },
        port: Some(80),
        dns: DnsFacts {
            corefile: Some(COREFILE.into()),
            overrides: Some(crate::multicluster::dns::rule(&peer, "cluster.local")),
        },
        client: Ok(Client::Pod {
            name: "shop/client-1".into(),
            meshed: true,
            ready: true,
        }),
        service: Ok(Some(mirror())),
        split: Ok(None),
        routes: Ok(Vec::new()),
        route_backends: Vec::new(),
        backends: vec![Backend {
            namespace: "shop".into(),
            name: "web-east".into(),
            port: Some(80),
            weight: 1,
            service: Ok(Some(mirror())),
            way: Way::Linked {
                cluster: "east".into(),
                remote: "shop/web".into(),
                there: Some(There {
                    service: Ok(Some(service(Exported::All))),
                    endpoints: Ok(vec![endpoint("web-1"), endpoint("web-2")]),
                }),
            },
        }],
        sidecar: Ok(SidecarProbe {
            own: own("spiffe://west/ns/shop/sa/client"),
            kind: "service".into(),
            backends: vec![BackendProbe {
                service: "shop/web-east".into(),
                port: 80,
                known: true,
                endpoints: 2,
                tried: vec![attempt(Outcome::Admitted), attempt(Outcome::Admitted)],
            }],
        }),
    }
}

pub(super) fn attempt(outcome: Outcome) -> Attempt {
    Attempt {
        endpoint: "an endpoint of east".into(),
        outcome,
        reason: "not-allowed".into(),
        text: "why".into(),
        millis: 3,
    }
}
