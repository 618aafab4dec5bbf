use serde_json::{Value, json};

use super::*;

fn object<T: serde::de::DeserializeOwned>(metadata: Value, spec: Value) -> Arc<T> {
    let mut value = json!({"apiVersion": "mesh.dev/v1alpha1", "kind": "x"});
    value["metadata"] = metadata;
    value["metadata"]["namespace"] = "shop".into();
    value["spec"] = spec;
    Arc::new(serde_json::from_value(value).unwrap())
}

fn named<T: serde::de::DeserializeOwned>(name: &str, spec: Value) -> Arc<T> {
    object(json!({"name": name}), spec)
}

fn read(objects: &PolicyObjects) -> Policies {
    policies(objects, &"east".parse().unwrap())
}

fn front(target: Value, required: Value) -> PolicyObjects {
    let spec = json!({"targetRef": target, "requiredAuthenticationRefs": required});
    PolicyObjects {
        servers: vec![named("web", json!({"podSelector": {}, "port": 8080}))],
        authorizations: vec![named("front", spec)],
        ..PolicyObjects::default()
    }
}

fn server() -> Value {
    json!({"group": "mesh.dev", "kind": "Server", "name": "web"})
}

fn mesh_tls() -> Value {
    json!({"group": "mesh.dev", "kind": "MeshTLSAuthentication", "name": "west"})
}

fn rules(policies: &Policies) -> Vec<mesh_core::authorization::Rule> {
    let mut restricted = policies.restricted("shop", &PodFacts::default());
    restricted.remove(&8080).unwrap().rules
}

#[test]
fn a_reference_that_does_not_resolve_admits_nobody() {
    let network = json!({"group": "mesh.dev", "kind": "NetworkAuthentication", "name": "none"});
    let account = json!({"kind": "ServiceAccount", "name": "web"});
    for required in [
        json!([mesh_tls()]),
        json!([network]),
        json!([account, network]),
        json!([account, mesh_tls()]),
        json!([{"kind": "ServiceAccount", "name": "*"}]),
        json!([{"kind": "MeshTLSAuthentication", "name": "west"}]),
        json!([{"group": "mesh.dev", "kind": "Moon", "name": "west"}]),
    ] {
        let policies = read(&front(server(), required.clone()));
        assert!(rules(&policies).is_empty(), "{required}");
        assert_eq!(policies.problems().len(), 1, "{required}");
    }
    let policies = read(&front(server(), json!([account])));
    assert_eq!(rules(&policies).len(), 1);
    assert!(policies.problems().is_empty());
}

#[test]
fn a_target_is_a_server_or_the_own_namespace() {
    let account = json!([{"kind": "ServiceAccount", "name": "web"}]);
    for (target, admitting) in [
        (server(), 1),
        (json!({"kind": "Namespace", "name": "shop"}), 1),
        (json!({"kind": "Namespace", "name": "bank"}), 0),
        (
            json!({"group": "mesh.dev", "kind": "Server", "name": "api"}),
            0,
        ),
        (json!({"kind": "Server", "name": "web"}), 0),
        (
            json!({"group": "apps", "kind": "Deployment", "name": "web"}),
            0,
        ),
    ] {
        let policies = read(&front(target.clone(), account.clone()));
        assert_eq!(rules(&policies).len(), admitting, "{target}");
        assert_eq!(policies.problems().len(), 1 - admitting, "{target}");
    }
}

#[test]
fn a_server_that_is_not_understood_closes_its_port_in_every_pod() {
    let selector = json!({"matchLabels": {"app": "another"}});
    let odd = json!({"matchExpressions": [{"key": "app", "operator": "Like"}]});
    for spec in [
        json!({"podSelector": selector, "port": 8080, "accessPolicy": "perhaps"}),
        json!({"podSelector": selector, "port": 8080, "proxyProtocol": "SMTP"}),
        json!({"podSelector": odd, "port": 8080, "accessPolicy": "all-unauthenticated"}),
    ] {
        let target = json!({"kind": "Namespace", "name": "shop"});
        let mut objects = front(target, json!([]));
        objects.servers = vec![named("web", spec.clone())];
        let policies = read(&objects);
        assert!(rules(&policies).is_empty(), "{spec}");
        assert_eq!(policies.problems().len(), 1, "{spec}");
    }
}

