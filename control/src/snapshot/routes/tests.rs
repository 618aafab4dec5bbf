use std::time::Duration;

use mesh_api::route::{HTTPRoute, TLSRoute};
use mesh_core::{destination::Distribution, route::Action};
use serde_json::{Value, json};

use super::{rules::duration, *};

fn object(name: &str, spec: Value, annotations: Value) -> HTTPRoute {
    let metadata = json!({
        "name": name,
        "namespace": "shop",
        "annotations": annotations,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata,
        "spec": spec,
    });
    serde_json::from_value(route).unwrap()
}

fn with_rules(rules: Value) -> HTTPRoute {
    let parent = json!({"group": "", "kind": "Service", "name": "web"});
    let spec = json!({"parentRefs": [parent], "rules": rules});
    object("web", spec, json!({}))
}

fn actions(rules: Value) -> Vec<Action> {
    let rules = with_rules(rules).convert().route.route.rules;
    rules.into_iter().map(|rule| rule.action).collect()
}

#[test]
fn durations_are_those_of_the_gateway_api() {
    let good = [("1h30m", 5_400_000), ("10s500ms", 10_500), ("0s", 0)];
    for (text, milliseconds) in good {
        let expected = Duration::from_millis(milliseconds);
        assert_eq!(duration(text), Ok(expected), "{text}");
    }
    for bad in ["", "10", "s", "1.5s", "-1s", "100000s", "1h1m1s1ms1h", "1d"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_rule_whose_match_cannot_be_read_is_left_out() {
    let bad = json!({"type": "RegularExpression", "value": "("});
    let rules = json!([
        {"matches": [{"path": bad}]},
        {"matches": [{"headers": [{"name": "x-a", "value": "1"}]}]},
        {"timeouts": {"request": "soon"}},
    ]);
    let converted = with_rules(rules).convert();
    assert_eq!(converted.route.route.rules.len(), 1);
    assert_eq!(converted.problems.len(), 2);
}

#[test]
fn a_route_is_attached_if_any_rule_is_of_use() {
    let dropped = json!({"matches": [{"path": {"type": "Glob"}}]});
    let failing = json!({"filters": [{"type": "RequestMirror"}]});
    for (rules, is_attached) in [
        (json!([]), false),
        (json!([dropped]), false),
        (json!([failing]), false),
        (json!([dropped, failing]), false),
        (json!([failing, {}]), true),
    ] {
        let routes = routes(&[Arc::new(with_rules(rules.clone()))]);
        assert_eq!(!routes.attached.is_empty(), is_attached, "{rules}");
        let mut objects = routes.objects.values();
        assert!(objects.all(|route| route.is_usable == is_attached));
    }
}

/// A rule with so many regular expressions.
fn expressions(count: usize) -> Value {
    let expression = |n: usize| {
        json!({
            "path": {"type": "RegularExpression", "value": format!("/{n}")},
            "headers": [{"name": "x-a", "value": "(", "type": "Exact"}],
        })
    };
    json!({"matches": (0..count).map(expression).collect::<Vec<_>>()})
}

#[test]
fn a_route_has_a_bounded_number_of_regular_expressions() {
    let header = json!({"name": "x-a", "value": "a+", "type": "RegularExpression"});
    let others = json!({"matches": [{"headers": [header], "queryParams": [header]}]});
    let rules = json!([
        expressions(40),
        expressions(25),
        expressions(22),
        others,
        {},
        others
    ]);
    let converted = with_rules(rules).convert();
    let dropped: Vec<_> = converted.problems.iter().map(|p| p.rule).collect();
    assert_eq!(dropped, [2, 6]);
    for problem in converted.problems {
        assert_eq!(problem.effect, Effect::Dropped);
        assert!(problem.reason.contains("too many regular expressions"));
    }
    assert_eq!(converted.route.route.rules.len(), 4);
}

#[test]
fn a_service_has_a_bounded_number_of_regular_expressions() {
    let parent = json!({"group": "", "kind": "Service", "name": "web"});
    let route = |name: &str, rules: Value| {
        let spec = json!({"parentRefs": [parent], "rules": rules});
        Arc::new(object(name, spec, json!({})))
    };
    let mut objects: Vec<_> = (0..5)
        .map(|n| route(&format!("r-{n}"), json!([expressions(60)])))
        .collect();
    objects.push(route("s", json!([{}])));
    let routes = routes(&objects);
    let crowded = |name: &str| {
        let found = &routes.objects[&("shop".to_owned(), name.to_owned())];
        !found.crowded.is_empty()
    };
    let names = ["r-0", "r-1", "r-2", "r-3", "r-4", "s"];
    assert_eq!(
        names.map(crowded),
        [false, false, false, false, true, false]
    );
    let attached = &routes.attached[&("shop".to_owned(), "web".to_owned())];
    assert_eq!(attached.len(), 5);
}

#[test]
fn a_filter_that_is_not_supported_fails_its_rule_alone() {
    let forbidden = json!({"set": [{"name": "mesh-port", "value": "1"}]});
    let prefix = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"});
    let rules = json!([
        {"filters": [{"type": "RequestMirror"}]},
        {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": forbidden}]},
        {
            "matches": [{"path": {"type": "Exact", "value": "/a"}}],
            "filters": [{"type": "URLRewrite", "urlRewrite": {"path": prefix}}],
        },
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]},
        {},
    ]);
    let actions = actions(rules);
    assert_eq!(actions[..3], [Action::Fail, Action::Fail, Action::Fail]);
    assert!(matches!(actions[3], Action::Redirect(_)));
    assert!(matches!(actions[4], Action::Forward(_)));
}

#[test]
fn r1_r12_a_route_with_a_primary_is_ordered_and_one_without_is_weighted() {
    let backends = json!([
        {"name": "web", "port": 80, "weight": 10},
        {"name": "web-east", "port": 80, "weight": 90},
    ]);
    let parent = json!({"group": "", "kind": "Service", "name": "web"});
    let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": backends}]});
    let forward = |annotations: Value| {
        let route = object("web", spec.clone(), annotations).convert().route;
        let services = route.services.iter().map(|service| match service {
            RouteService::Named((_, name), _) => name.clone(),
            RouteService::Parent | RouteService::Unusable => String::new(),
        });
        let services: Vec<_> = services.collect();
        match &route.route.rules[0].action {
            Action::Forward(forward) => (forward.shares.distribution, services),
            Action::Redirect(_) | Action::Fail => unreachable!("it has backends"),
        }
    };
    let (distribution, services) = forward(json!({"mesh.dev/primary-service": "web-east"}));
    assert_eq!(distribution, Distribution::FirstAvailable);
    assert_eq!(services, ["web-east", "web"]);
    let (distribution, services) = forward(json!({}));
    assert_eq!(distribution, Distribution::RandomAvailable);
    assert_eq!(services, ["web", "web-east"]);
}

#[test]
fn a_route_is_attached_to_services_of_its_own_namespace() {
    let parents = json!([
        {"group": "", "kind": "Service", "name": "web", "port": 80},
        {"group": "", "kind": "Service", "name": "api", "namespace": "shop"},
        {"group": "", "kind": "Service", "name": "vault", "namespace": "other"},
        {"name": "gateway"},
    ]);
    let route = object(
        "web",
        json!({"parentRefs": parents, "rules": [{}]}),
        json!({}),
    );
    let routes = routes(&[Arc::new(route)]).attached;
    let mut attached: Vec<_> = routes
        .iter()
        .map(|(name, attached)| (name.1.as_str(), attached[0].port))
        .collect();
    attached.sort_unstable();
    assert_eq!(attached, [("api", None), ("web", Some(80))]);
}

#[test]
fn what_cannot_be_a_backend_fails_its_share() {
    let backends = json!([
        {"name": "web"},
        {"name": "bucket", "kind": "Bucket", "group": "example.com", "port": 80},
        {"name": "web", "port": 80, "filters": [{"type": "RequestMirror"}]},
        {"name": "web", "port": 80, "namespace": "other"},
    ]);
    let route = with_rules(json!([{"backendRefs": backends}]))
        .convert()
        .route;
    let named = RouteService::Named(("other".to_owned(), "web".to_owned()), 80);
    assert_eq!(route.services[..3], [const { RouteService::Unusable }; 3]);
    assert_eq!(route.services[3], named);
}

/// A TLSRoute for `web` of this name, made so many seconds after the others.
fn tls_route(name: &str, age: u8, spec: &Value) -> Arc<TLSRoute> {
    let mut spec = spec.clone();
    spec["parentRefs"] = json!([{"group": "", "kind": "Service", "name": "web", "port": 443}]);
    let metadata = json!({
        "name": name,
        "namespace": "shop",
        "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z"),
    });
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
}

