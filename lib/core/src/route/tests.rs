use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{
    filter::PathChange,
    matching::{HeaderMatch, PathMatch, QueryMatch, ValueMatch},
    pattern::Pattern,
    *,
};

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.into())
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.into())
}

fn pattern(text: &str) -> PathMatch {
    PathMatch::Pattern(Pattern::new(text).unwrap())
}

fn on(path: PathMatch) -> RequestMatch {
    RequestMatch {
        path,
        ..RequestMatch::default()
    }
}

fn with_header(mut found: RequestMatch, name: &'static str, value: &str) -> RequestMatch {
    found.headers.push(HeaderMatch {
        name: HeaderName::from_static(name),
        value: ValueMatch::Exact(value.into()),
    });
    found
}

fn with_parameter(mut found: RequestMatch, name: &str, value: &str) -> RequestMatch {
    found.query.push(QueryMatch {
        name: name.into(),
        value: ValueMatch::Exact(value.into()),
    });
    found
}

fn with_method(mut found: RequestMatch, method: Method) -> RequestMatch {
    found.method = Some(method);
    found
}

fn forward(distribution: Distribution, backends: &[(Option<usize>, u32)]) -> Forward {
    let backends = backends.iter().map(|(backend, weight)| RuleBackend {
        backend: *backend,
        weight: *weight,
    });
    Forward {
        rewrite: Rewrite::default(),
        timeout: None,
        shares: Shares {
            distribution,
            backends: backends.collect(),
        },
    }
}

/// A rule that leads to the backend `mark`.
fn rule(mark: usize, matches: Vec<RequestMatch>) -> Rule {
    Rule {
        matches,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        action: Action::Forward(forward(Distribution::FirstAvailable, &[(Some(mark), 1)])),
    }
}

fn route(rules: Vec<Rule>) -> HttpRoute {
    HttpRoute {
        namespace: "shop".into(),
        name: "web".into(),
        rules,
    }
}

/// The mark of the rule for a request.
fn picked(routes: &HttpRoutes, method: &Method, target: &str, headers: &[&str]) -> Option<usize> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut map = HeaderMap::new();
    for header in headers {
        let (name, value) = header.split_once(':').unwrap();
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let head = RequestHead {
        method,
        path,
        query,
        headers: &map,
    };
    match &routes.pick(&head)?.rule.action {
        Action::Forward(forward) => forward.shares.backends[0].backend,
        Action::Redirect(_) | Action::Fail => None,
    }
}

#[test]
fn the_most_specific_match_wins() {
    // From the least to the most specific, of which each is also matched by
    // the request of those after it.
    let matches = [
        on(prefix("/")),
        with_parameter(on(prefix("/")), "v", "2"),
        with_header(on(prefix("/")), "x-canary", "yes"),
        with_method(on(prefix("/")), Method::GET),
        on(prefix("/a/")),
        on(prefix("/a/b")),
        on(pattern("/a/.*")),
        on(exact("/a/b")),
        with_method(on(exact("/a/b")), Method::GET),
    ];
    for last in 0..matches.len() {
        let rules = matches[..=last].iter().enumerate();
        let mut rules: Vec<_> = rules.map(|(mark, m)| rule(mark, vec![m.clone()])).collect();
        for _ in 0..2 {
            let routes = HttpRoutes::new(vec![route(rules.clone())]);
            let at = picked(&routes, &Method::GET, "/a/b?v=2", &["x-canary:yes"]);
            assert_eq!(at, Some(last));
            rules.reverse();
        }
    }
}

#[test]
fn of_equal_matches_the_older_route_and_the_earlier_rule_win() {
    let rules = |marks: [usize; 2]| marks.map(|mark| rule(mark, Vec::new())).to_vec();
    let routes = HttpRoutes::new(vec![route(rules([1, 2])), route(rules([3, 4]))]);
    assert_eq!(picked(&routes, &Method::GET, "/", &[]), Some(1));
}

