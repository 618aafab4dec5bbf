use super::*;
use crate::{
    authorization::{Clients, Origin},
    identity::SpiffeId,
};

const OWN: Option<&str> = Some("spiffe://east/ns/shop/sa/client");
const LINKED: Option<&str> = Some("spiffe://west/ns/shop/sa/client");
const OTHER: Option<&str> = Some("spiffe://north/ns/shop/sa/client");
const UNMESHED: Option<&str> = None;

/// Port 8080 is exported to west; 9000 too, and a Server is about it.
fn policy(default: DefaultPolicy, server: Vec<Rule>) -> InboundPolicy {
    let west: TrustDomain = "west".parse().unwrap();
    InboundPolicy {
        exported: [
            ((west.clone(), 8080), "shop/web".into()),
            ((west, 9000), "shop/web".into()),
        ]
        .into(),
        servers: [(9000, server)].into(),
        ..InboundPolicy::of_default(default)
    }
}

fn rule(clients: Clients) -> Rule {
    Rule {
        name: "shop/rule".into(),
        clients,
        from: Origin::Anywhere,
        audit: false,
    }
}

fn check(policy: &InboundPolicy, identity: Option<&str>, port: u16) -> Result<(), Refusal> {
    let identity = identity.map(|id| id.parse::<SpiffeId>().unwrap());
    let client = Client {
        identity: identity.as_ref(),
        address: "10.42.0.9".parse().unwrap(),
    };
    let decision = policy.authorize(&"east".parse().unwrap(), client, port);
    decision.map(drop)
}

#[test]
fn g16_a_foreign_caller_reaches_exported_ports_only() {
    let policy = policy(DefaultPolicy::AllUnauthenticated, Vec::new());
    assert_eq!(check(&policy, OWN, 8080), Ok(()));
    assert_eq!(check(&policy, OWN, 7000), Ok(()));
    assert_eq!(check(&policy, LINKED, 8080), Ok(()));
    assert_eq!(check(&policy, LINKED, 7000), Err(Refusal::NotExported));
    assert_eq!(check(&policy, OTHER, 8080), Err(Refusal::NotExported));
    for port in [4140, 4143, 4190, 4191] {
        for client in [OWN, LINKED, UNMESHED] {
            assert_eq!(check(&policy, client, port), Err(Refusal::ProxyPort));
        }
    }
}

#[test]
fn g16_an_exported_port_that_is_restricted_needs_a_rule_that_names_the_caller() {
    let refused = Err(Refusal::NotAuthorized);
    for default in [
        DefaultPolicy::Deny,
        DefaultPolicy::ClusterAuthenticated,
        DefaultPolicy::ClusterUnauthenticated,
    ] {
        let policy = policy(default, Vec::new());
        assert_eq!(check(&policy, LINKED, 8080), refused, "{default}");
    }
    let named = |id: &str| rule(Clients::Identities(vec![id.parse().unwrap()]));
    for (server, expected) in [
        (vec![], refused),
        (vec![named("spiffe://east/*")], refused),
        (vec![named("spiffe://west/ns/shop/sa/admin")], refused),
        (vec![named("spiffe://west/ns/shop/sa/*")], Ok(())),
    ] {
        let policy = policy(DefaultPolicy::AllUnauthenticated, server);
        assert_eq!(check(&policy, LINKED, 9000), expected);
        assert_eq!(check(&policy, OTHER, 9000), Err(Refusal::NotExported));
    }
}

#[test]
fn a_rule_for_a_port_replaces_the_default() {
    let policy = policy(
        DefaultPolicy::AllUnauthenticated,
        vec![rule(Clients::Authenticated)],
    );
    assert_eq!(check(&policy, UNMESHED, 8080), Ok(()));
    assert_eq!(check(&policy, UNMESHED, 9000), Err(Refusal::NotAuthorized));
    assert_eq!(check(&policy, OWN, 9000), Ok(()));
}

#[test]
fn c3_without_a_policy_nobody_is_admitted() {
    for policy in [
        InboundPolicy::default(),
        InboundPolicy::of_default(DefaultPolicy::Deny),
    ] {
        for (client, expected) in [
            (OWN, Refusal::NotAuthorized),
            (UNMESHED, Refusal::NotAuthorized),
            (LINKED, Refusal::NotExported),
        ] {
            assert_eq!(check(&policy, client, 8080), Err(expected));
        }
    }
}

