use std::sync::Arc;

use mesh_core::destination::Protocol;
use serde_json::{Value, json};

use super::*;
use crate::{
    fixtures::snapshot,
    snapshot::{Objects, read},
};

/// What is said of a route with this spec, as `Type=status reason: message`.
fn said(spec: Value) -> Vec<Vec<String>> {
    let objects = objects(vec![route("web", spec)]);
    of(&objects, "web")
}

fn of(objects: &Objects, route: &str) -> Vec<Vec<String>> {
    beside(snapshot(), objects, route)
}

/// The same, if these are the Services.
fn beside(services: Snapshot, objects: &Objects, route: &str) -> Vec<Vec<String>> {
    let (cluster, domain) = ("east".parse().unwrap(), "east".parse().unwrap());
    let read = read(objects, &cluster, &domain, &[]);
    let snapshot = Snapshot {
        route_objects: read.route_objects,
        ..services
    };
    let name = ("shop".to_owned(), route.to_owned());
    let parents = verdicts(&snapshot, &snapshot.route_objects[&name]);
    let lines = parents.into_iter().map(|(_, verdicts)| lines(verdicts));
    lines.collect()
}

fn lines(verdicts: Verdicts) -> Vec<String> {
    assert_eq!(verdicts.generation, Some(7));
    let lines = verdicts.verdicts.into_iter().map(|verdict| {
        let (kind, holds, reason) = (verdict.kind, verdict.holds, verdict.reason);
        format!("{kind}={holds} {reason}: {}", verdict.message)
    });
    lines.collect()
}

fn objects(routes: Vec<Value>) -> Objects {
    let routes = routes
        .into_iter()
        .map(|route| serde_json::from_value(route).unwrap());
    Objects {
        services: Vec::new(),
        slices: Vec::new(),
        pods: Vec::new(),
        splits: Vec::new(),
        routes: routes.map(Arc::new).collect(),
        tls_routes: Vec::new(),
        links: Vec::new(),
        policies: None,
    }
}

fn route(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "generation": 7}, "spec": spec})
}

fn web() -> Value {
    json!({"group": "", "kind": "Service", "name": "web"})
}

/// What is said of a route of `web` with these rules.
fn of_rules(rules: Value) -> Vec<String> {
    said(json!({"parentRefs": [web()], "rules": rules})).remove(0)
}

const FOLLOWED: &str = "Accepted=true Accepted: Clients of this Service follow the route.";
const ALL_EXIST: &str = "ResolvedRefs=true ResolvedRefs: All backends exist.";

#[test]
fn a_route_that_is_all_right_is_told_so() {
    assert_eq!(of_rules(json!([{}])), [FOLLOWED, ALL_EXIST]);
    let backends = json!([{"name": "web", "port": 80}, {"name": "web-north", "port": 80}]);
    let rules = json!([{"backendRefs": backends}]);
    assert_eq!(of_rules(rules), [FOLLOWED, ALL_EXIST]);
}

/// What is said of a TLSRoute of `web`'s port 80 with this spec.
fn of_tls(mut spec: Value, protocol: Protocol) -> Vec<String> {
    spec["parentRefs"] = json!([{"group": "", "kind": "Service", "name": "web", "port": 80}]);
    let route = serde_json::from_value(route("web", spec)).unwrap();
    let objects = Objects {
        tls_routes: vec![Arc::new(route)],
        ..objects(Vec::new())
    };
    let (cluster, domain) = ("east".parse().unwrap(), "east".parse().unwrap());
    let read = read(&objects, &cluster, &domain, &[]);
    let mut snapshot = Snapshot {
        tls_route_objects: read.tls_route_objects,
        ..snapshot()
    };
    let name = ("shop".to_owned(), "web".to_owned());
    snapshot.services.get_mut(&name).unwrap().ports[0].protocol = protocol;
    let (_, verdicts) = verdicts(&snapshot, &snapshot.tls_route_objects[&name]).remove(0);
    lines(verdicts)
}

