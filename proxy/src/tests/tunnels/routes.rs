//! Tunnels of a Service that has routes, and of a mirror.

use http::{HeaderName, HeaderValue};
use mesh_core::route::{
    Action, Forward, HttpRoute, Rule, RuleBackend, Shares,
    filter::{HeaderChanges, PathChange, Rewrite},
    matching::RequestMatch,
};

use super::*;

/// A rule for everything that changes what it can.
fn rule() -> Rule {
    let added = |name| {
        let name = HeaderName::from_static(name);
        let added = vec![(name, HeaderValue::from_static("1"))];
        HeaderChanges::new(vec![], added, vec![]).unwrap()
    };
    Rule {
        matches: vec![RequestMatch::default()],
        request_headers: added("x-asked"),
        response_headers: added("x-answered"),
        action: Action::Forward(Forward {
            rewrite: Rewrite {
                authority: Some("other:1".parse().unwrap()),
                path: Some(PathChange::Full("/chat".into())),
            },
            timeout: Some(LONG),
            shares: Shares {
                distribution: Distribution::FirstAvailable,
                backends: vec![RuleBackend {
                    backend: Some(0),
                    weight: 1,
                }],
            },
        }),
    }
}

fn routed(endpoint: Endpoint) -> Target {
    by_rule(endpoint, rule())
}

fn by_rule(endpoint: Endpoint, rule: Rule) -> Target {
    let reference = ServiceRef {
        namespace: "shop".into(),
        name: "web".into(),
        port: 80,
    };
    let route = HttpRoute {
        namespace: "shop".into(),
        name: "web".into(),
        rules: vec![rule],
    };
    let service = Destination::Service(Service {
        reference: reference.clone(),
        protocol: Protocol::Detect,
        distribution: Distribution::FirstAvailable,
        backends: vec![],
        routes: HttpRoutes::new(vec![route]),
        tls_routes: TlsRoutes::default(),
        route_backends: vec![Backend::own(reference, 1, vec![endpoint])],
    });
    let state = States::default().state(service);
    Target(watch::channel(Some(Arc::new(state))).1)
}

#[tokio::test]
async fn h12_a_route_leads_and_changes_what_becomes_a_tunnel() {
    let root = TestRoot::new("west");
    for behind in BOTH {
        let (application, heads) = http1().await;
        let endpoint = behind.endpoint(&root, application);
        let target = routed(endpoint);
        let mut world = World::to(&root, target, heads, Protocol::Detect).await;
        let mut client = world.client().await;
        client.say(&upgrade("GET", "/v1", "SPDY/3.1", "")).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{behind:?}: {answer}");
        assert!(answer.contains("upgrade: SPDY/3.1\r\n"), "{answer}");
        assert!(answer.contains("x-answered: 1\r\n"), "{answer}");
        let head = world.head().await;
        let expected = "GET /chat HTTP/1.1\r\nhost: other:1\r\n";
        assert!(head.starts_with(expected), "{head}");
        assert!(head.contains("x-asked: 1\r\n"), "{head}");
        talks(&mut client).await;
    }
}

/// A rule that changes nothing, and bears no answer that takes longer.
fn limited(timeout: Duration) -> Rule {
    let mut limited = Rule {
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        ..rule()
    };
    if let Action::Forward(forward) = &mut limited.action {
        forward.rewrite = Rewrite::default();
        forward.timeout = Some(timeout);
    }
    limited
}

#[tokio::test]
async fn h12_a_route_s_time_ends_with_the_answer_that_opens_the_tunnel() {
    let root = TestRoot::new("west");
    for behind in BOTH {
        let (application, heads) = http1().await;
        let endpoint = behind.endpoint(&root, application);
        let target = by_rule(endpoint, limited(Duration::from_millis(500)));
        let world = World::to(&root, target, heads, Protocol::Detect).await;
        let mut client = world.client().await;
        client.say(&upgrade("GET", "/chat", "websocket", "")).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{behind:?}: {answer}");
        // Asked for later, and out of time.
        let mut late = world.client().await;
        late.say(&upgrade("GET", "/silent", "websocket", "")).await;
        let answer = late.head().await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{behind:?}: {answer}");
        talks(&mut client).await;
    }
}

#[tokio::test]
async fn h12_where_a_connect_leads_is_not_rewritten() {
    let root = TestRoot::new("west");
    let (application, heads) = http1().await;
    let endpoint = Server::before(root.tls(SERVER), application).endpoint();
    let target = routed(endpoint);
    let mut world = World::to(&root, target, heads, Protocol::Detect).await;
    let mut client = world.client().await;
    let request = "CONNECT shop.example:443 HTTP/1.1\r\nhost: shop.example:443\r\n\r\n";
    client.say(request).await;
    assert!(client.head().await.contains("x-answered: 1\r\n"));
    let head = world.head().await;
    let expected = "CONNECT shop.example:443 HTTP/1.1\r\nhost: shop.example:443\r\n";
    assert!(head.starts_with(expected), "{head}");
    talks(&mut client).await;
}

#[tokio::test]
async fn h12_a_mirror_s_name_is_rewritten_where_it_is_a_name() {
    let root = TestRoot::new("west");
    let (application, heads) = http1().await;
    let endpoint = Endpoint {
        authority: Some("web.shop:80".into()),
        ..Server::before(root.tls(SERVER), application).endpoint()
    };
    let target = first_of(vec![vec![endpoint]]);
    let mut world = World::to(&root, target, heads, Protocol::Detect).await;
    for (request, seen) in [
        (
            upgrade("GET", "/chat", "other", ""),
            "GET /chat HTTP/1.1\r\nhost: web.shop:80\r\n",
        ),
        (
            "CONNECT web-east:1 HTTP/1.1\r\nhost: web-east:1\r\n\r\n".to_owned(),
            "CONNECT web-east:1 HTTP/1.1\r\nhost: web-east:1\r\n",
        ),
    ] {
        let mut client = world.client().await;
        client.say(&request).await;
        client.head().await;
        let head = world.head().await;
        assert!(head.starts_with(seen), "{head}");
    }
}