#[test]
fn a_tls_route_is_read_with_the_names_that_are_host_names() {
    let backends = json!([
        {"name": "web-east", "port": 443, "weight": 9},
        {"name": "web", "namespace": "other", "port": 443},
        {"name": "bucket", "kind": "Bucket", "group": "example.com", "port": 443},
    ]);
    let spec = json!({
        "hostnames": ["a.example", "A.example", "*.b.example"],
        "rules": [{"backendRefs": backends}, {"backendRefs": backends}],
    });
    let converted = tls_route("web", 0, &spec).convert();
    assert!(converted.is_usable);
    let route = &converted.route;
    let names: Vec<_> = route
        .route
        .hostnames
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["a.example", "*.b.example"]);
    assert_eq!(route.size, 2);
    let shares = &route.route.shares;
    assert_eq!(shares.distribution, Distribution::RandomAvailable);
    let weights: Vec<_> = shares
        .backends
        .iter()
        .map(|b| (b.backend, b.weight))
        .collect();
    assert_eq!(weights, [(Some(0), 9), (Some(1), 1), (Some(2), 1)]);
    let named = |namespace: &str, name: &str| {
        RouteService::Named((namespace.to_owned(), name.to_owned()), 443)
    };
    let expected = [
        named("shop", "web-east"),
        named("other", "web"),
        RouteService::Unusable,
    ];
    assert_eq!(route.services, expected);
    let effects: Vec<_> = converted
        .problems
        .iter()
        .map(|p| (p.rule, p.effect))
        .collect();
    assert_eq!(effects, [(1, Effect::None), (2, Effect::Dropped)]);
}