#[test]
fn paths_match_by_element_or_as_a_whole() {
    for (wanted, path, expected) in [
        (prefix("/"), "/", true),
        (prefix("/"), "/any/thing", true),
        (prefix("/"), "*", true),
        (prefix("/abc"), "/abc", true),
        (prefix("/abc"), "/abc/", true),
        (prefix("/abc"), "/abc/def", true),
        (prefix("/abc"), "/abcd", false),
        (prefix("/abc/"), "/abc", true),
        (prefix("/abc"), "/ABC", false),
        (exact("/abc"), "/abc", true),
        (exact("/abc"), "/abc/", false),
        (pattern("/v[12]/.*"), "/v2/x", true),
        (pattern("/v[12]"), "/v2/x", false),
        (pattern("/a|/b"), "/bc", false),
    ] {
        let routes = HttpRoutes::new(vec![route(vec![rule(0, vec![on(wanted.clone())])])]);
        let found = picked(&routes, &Method::GET, path, &[]).is_some();
        assert_eq!(found, expected, "{wanted:?} {path}");
    }
}

#[test]
fn headers_and_parameters_must_all_be_there() {
    let wanted = with_header(on(prefix("/")), "x-a", "1");
    let wanted = with_header(with_parameter(wanted, "q q", "a&b"), "x-b", "2");
    let routes = HttpRoutes::new(vec![route(vec![rule(0, vec![wanted])])]);
    let both = ["x-a:0", "x-a:1", "x-b:2"];
    for (target, headers, expected) in [
        ("/?q+q=a%26b", &both[..], true),
        ("/?z&q%20q=a%26b&q+q=c", &both, true),
        ("/?q+q=c&q+q=a%26b", &both, false),
        ("/?q+q=a%2", &both, false),
        ("/", &both, false),
        ("/?q+q=a%26b", &["x-a:1"], false),
        ("/?q+q=a%26b", &["x-a:1", "x-b:1"], false),
    ] {
        let found = picked(&routes, &Method::POST, target, headers).is_some();
        assert_eq!(found, expected, "{target} {headers:?}");
    }
}

