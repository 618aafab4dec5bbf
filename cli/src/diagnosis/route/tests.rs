//! A call to `web`, whose route leads to `web-east` and to `web`.

use super::*;
use crate::diagnosis::{
    Verdict, diagnose,
    facts::{Endpoint, Exported, Split, Way},
    first_broken,
    fixtures::{attempt, endpoint, facts, service},
    probe::{BackendProbe, Outcome},
    verdict,
};

fn named(name: &str, weight: u32) -> RuleBackend {
    RuleBackend {
        namespace: "shop".into(),
        name: name.into(),
        port: Some(80),
        weight,
    }
}

fn rule(backends: Vec<RuleBackend>) -> RouteRule {
    RouteRule {
        requests: "/".into(),
        goal: Goal::Backends(backends),
    }
}

fn local(name: &str, endpoints: Vec<Endpoint>) -> Backend {
    Backend {
        namespace: "shop".into(),
        name: name.into(),
        port: Some(80),
        weight: 1,
        service: Ok(Some(service(Exported::No))),
        way: Way::Local(Ok(endpoints)),
    }
}

/// All is well.
fn routed(rules: Vec<RouteRule>) -> Facts {
    let mut facts = facts();
    let call = facts.call.as_mut().unwrap();
    let east = call.backends.remove(0);
    call.target.name = "web".into();
    call.target.alias = None;
    call.service = Ok(Some(service(Exported::No)));
    call.backends = vec![local("web", vec![endpoint("web-1")])];
    call.route_backends = vec![east, local("web", vec![endpoint("web-1")])];
    call.routes = Ok(vec![Route {
        kind: RouteKind::Http,
        namespace: "shop".into(),
        name: "canary".into(),
        accepted: Some(Accepted::Yes),
        is_ordered: false,
        rules,
    }]);
    let sidecar = call.sidecar.as_mut().unwrap();
    sidecar.backends.push(BackendProbe {
        service: "shop/web".into(),
        port: 80,
        known: true,
        endpoints: 1,
        tried: vec![attempt(Outcome::Admitted)],
    });
    facts
}

fn both() -> Vec<RouteRule> {
    vec![rule(vec![named("web-east", 90), named("web", 10)])]
}

fn call(facts: &mut Facts) -> &mut Call {
    facts.call.as_mut().unwrap()
}

fn the_route(facts: &mut Facts) -> &mut Route {
    &mut call(facts).routes.as_mut().unwrap()[0]
}

/// No pod of east is there any more.
fn break_east(facts: &mut Facts) {
    let Way::Linked {
        there: Some(there), ..
    } = &mut call(facts).route_backends[0].way
    else {
        panic!("it is linked");
    };
    there.endpoints = Ok(Vec::new());
}

fn break_west(facts: &mut Facts) {
    call(facts).route_backends[1].way = Way::Local(Ok(Vec::new()));
}

fn of_place(hops: &[Hop], place: Place) -> Vec<(State, &str, &str)> {
    let found = hops.iter().filter(|hop| hop.place == place);
    found
        .map(|hop| (hop.state, hop.about.as_str(), hop.text.as_str()))
        .collect()
}

#[test]
fn a_rule_shows_its_backends_and_their_ways() {
    let mut facts = routed(both());
    let hops = diagnose(&facts);
    assert_eq!(verdict(&hops), Verdict::Good, "{hops:#?}");
    let weighted = (State::Good, "canary", "/: web-east 90, web 10");
    assert_eq!(of_place(&hops, Place::Route), [weighted]);
    let endpoints = of_place(&hops, Place::Endpoints);
    let about: Vec<_> = endpoints.iter().map(|(_, about, _)| *about).collect();
    assert_eq!(about, ["web-east", "web"]);
    assert_eq!(of_place(&hops, Place::Gateway).len(), 1);

    the_route(&mut facts).is_ordered = true;
    let hops = diagnose(&facts);
    let ordered = (State::Good, "canary", "/: web-east, then web");
    assert_eq!(of_place(&hops, Place::Route), [ordered]);
}

#[test]
fn one_broken_backend_of_several_is_a_warning() {
    let mut facts = routed(both());
    break_east(&mut facts);
    let hops = diagnose(&facts);
    let text = "/: web-east 90 (broken), web 10";
    assert_eq!(
        of_place(&hops, Place::Route),
        [(State::Warning, "canary", text)]
    );
    assert_eq!(of_place(&hops, Place::Endpoints)[0].0, State::Warning);
    assert_eq!(of_place(&hops, Place::Endpoints)[1].0, State::Good);
    assert_eq!(verdict(&hops), Verdict::Degraded);
}