#[test]
fn a_tls_route_is_told_what_it_is_for_and_what_not() {
    let spec = |names: &[&str], backend: &str| {
        let backends = json!([{"name": backend, "port": 80}]);
        json!({"hostnames": names, "rules": [{"backendRefs": backends}]})
    };
    for protocol in [Protocol::Detect, Protocol::Opaque, Protocol::Http1] {
        let said = of_tls(spec(&["a.example"], "web"), protocol);
        assert_eq!(said, [FOLLOWED, ALL_EXIST], "{protocol:?}");
    }
    let said = of_tls(spec(&["a.example"], "web"), Protocol::Http2);
    let refused = "Accepted=false UnsupportedValue: Port 80 of Service shop/web is declared \
                   HTTP/2: TLS is not looked for there.";
    assert_eq!(said, [refused, ALL_EXIST]);
    let said = of_tls(spec(&["A.example"], "nowhere"), Protocol::Opaque);
    let refused = "Accepted=false UnsupportedValue: Dropped Rule 1: the route names no host for \
                   which it is.";
    let missing = "ResolvedRefs=false BackendNotFound: There is no Service shop/nowhere.";
    assert_eq!(said, [refused, missing]);
    let said = of_tls(spec(&["a.example", "A.example"], "web"), Protocol::Detect);
    let partly =
        format!("{FOLLOWED} Rule 1: the host name \"A.example\" is malformed and has no effect.");
    assert_eq!(said, [partly.as_str(), ALL_EXIST]);
}

#[test]
fn each_service_among_the_parents_is_answered_for_itself() {
    let service = |more: Value| {
        let mut parent = web();
        parent
            .as_object_mut()
            .unwrap()
            .append(&mut more.as_object().unwrap().clone());
        parent
    };
    let parents = [
        json!({"name": "gateway"}),
        service(json!({"port": 80})),
        service(json!({"namespace": "shop"})),
        service(json!({"port": 81})),
        service(json!({"name": "nowhere"})),
        service(json!({"namespace": "bank"})),
        service(json!({"sectionName": "http"})),
    ];
    let said = said(json!({"parentRefs": parents, "rules": [{}]}));
    let accepted: Vec<_> = said.iter().map(|lines| lines[0].as_str()).collect();
    let expected = [
        FOLLOWED,
        FOLLOWED,
        "Accepted=false NoMatchingParent: Service shop/web has no TCP port 81.",
        "Accepted=false NoMatchingParent: There is no Service shop/nowhere.",
        "Accepted=false UnsupportedValue: Routes count for Services of their own namespace \
         only, here shop.",
        "Accepted=false UnsupportedValue: sectionName is not supported: name the port by its \
         number.",
    ];
    assert_eq!(accepted, expected);
}

#[test]
fn a_service_whose_clients_follow_no_routes_is_named() {
    let port_of = |port: u16, protocol: Protocol| ServicePort {
        name: String::new(),
        port,
        protocol,
        app_protocol: String::new(),
    };
    let db = || vec![port_of(80, Protocol::Opaque), port_of(81, Protocol::Opaque)];
    let mixed = || vec![port_of(80, Protocol::Opaque), port_of(81, Protocol::Detect)];
    let refused = |text: &str| format!("Accepted=false {text}");
    let port_80 = "UnsupportedValue: Port 80 of Service shop/web is opaque: routes are for HTTP, \
                   and for ports where it is looked for.";
    let all = "UnsupportedValue: All ports of Service shop/web are opaque: routes are for HTTP, \
               and for ports where it is looked for.";
    let headless = "UnsupportedValue: Service shop/web is headless: its clients call pods, and \
                    routes lead calls to an address of the Service.";
    let none = "NoMatchingParent: Service shop/web has no TCP port.";
    let wrong = "NoMatchingParent: Service shop/web has no TCP port 82.";
    for (ports, is_headless, port, expected) in [
        (mixed(), false, Some(81), FOLLOWED.to_owned()),
        (mixed(), false, None, FOLLOWED.to_owned()),
        (mixed(), false, Some(80), refused(port_80)),
        (mixed(), false, Some(82), refused(wrong)),
        (db(), false, None, refused(all)),
        (mixed(), true, Some(81), refused(headless)),
        (mixed(), true, None, refused(headless)),
        (Vec::new(), false, None, refused(none)),
    ] {
        let mut services = snapshot();
        let name = ("shop".to_owned(), "web".to_owned());
        let service = services.services.get_mut(&name).unwrap();
        service.ports = ports;
        service.is_headless = is_headless;
        let mut parent = web();
        parent["port"] = json!(port);
        let spec = json!({"parentRefs": [parent], "rules": [{}]});
        let said = beside(services, &objects(vec![route("web", spec)]), "web");
        assert_eq!(said[0][0], expected, "{port:?}");
    }
}