#[test]
fn health_may_be_asked_by_whoever_has_no_identity() {
    let policy = InboundPolicy {
        probes: [(8080, "/healthz?full".into()), (9000, GRPC_HEALTH.into())].into(),
        ..policy(DefaultPolicy::Deny, Vec::new())
    };
    let ask = |identity: Option<&str>, port, method, path| {
        let identity = identity.map(|id| id.parse::<SpiffeId>().unwrap());
        let client = Client {
            identity: identity.as_ref(),
            address: "10.42.0.1".parse().unwrap(),
        };
        let local = "east".parse().unwrap();
        let decision = policy.authorize_request(&local, client, port, method, path);
        decision == Ok(Admission::Probe)
    };
    assert!(ask(UNMESHED, 8080, "GET", "/healthz?full"));
    assert!(ask(UNMESHED, 9000, "POST", GRPC_HEALTH));
    for (identity, port, method, path) in [
        (LINKED, 8080, "GET", "/healthz?full"),
        (OWN, 8080, "GET", "/healthz?full"),
        (UNMESHED, 8080, "POST", "/healthz?full"),
        (UNMESHED, 8080, "GET", "/healthz"),
        (UNMESHED, 8080, "GET", "/healthz/../admin"),
        (UNMESHED, 7000, "GET", "/healthz?full"),
        (UNMESHED, 4191, "GET", "/healthz?full"),
        (UNMESHED, 9000, "GET", GRPC_HEALTH),
    ] {
        assert!(
            !ask(identity, port, method, path),
            "{identity:?} {port} {method} {path}"
        );
    }
    assert!(policy.is_probed(8080) && !policy.is_probed(7000));
}

/// A text that many readers take for the same path, or for one below it.
fn variant(path: &str, next: &mut impl FnMut(usize) -> usize) -> String {
    const BETWEEN: [&str; 14] = [
        "/", "//", "/./", "/../", "/x/../", "%2f", "%2F", "%5c", "\\", ";", ";a=b", "%00", ".", "",
    ];
    let mut text = String::new();
    for character in path.chars() {
        match next(24) {
            0 => text.push_str(&format!("%{:02x}", u32::from(character))),
            1 => text.push_str(&format!("%{:02X}", u32::from(character))),
            2 => text.push_str(&format!("%25{:02x}", u32::from(character))),
            3 => text.push(character.to_ascii_uppercase()),
            4 => text.push_str(BETWEEN[next(BETWEEN.len())]),
            5 if character == '/' => text.push_str(BETWEEN[next(BETWEEN.len())]),
            _ => text.push(character),
        }
    }
    if next(4) == 0 {
        const BEHIND: [&str; 8] = [
            "/",
            "/..",
            "/../admin",
            ";",
            "#",
            "%20",
            "&",
            "/%2e%2e/admin",
        ];
        text.push_str(BEHIND[next(BEHIND.len())]);
    }
    text
}

/// Paths are in the way of nobody but for one purpose: a client without an
/// identity may ask for the pod's health. However it spells something else, or
/// that, no other path is let in to it.
#[test]
fn h5_no_spelling_of_a_path_gets_past_policy() {
    const HEALTH: &str = "/healthz/live?full";
    const TRIES: usize = 1_000_000;
    let policy = InboundPolicy {
        probes: [(8080, HEALTH.into()), (8080, GRPC_HEALTH.into())].into(),
        ..InboundPolicy::of_default(DefaultPolicy::Deny)
    };
    let (local, client) = (
        "east".parse().unwrap(),
        Client {
            identity: None,
            address: "10.42.0.9".parse().unwrap(),
        },
    );
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % end
    };
    let (mut admitted, mut refused) = (0, 0);
    for _ in 0..TRIES {
        let (path, method) = match next(3) {
            0 => (GRPC_HEALTH, "POST"),
            _ => (HEALTH, "GET"),
        };
        let asked = variant(path, &mut next);
        match policy.authorize_request(&local, client, 8080, method, &asked) {
            Ok(admission) => {
                assert_eq!((admission, &*asked), (Admission::Probe, path));
                admitted += 1;
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::NotAuthorized);
                assert_ne!(asked, path);
                refused += 1;
            }
        }
    }
    // Both happen, or nothing was tried.
    assert!(
        admitted > 100 && refused > TRIES / 2,
        "{admitted} {refused}"
    );
}