#[test]
fn a_rule_without_a_backend_that_works_is_broken_and_its_cause_named() {
    let mut facts = routed(both());
    break_east(&mut facts);
    break_west(&mut facts);
    let hops = diagnose(&facts);
    assert_eq!(of_place(&hops, Place::Route)[0].0, State::Follows);
    let first = &hops[first_broken(&hops).unwrap()];
    assert_eq!(
        (first.place, first.about.as_str()),
        (Place::Endpoints, "web-east")
    );
    assert_eq!(verdict(&hops), Verdict::Broken);
}

#[test]
fn a_backend_is_needed_if_any_rule_has_no_other() {
    let mut rules = both();
    rules.push(rule(vec![named("web-east", 1), named("web", 0)]));
    let mut facts = routed(rules);
    break_east(&mut facts);
    let hops = diagnose(&facts);
    let routes = of_place(&hops, Place::Route);
    assert_eq!((routes[0].0, routes[0].1), (State::Warning, "canary 1"));
    assert_eq!((routes[1].0, routes[1].1), (State::Follows, "canary 2"));
    assert_eq!(of_place(&hops, Place::Endpoints)[0].0, State::Broken);
}

#[test]
fn a_backend_that_does_not_exist_is_named_where_it_is_written() {
    for (rules, state, text) in [
        (
            rule(vec![named("web", 1), named("gone", 1)]),
            State::Warning,
            "/: web 1, gone 1 (no such Service and port)",
        ),
        (
            rule(vec![named("gone", 1)]),
            State::Broken,
            "/: gone 1 (no such Service and port)",
        ),
        (
            rule(vec![named("web", 0)]),
            State::Broken,
            "/: the rule sends nothing to any backend",
        ),
    ] {
        let mut facts = routed(vec![rules]);
        call(&mut facts).route_backends.push(Backend {
            service: Ok(None),
            ..local("gone", Vec::new())
        });
        let hops = diagnose(&facts);
        assert_eq!(of_place(&hops, Place::Route), [(state, "canary", text)]);
    }
}

#[test]
fn rules_that_lead_nowhere_are_not_followed() {
    let to = |goal: Goal| RouteRule {
        requests: "/".into(),
        goal,
    };
    let web = || rule(vec![named("web", 1)]);
    let good = (State::Good, "canary 2", "/: web 1");
    let failing = "/: answers with 500: the filter RequestMirror is not supported";
    for (goal, expected, outcome) in [
        (Goal::Dropped, vec![good], Verdict::Good),
        (
            Goal::Failing("the filter RequestMirror is not supported".into()),
            vec![(State::Broken, "canary 1", failing), good],
            Verdict::Broken,
        ),
    ] {
        let mut facts = routed(vec![to(goal), web()]);
        break_east(&mut facts);
        let hops = diagnose(&facts);
        assert_eq!(of_place(&hops, Place::Route), expected);
        assert_eq!(verdict(&hops), outcome, "{hops:#?}");
    }
}

#[test]
fn a_backend_that_was_not_looked_at_is_unknown() {
    let nowhere = RuleBackend {
        port: None,
        ..named("nowhere", 1)
    };
    for (backends, text) in [
        (vec![named("ninth", 1)], "/: ninth 1 (not looked at)"),
        (
            vec![named("web", 1), named("ninth", 1)],
            "/: web 1, ninth 1 (not looked at)",
        ),
        (
            vec![nowhere, named("ninth", 1)],
            "/: nowhere 1 (no such Service and port), ninth 1 (not looked at)",
        ),
    ] {
        let hops = diagnose(&routed(vec![rule(backends)]));
        let unknown = (State::Unknown, "canary", text);
        assert_eq!(of_place(&hops, Place::Route), [unknown]);
        assert_eq!(verdict(&hops), Verdict::Unknown, "{hops:#?}");
    }
}

#[test]
fn a_backend_without_a_share_is_not_followed() {
    let none_for_east = || rule(vec![named("web-east", 0), named("web", 1)]);
    let some_for_east = || rule(vec![named("web-east", 1), named("web", 1)]);
    for (rules, is_ordered, expected) in [
        (vec![none_for_east()], false, Verdict::Good),
        (vec![none_for_east()], true, Verdict::Degraded),
        (
            vec![none_for_east(), some_for_east()],
            false,
            Verdict::Degraded,
        ),
    ] {
        let mut facts = routed(rules);
        the_route(&mut facts).is_ordered = is_ordered;
        break_east(&mut facts);
        let hops = diagnose(&facts);
        assert_eq!(verdict(&hops), expected, "{hops:#?}");
        let is_followed = !of_place(&hops, Place::Gateway).is_empty();
        assert_eq!(is_followed, expected == Verdict::Degraded);
    }
}