#[test]
fn a_tls_route_without_names_or_rules_counts_for_nothing() {
    for spec in [
        json!({"hostnames": ["a.example"]}),
        json!({"rules": [{}]}),
        json!({"hostnames": ["A.example", ""], "rules": [{}]}),
    ] {
        let found = routes(&[tls_route("web", 0, &spec)]);
        assert!(found.attached.is_empty(), "{spec}");
        let object = found.objects.values().next().unwrap();
        assert!(!object.is_usable, "{spec}");
    }
}

#[test]
fn newer_tls_routes_than_a_sidecar_takes_the_names_of_do_not_count() {
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|at| format!("{at}.example")).collect();
        json!({"hostnames": names, "rules": [{}]})
    };
    let sized = [(3, "d", 97), (0, "a", 3_000), (1, "b", 1_000), (2, "c", 96)];
    let sized = sized.map(|(age, name, count)| tls_route(name, age, &names(count)));
    let found = routes(&sized);
    let attached = &found.attached[&("shop".to_owned(), "web".to_owned())];
    let order: Vec<_> = attached.iter().map(|one| &*one.route.route.name).collect();
    assert_eq!(order, ["a", "b", "c"]);
    assert!(attached.iter().all(|one| one.port == Some(443)));
    let crowded = |name: &str| {
        let object = &found.objects[&("shop".to_owned(), name.to_owned())];
        !object.crowded.is_empty()
    };
    assert!(crowded("d") && !crowded("c"));
}