#[test]
fn identities_that_are_not_understood_are_left_out() {
    let identities = json!({
        "identities": ["*", "spiffe://west/ns/shop/sa/*", "spiffe://*/ns/shop/sa/web", "west"],
        "identityRefs": [
            {"kind": "ServiceAccount", "name": "web"},
            {"kind": "Namespace"},
            {"kind": "ServiceAccount", "name": "*"},
            {"kind": "Namespace", "name": "*"},
            {"kind": "ServiceAccount"},
        ],
    });
    let mut objects = front(server(), json!([mesh_tls()]));
    objects.mesh_tls = vec![named("west", identities)];
    let policies = read(&objects);
    let kept = &policies.mesh_tls[&("shop".to_owned(), "west".to_owned())];
    let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
    let expected = [
        "spiffe://east/ns/*/sa/*",
        "spiffe://west/ns/shop/sa/*",
        "spiffe://east/ns/shop/sa/web",
        "spiffe://east/ns/shop/sa/*",
    ];
    assert_eq!(kept, expected);
    assert_eq!(policies.problems().len(), 5, "{:?}", policies.problems());
}

#[test]
fn a_network_whose_exception_is_not_understood_is_left_out() {
    let networks = json!({"networks": [
        {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/99"]},
        {"cidr": "everywhere"},
        {"cidr": "192.0.2.7"},
        {"cidr": "fd00::/8", "except": ["fd01::1"]},
    ]});
    let objects = PolicyObjects {
        networks: vec![named("office", networks)],
        ..PolicyObjects::default()
    };
    let policies = read(&objects);
    let kept = &policies.networks[&("shop".to_owned(), "office".to_owned())];
    let kept: Vec<String> = kept
        .iter()
        .map(|network| network.cidr.to_string())
        .collect();
    assert_eq!(kept, ["192.0.2.7/32", "fd00::/8"]);
    assert_eq!(policies.problems().len(), 2);
}

#[test]
fn of_two_servers_about_a_port_the_older_counts() {
    let server = |name: &str, made: &str, access: &str| {
        let spec = json!({"podSelector": {}, "port": 8080, "accessPolicy": access});
        object(json!({"name": name, "creationTimestamp": made}), spec)
    };
    let objects = PolicyObjects {
        servers: vec![
            server("a", "2026-02-01T00:00:00Z", "all-unauthenticated"),
            server("b", "2026-01-01T00:00:00Z", "deny"),
        ],
        ..PolicyObjects::default()
    };
    assert!(rules(&read(&objects)).is_empty());
}

#[test]
fn a_default_that_is_not_understood_admits_nobody() {
    let namespace = |policy: &str| {
        let annotations = json!({"mesh.dev/default-inbound-policy": policy});
        let metadata = json!({"name": "shop", "annotations": annotations});
        Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
    };
    for (text, expected) in [
        ("cluster-authenticated", DefaultPolicy::ClusterAuthenticated),
        ("Deny", DefaultPolicy::Deny),
        ("open", DefaultPolicy::Deny),
    ] {
        let objects = PolicyObjects {
            namespaces: vec![namespace(text)],
            ..PolicyObjects::default()
        };
        let policies = read(&objects);
        let of = |pod: &PodFacts| policies.default_of("shop", pod);
        assert_eq!(of(&PodFacts::default()), expected);
        let own = PodFacts {
            default: Some(DefaultPolicy::Audit),
            ..PodFacts::default()
        };
        assert_eq!(of(&own), DefaultPolicy::Audit);
        let elsewhere = policies.default_of("bank", &PodFacts::default());
        assert_eq!(elsewhere, DefaultPolicy::AllUnauthenticated);
    }
}

#[test]
fn what_the_kubelet_asks_is_known_by_port_and_path() {
    let pod = json!({
        "metadata": {"annotations": {"mesh.dev/default-inbound-policy": "closed"}},
        "spec": {"containers": [
            {
                "name": "web",
                "ports": [{"name": "http", "containerPort": 8080}],
                "livenessProbe": {"httpGet": {"path": "/live?deep=1", "port": "http"}},
                "readinessProbe": {"httpGet": {"path": "ready", "port": 8081}},
                "startupProbe": {"tcpSocket": {"port": 8082}},
            },
            {
                "name": "api",
                "livenessProbe": {"grpc": {"port": 9000}},
                "readinessProbe": {"httpGet": {"port": "http"}},
            },
            {
                "name": "mesh-proxy",
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 4191}},
            },
        ]},
    });
    let facts = pod_facts(&serde_json::from_value(pod).unwrap());
    let expected = [
        (8080, "/live?deep=1".to_owned()),
        (8081, "/ready".to_owned()),
        (9000, GRPC_HEALTH.to_owned()),
    ];
    let mut probes = facts.probes.clone();
    probes.sort();
    assert_eq!(probes, expected);
    assert_eq!(facts.default, Some(DefaultPolicy::Deny));
    assert_eq!(facts.ports, [("http".to_owned(), 8080)]);
}

/// What an object is told, as `status reason: message` of each condition.
fn told(policies: &Policies, kind: Kind, name: &str) -> Vec<String> {
    let told = &policies.told[&(kind, ("shop".to_owned(), name.to_owned()))];
    let verdicts = told.verdicts().verdicts.into_iter();
    verdicts
        .map(|one| format!("{} {}: {}", one.holds, one.reason, one.message))
        .collect()
}