/// It could not be read.
fn hide(facts: &mut Facts, at: usize) {
    call(facts).route_backends[at].service = Err("forbidden".into());
}

#[test]
fn a_backend_that_could_not_be_read_is_neither_good_nor_broken() {
    type Change = fn(&mut Facts);
    let table: [(Change, &str); 4] = [
        (|facts| hide(facts, 1), "/: web-east 90, web 10 (not known)"),
        (
            |facts| {
                hide(facts, 1);
                break_east(facts);
            },
            "/: web-east 90 (broken), web 10 (not known)",
        ),
        (
            |facts| call(facts).sidecar = Err("no answer".into()),
            "/: web-east 90 (not known), web 10 (not known)",
        ),
        (
            |facts| {
                hide(facts, 1);
                the_route(facts).rules = vec![rule(vec![named("web", 1)])];
            },
            "/: web 1 (not known)",
        ),
    ];
    for (change, text) in table {
        let mut facts = routed(both());
        change(&mut facts);
        let hops = diagnose(&facts);
        let unknown = (State::Unknown, "canary", text);
        assert_eq!(of_place(&hops, Place::Route), [unknown]);
        assert_eq!(verdict(&hops), Verdict::Unknown, "{hops:#?}");
    }
    let mut facts = routed(both());
    hide(&mut facts, 1);
    let hops = diagnose(&facts);
    let unread = (State::Unknown, "web", "forbidden");
    assert_eq!(of_place(&hops, Place::Endpoints)[1], unread);
}

#[test]
fn a_route_that_does_not_count_is_named_with_its_reason() {
    let mut facts = routed(both());
    the_route(&mut facts).accepted = Some(Accepted::No("no such port".into()));
    let hops = diagnose(&facts);
    let text = "HTTPRoute canary is not accepted: no such port";
    assert_eq!(
        of_place(&hops, Place::Route),
        [(State::Broken, "canary", text)]
    );
    assert!(!leads(call(&mut facts)));
    assert_eq!(
        of_place(&hops, Place::Endpoints).len(),
        1,
        "the Service itself"
    );

    for (accepted, state) in [
        (
            Some(Accepted::Partially("Dropped Rule 2.".into())),
            State::Warning,
        ),
        (None, State::Unknown),
    ] {
        the_route(&mut facts).accepted = accepted;
        let hops = diagnose(&facts);
        let routes = of_place(&hops, Place::Route);
        assert_eq!((routes.len(), routes[0].0), (2, state), "{hops:#?}");
    }
}

#[test]
fn a_split_beside_a_route_is_for_what_is_no_http() {
    let mut facts = routed(both());
    call(&mut facts).split = Ok(Some(Split {
        name: "web".into(),
        has_primary: false,
        unseen: 0,
    }));
    let hops = diagnose(&facts);
    assert_eq!(verdict(&hops), Verdict::Good, "{hops:#?}");
    let routes = of_place(&hops, Place::Route);
    assert!(routes[1].2.contains("no HTTP"), "{routes:?}");
}

/// `web` has a TLSRoute beside nothing else.
fn tls_routed(rules: Vec<RouteRule>) -> Facts {
    let mut facts = routed(rules);
    the_route(&mut facts).kind = RouteKind::Tls;
    facts
}

#[test]
fn a_tls_route_stands_beside_the_service_itself() {
    let to_east = || {
        let mut rule = rule(vec![named("web-east", 1)]);
        rule.requests = "TLS for east.example".into();
        vec![rule]
    };
    let mut facts = tls_routed(to_east());
    let hops = diagnose(&facts);
    assert_eq!(verdict(&hops), Verdict::Good, "{hops:#?}");
    let shown = (State::Good, "canary", "TLS for east.example: web-east 1");
    assert_eq!(of_place(&hops, Place::Route), [shown]);
    let endpoints = of_place(&hops, Place::Endpoints);
    let about: Vec<_> = endpoints.iter().map(|(_, about, _)| *about).collect();
    assert_eq!(
        about,
        ["web-east", ""],
        "the Service itself is for the rest"
    );

    break_east(&mut facts);
    assert_eq!(verdict(&diagnose(&facts)), Verdict::Broken);

    let mut refused = tls_routed(to_east());
    the_route(&mut refused).accepted = Some(Accepted::No("why".into()));
    let hops = diagnose(&refused);
    let broken = &hops[first_broken(&hops).expect("it is not accepted")];
    assert_eq!(broken.text, "TLSRoute canary is not accepted: why");
    assert!(broken.advice.contains("edit tlsroute canary"), "{broken:?}");
}