#[test]
fn expressions_are_bounded() {
    let nested = format!("{}a{}", "(".repeat(40), ")".repeat(40));
    // Some 50,000 states: more than we allow, and less than the library does.
    let large = "(?:a{1000}){50}";
    let long = "a".repeat(5000);
    for (bad, why) in [
        ("(", "unclosed group"),
        ("a)(b", "unopened group"),
        (large, "size limit"),
        (nested.as_str(), "nested"),
        (long.as_str(), "too long"),
    ] {
        let error = Pattern::new(bad).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
    assert!(Pattern::new("(a|b)+[0-9]{1,3}").is_ok());
}

#[test]
fn prefixes_are_replaced_as_the_gateway_api_says() {
    for (path, wanted, new, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
    ] {
        let changed = PathChange::Prefix(new.into()).changed(path, &on(prefix(wanted)));
        assert_eq!(changed, expected, "{path} {wanted} {new}");
    }
}

#[test]
fn a_redirect_changes_what_it_names() {
    let plain = Redirect {
        scheme: None,
        host: None,
        path: None,
        port: None,
        status: StatusCode::FOUND,
    };
    let https = Redirect {
        scheme: Some(http::uri::Scheme::HTTPS),
        ..plain.clone()
    };
    let elsewhere = Redirect {
        host: Some("shop.example".into()),
        port: Some(8443),
        path: Some(PathChange::Full("/new".into())),
        ..https.clone()
    };
    for (redirect, expected) in [
        (plain, "http://web:8080/old?a=1"),
        (https, "https://web/old?a=1"),
        (elsewhere, "https://shop.example:8443/new?a=1"),
    ] {
        let (authority, target) = ("web:8080".parse().unwrap(), "/old?a=1".parse().unwrap());
        let location = redirect.location(&authority, &target, &RequestMatch::default());
        assert_eq!(location.unwrap(), expected);
    }
}

#[test]
fn h7_h8_a_route_changes_no_header_of_ours_and_none_that_frames() {
    let one = HeaderValue::from_static("1");
    for name in [
        "mesh-port",
        "l5d-client-id",
        "content-length",
        "host",
        "connection",
    ] {
        let name = HeaderName::from_static(name);
        let set = HeaderChanges::new(vec![(name.clone(), one.clone())], vec![], vec![]);
        let remove = HeaderChanges::new(vec![], vec![], vec![name]);
        assert!(set.is_err() && remove.is_err());
    }
    let name = HeaderName::from_static;
    let changes = HeaderChanges::new(
        vec![(name("x-set"), one.clone())],
        vec![(name("x-add"), one.clone())],
        vec![name("x-gone")],
    );
    let mut headers = HeaderMap::new();
    for known in ["x-set", "x-add", "x-gone"] {
        headers.insert(known, HeaderValue::from_static("0"));
    }
    changes.unwrap().apply(&mut headers);
    assert_eq!(headers.get_all("x-set").iter().collect::<Vec<_>>(), ["1"]);
    assert_eq!(
        headers.get_all("x-add").iter().collect::<Vec<_>>(),
        ["0", "1"]
    );
    assert!(!headers.contains_key("x-gone"));
}

/// How often each backend is chosen in `count` throws.
fn shares(forward: &Forward, available: &[bool], count: u32) -> [u32; 4] {
    use rand::{Rng as _, SeedableRng as _};
    let mut dice = rand::rngs::StdRng::seed_from_u64(7);
    let mut shares = [0; 4];
    for _ in 0..count {
        match forward.shares.choose(|at| available[at], dice.next_u64()) {
            Choice::Backend(at) => shares[at] += 1,
            Choice::Missing => shares[2] += 1,
            Choice::Unavailable => shares[3] += 1,
        }
    }
    shares
}

/// Five standard deviations of a share of `of` hundredths in 10,000 throws.
fn is_share(count: u32, of: u32) -> bool {
    let p = f64::from(of) / 100.0;
    let deviation = (10_000.0 * p * (1.0 - p)).sqrt();
    (f64::from(count) - 10_000.0 * p).abs() <= 5.0 * deviation
}

#[test]
fn a_canary_by_weight_gets_its_share() {
    let canary = forward(
        Distribution::RandomAvailable,
        &[(Some(0), 90), (Some(1), 10)],
    );
    let shares = shares(&canary, &[true, true], 10_000);
    assert!(
        is_share(shares[0], 90) && is_share(shares[1], 10),
        "{shares:?}"
    );
    assert_eq!(shares[0] + shares[1], 10_000);
}

#[test]
fn a_service_that_does_not_exist_keeps_its_share() {
    let backends = [(Some(0), 45), (Some(1), 45), (None, 10)];
    let weighted = forward(Distribution::RandomAvailable, &backends);
    for (available, share) in [([true, true], 45), ([false, true], 0)] {
        let shares = shares(&weighted, &available, 10_000);
        assert!(
            is_share(shares[2], 10) && is_share(shares[0], share),
            "{shares:?}"
        );
        assert_eq!(shares[3], 0);
    }
    let nothing = shares(&weighted, &[false, false], 10_000);
    assert!(
        is_share(nothing[2], 10) && is_share(nothing[3], 90),
        "{nothing:?}"
    );
}

#[test]
fn r12_an_empty_backend_of_a_route_is_skipped_at_once() {
    use Distribution::{FirstAvailable, RandomAvailable};
    let weighted = forward(RandomAvailable, &[(Some(0), 90), (Some(1), 10)]);
    assert_eq!(shares(&weighted, &[false, true], 1000), [0, 1000, 0, 0]);

    let ordered = forward(FirstAvailable, &[(None, 1), (Some(0), 1), (Some(1), 0)]);
    assert_eq!(ordered.shares.choose(|_| true, 7), Choice::Backend(0));
    assert_eq!(ordered.shares.choose(|at| at == 1, 7), Choice::Backend(1));
    assert_eq!(ordered.shares.choose(|_| false, 7), Choice::Unavailable);
    let missing = forward(FirstAvailable, &[(None, 1)]);
    assert_eq!(missing.shares.choose(|_| true, 7), Choice::Missing);
}