#[test]
fn what_is_wrong_with_rules_is_said_in_words() {
    let expression = json!({"matches": [{"path": {"type": "RegularExpression", "value": "(a"}}]});
    let mirror = json!({"filters": [{"type": "RequestMirror"}]});
    let share = json!({"backendRefs": [
        {"name": "web", "port": 80, "filters": [{"type": "RequestMirror"}]},
    ]});
    let ignored = json!({"retry": {"attempts": 2}, "timeouts": {"backendRequest": "1s"}});
    let malformed = "Dropped Rule 1: the regular expression is not usable: unclosed group.";
    let failing = "Rule 1 answers with 500: the filter RequestMirror is not supported.";
    let refused = |text: &str| format!("Accepted=false UnsupportedValue: {text}");
    let partially = |text: &str| format!("PartiallyInvalid=true UnsupportedValue: {text}");
    let table = [
        (json!([expression]), vec![refused(malformed)]),
        (json!([mirror]), vec![refused(failing)]),
        (json!([]), vec![refused("It has no rules.")]),
        (
            json!([expression, {}]),
            vec![FOLLOWED.to_owned(), partially(malformed)],
        ),
        (
            json!([mirror, {}]),
            vec![FOLLOWED.to_owned(), partially(failing)],
        ),
        (
            json!([share]),
            vec![
                FOLLOWED.to_owned(),
                partially(
                    "Rule 1 answers its share with 500: filters of web alone are not supported.",
                ),
            ],
        ),
        (
            json!([ignored]),
            vec![format!(
                "{FOLLOWED} Rule 1: timeouts.backendRequest is not supported and has no effect. \
                 Rule 1: retry is not supported and has no effect."
            )],
        ),
        (
            json!(vec![json!({}); 65]),
            vec![
                FOLLOWED.to_owned(),
                partially("Dropped Rule 65: a route may have 64 rules at most."),
            ],
        ),
    ];
    for (rules, expected) in table {
        let mut said = of_rules(rules.clone());
        assert_eq!(said.remove(1), ALL_EXIST);
        assert_eq!(said, expected, "{rules}");
    }
}

#[test]
fn backends_that_cannot_be_used_are_named() {
    let resolved = |backends: Value| of_rules(json!([{"backendRefs": backends}])).remove(1);
    let bucket = json!({"name": "logs", "kind": "Bucket", "group": "example.com"});
    let table = [
        (
            json!([{"name": "web", "port": 81}, {"name": "web"}]),
            "BackendNotFound: Service shop/web has no TCP port 81. \
             The backend shop/web needs a port.",
        ),
        (
            json!([{"name": "web", "namespace": "bank", "port": 80}]),
            "BackendNotFound: There is no Service bank/web.",
        ),
        (
            json!([{"name": "gone", "port": 80}, bucket]),
            "InvalidKind: Backend logs is a Bucket, and no Service. There is no Service shop/gone.",
        ),
    ];
    for (backends, expected) in table {
        let expected = format!("ResolvedRefs=false {expected}");
        assert_eq!(resolved(backends), expected);
    }
}

#[test]
fn routes_that_a_service_has_no_room_for_are_told_so() {
    let spec = json!({"parentRefs": [web()], "rules": [{}]});
    let routes = (100..201).map(|n| route(&format!("r-{n}"), spec.clone()));
    let objects = objects(routes.collect());
    assert_eq!(of(&objects, "r-199")[0][0], FOLLOWED);
    let crowded = &of(&objects, "r-200")[0][0];
    assert!(
        crowded.starts_with("Accepted=false TooManyRoutes:"),
        "{crowded}"
    );
}