#[test]
fn an_authorization_is_told_what_it_lacks() {
    let network = json!({"group": "mesh.dev", "kind": "NetworkAuthentication", "name": "office"});
    let moon = json!({"group": "mesh.dev", "kind": "Moon", "name": "west"});
    let other = json!({"group": "mesh.dev", "kind": "Server", "name": "api"});
    for (target, required, expected) in [
        (server(), json!([]), "true Accepted: it is in force"),
        (
            other,
            json!([mesh_tls()]),
            "false TargetNotFound: there is no Server api: it admits nobody; \
             there is no MeshTLSAuthentication shop/west: it admits nobody",
        ),
        (
            server(),
            json!([network]),
            "false AuthenticationNotFound: there is no NetworkAuthentication shop/office: \
             it admits nobody",
        ),
        (
            server(),
            json!([moon]),
            "false Invalid: a required authentication is of an unknown kind: it admits nobody",
        ),
        (
            json!({"kind": "Namespace", "name": "bank"}),
            json!([]),
            "false Invalid: targetRef names another Namespace: it admits nobody",
        ),
    ] {
        let policies = read(&front(target.clone(), required.clone()));
        let told = told(&policies, Kind::AuthorizationPolicy, "front");
        assert_eq!(told, [expected], "{target} {required}");
    }
}

#[test]
fn an_authorization_is_told_that_what_it_refers_to_admits_nobody() {
    let office = json!({"group": "mesh.dev", "kind": "NetworkAuthentication", "name": "office"});
    let west = json!({"identities": ["spiffe://west/ns/shop/sa/web"]});
    let nobody = json!({"identities": ["west"]});
    let nowhere = json!({"networks": [{"cidr": "everywhere"}]});
    let good = json!({"podSelector": {}, "port": 8080});
    let odd = json!({"podSelector": {}, "port": 8080, "proxyProtocol": "SMTP"});
    let portless = json!({"podSelector": {}, "port": 0});
    let invalid = "false TargetInvalid: the Server web is not valid: it admits nobody";
    let no_identity = "false AuthenticationInvalid: MeshTLSAuthentication shop/west has no \
                       usable entry: it admits nobody";
    let no_network = "false AuthenticationInvalid: NetworkAuthentication shop/office has no \
                      usable entry: it admits nobody";
    for (spec, required, mesh_tls, expected) in [
        (&good, mesh_tls(), &west, "true Accepted: it is in force"),
        (&odd, mesh_tls(), &west, invalid),
        (&portless, mesh_tls(), &west, invalid),
        (&good, mesh_tls(), &nobody, no_identity),
        (&good, mesh_tls(), &json!({"identities": []}), no_identity),
        (&good, office, &west, no_network),
    ] {
        let mut objects = front(server(), json!([required]));
        objects.servers = vec![named("web", spec.clone())];
        objects.mesh_tls = vec![named("west", mesh_tls.clone())];
        objects.networks = vec![named("office", nowhere.clone())];
        let policies = read(&objects);
        let told = told(&policies, Kind::AuthorizationPolicy, "front");
        assert_eq!(told, [expected], "{spec} {required} {mesh_tls}");
    }
}

#[test]
fn servers_and_authentications_are_told_what_is_left_out() {
    let objects = PolicyObjects {
        servers: vec![
            named("good", json!({"podSelector": {}, "port": 8080})),
            named(
                "bad",
                json!({"podSelector": {}, "port": 80, "accessPolicy": "perhaps"}),
            ),
            named("none", json!({"podSelector": {}, "port": 0})),
        ],
        mesh_tls: vec![
            named("some", json!({"identities": ["*", "west"]})),
            named("nobody", json!({"identities": ["west"]})),
        ],
        networks: vec![named(
            "office",
            json!({"networks": [{"cidr": "everywhere"}]}),
        )],
        ..PolicyObjects::default()
    };
    let policies = read(&objects);
    let first = |kind, name: &str| told(&policies, kind, name).remove(0);
    let in_force = "true Accepted: it is in force";
    assert_eq!(first(Kind::Server, "good"), in_force);
    for (kind, name) in [
        (Kind::Server, "bad"),
        (Kind::Server, "none"),
        (Kind::MeshTlsAuthentication, "nobody"),
        (Kind::NetworkAuthentication, "office"),
    ] {
        let told = first(kind, name);
        assert!(told.starts_with("false Invalid: "), "{kind} {name}: {told}");
    }
    let some = told(&policies, Kind::MeshTlsAuthentication, "some");
    assert_eq!(some[0], in_force);
    assert!(
        some[1].starts_with("true Invalid: identity \"west\": "),
        "{some:?}"
    );
}
