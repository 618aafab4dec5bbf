//! Statuses on a scripted API server.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use super::*;
use crate::{
    snapshot::{Objects, PolicyObjects, read},
    world::World,
};

/// What no status is good enough for.
const REFUSED: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/all/status";
const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/web";

/// An API server with one object, whose watch is `world`.
#[derive(Clone)]
struct ApiServer {
    path: &'static str,
    object: Arc<Mutex<Value>>,
    /// How it answers about [`REFUSED`].
    refusal: u16,
    /// How writes were answered.
    answers: Arc<Mutex<Vec<u16>>>,
    world: watch::Sender<Option<World>>,
    objects: fn(&Value) -> Objects,
}

impl ApiServer {
    fn new(path: &'static str, object: Value, objects: fn(&Value) -> Objects) -> Self {
        let server = Self {
            path,
            object: Arc::default(),
            refusal: 422,
            answers: Arc::default(),
            world: watch::channel(None).0,
            objects,
        };
        server.put(object);
        server.tell();
        server
    }

    /// Stores a new version, of which watchers do not know yet.
    fn put(&self, mut object: Value) {
        let mut there = self.object.lock().unwrap();
        let version = there["metadata"]["resourceVersion"].as_str();
        let version = version.map_or(1, |version| version.parse::<u64>().unwrap() + 1);
        object["metadata"]["resourceVersion"] = version.to_string().into();
        *there = object;
    }

    fn object(&self) -> Value {
        self.object.lock().unwrap().clone()
    }

    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut object = self.object();
        edit(&mut object);
        self.put(object);
    }

    /// Watchers see how it is now.
    fn tell(&self) {
        let objects = (self.objects)(&self.object());
        let (cluster, domain) = ("east".parse().unwrap(), "east".parse().unwrap());
        self.world.send_replace(Some(World {
            snapshot: Arc::new(read(&objects, &cluster, &domain, &[])),
            remote: Arc::default(),
        }));
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                assert_eq!(head.method, Method::PATCH);
                let code = if head.uri.path() == format!("{}/status", server.path) {
                    server.patch(&serde_json::from_slice(&body).unwrap())
                } else {
                    assert_eq!(head.uri.path(), REFUSED);
                    server.refusal
                };
                let answer = match code {
                    200 => server.object(),
                    code => json!({
                        "kind": "Status", "status": "Failure", "code": code,
                        "reason": "Conflict", "message": "changed",
                    }),
                };
                let answer = Body::from(answer.to_string().into_bytes());
                let response = Response::builder().status(code).body(answer);
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// Starts what is tested.
    fn keep<K: Kept>(&self) -> JoinHandle<()> {
        let world = self.world.subscribe();
        tokio::spawn(keep::<K>(self.client(), world, Clock::SYSTEM))
    }

    fn patch(&self, patch: &Value) -> u16 {
        let known = &patch["metadata"]["resourceVersion"];
        let is_current = *known == self.object()["metadata"]["resourceVersion"];
        let code = if is_current { 200 } else { 409 };
        if is_current {
            self.edit(|object| object["status"] = patch["status"].clone());
        }
        self.answers.lock().unwrap().push(code);
        code
    }

    fn answers(&self) -> Vec<u16> {
        self.answers.lock().unwrap().clone()
    }

    /// Returns after the next write.
    async fn written(&self) {
        let before = self.answers().len();
        let written = async {
            while self.answers().len() == before {
                sleep(SETTLED).await;
            }
        };
        timeout(LONGEST_PAUSE, written).await.expect("a write");
    }

    /// The same is seen again and again, for a long time.
    async fn nothing_new(&self) {
        for _ in 0..100 {
            self.tell();
            sleep(SETTLED).await;
        }
    }
}

fn objects() -> Objects {
    let service = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIPs": ["10.96.0.20"], "ports": [{"port": 80}]},
    });
    Objects {
        services: vec![Arc::new(serde_json::from_value(service).unwrap())],
        slices: Vec::new(),
        pods: Vec::new(),
        splits: Vec::new(),
        routes: Vec::new(),
        tls_routes: Vec::new(),
        links: Vec::new(),
        policies: None,
    }
}

fn with_route(route: &Value) -> Objects {
    let route: HTTPRoute = serde_json::from_value(route.clone()).unwrap();
    Objects {
        routes: vec![Arc::new(route)],
        ..objects()
    }
}

fn route() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "shop", "generation": 3},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
        },
        "status": {"parents": [theirs("v1")]},
    })
}

/// What another controller says.
fn theirs(version: &str) -> Value {
    json!({"controllerName": "example.com/gateway", "parentRef": {"name": "edge"}, "v": version})
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_route_is_written_once() {
    let server = ApiServer::new(ROUTE, route(), with_route);
    let keeping = server.keep::<HTTPRoute>();
    server.written().await;
    server.nothing_new().await;
    assert_eq!(server.answers(), [200]);
    let parents = server.object()["status"]["parents"].clone();
    assert_eq!(parents[0], theirs("v1"));
    assert_eq!(parents[1]["controllerName"], "mesh.dev/control");
    assert_eq!(parents[1]["parentRef"]["port"], 80);
    let condition = |at: usize| parents[1]["conditions"][at].clone();
    for (at, kind) in ["Accepted", "ResolvedRefs"].into_iter().enumerate() {
        assert_eq!(condition(at)["type"], kind);
        assert_eq!(condition(at)["status"], "True");
        assert_eq!(condition(at)["observedGeneration"], 3);
    }
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_holds_up_no_other() {
    let with_another = |route: &Value| {
        let mut all = with_route(route);
        let mut another = route.clone();
        another["metadata"]["name"] = "all".into();
        let another: HTTPRoute = serde_json::from_value(another).unwrap();
        all.routes.push(Arc::new(another));
        all
    };
    for refusal in [400, 403, 422, 429, 500, 503] {
        let server = ApiServer {
            refusal,
            ..ApiServer::new(ROUTE, route(), with_another)
        };
        let keeping = server.keep::<HTTPRoute>();
        server.written().await;
        assert_eq!(server.answers().first(), Some(&200), "{refusal}");
        keeping.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_controller_says_meanwhile_is_kept() {
    let server = ApiServer::new(ROUTE, route(), with_route);
    server.edit(|route| route["status"]["parents"] = json!([theirs("v2")]));
    let keeping = server.keep::<HTTPRoute>();
    server.written().await;
    server.tell();
    server.written().await;
    server.nothing_new().await;
    let answers = server.answers();
    assert!(
        answers.iter().filter(|code| **code == 200).count() == 1,
        "{answers:?}"
    );
    let parents = &server.object()["status"]["parents"];
    assert_eq!(parents[0], theirs("v2"));
    assert_eq!(parents[1]["controllerName"], "mesh.dev/control");
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_route_of_services_no_more_loses_what_we_said() {
    let server = ApiServer::new(ROUTE, route(), with_route);
    let keeping = server.keep::<HTTPRoute>();
    server.written().await;
    server.edit(|route| route["spec"]["parentRefs"] = json!([{"name": "edge"}]));
    server.tell();
    server.written().await;
    server.nothing_new().await;
    assert_eq!(server.answers(), [200, 200]);
    assert_eq!(server.object()["status"]["parents"], json!([theirs("v1")]));
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_tls_route_is_written_once_for_what_it_is_now() {
    const PATH: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/tlsroutes/web";
    let mut object = route();
    object["spec"]["hostnames"] = json!(["web.example"]);
    let server = ApiServer::new(PATH, object, |route| Objects {
        tls_routes: vec![Arc::new(serde_json::from_value(route.clone()).unwrap())],
        ..objects()
    });
    let keeping = server.keep::<TLSRoute>();
    server.written().await;
    server.nothing_new().await;
    assert_eq!(server.answers(), [200]);
    let parents = &server.object()["status"]["parents"];
    assert_eq!(parents[0], theirs("v1"));
    assert_eq!(parents[1]["controllerName"], "mesh.dev/control");
    let accepted = &parents[1]["conditions"][0];
    assert_eq!(accepted["status"], "True", "{accepted}");
    keeping.abort();
}

const POLICY: &str = "/apis/mesh.dev/v1alpha1/namespaces/shop/authorizationpolicies/web";

fn with_policy(policy: &Value) -> Objects {
    let policy: AuthorizationPolicy = serde_json::from_value(policy.clone()).unwrap();
    let server = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {}, "port": 80},
    });
    Objects {
        policies: Some(PolicyObjects {
            servers: vec![Arc::new(serde_json::from_value(server).unwrap())],
            authorizations: vec![Arc::new(policy)],
            ..PolicyObjects::default()
        }),
        ..objects()
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_policy_is_written_once_for_what_it_is_now() {
    let reference = |name: &str| json!({"group": "mesh.dev", "kind": "Server", "name": name});
    let theirs = json!({
        "type": "Reviewed", "status": "True", "reason": "R", "message": "by a person",
        "lastTransitionTime": "2026-11-20T10:00:00Z",
    });
    let policy = json!({
        "metadata": {"name": "web", "namespace": "shop", "generation": 1},
        "spec": {"targetRef": reference("wbe"), "requiredAuthenticationRefs": []},
        "status": {"conditions": [theirs]},
    });
    let server = ApiServer::new(POLICY, policy, with_policy);
    let keeping = server.keep::<AuthorizationPolicy>();
    server.written().await;
    server.nothing_new().await;
    let accepted = server.object()["status"]["conditions"][0].clone();
    assert_eq!(accepted["reason"], "TargetNotFound");
    assert_eq!(
        accepted["message"],
        "there is no Server wbe: it admits nobody"
    );

    server.edit(|policy| {
        policy["spec"]["targetRef"] = reference("web");
        policy["metadata"]["generation"] = 2.into();
    });
    server.tell();
    server.written().await;
    server.nothing_new().await;
    assert_eq!(server.answers(), [200, 200]);
    let conditions = server.object()["status"]["conditions"].clone();
    assert_eq!(conditions[0]["status"], "True");
    assert_eq!(conditions[0]["observedGeneration"], 2);
    assert_eq!(conditions[1], theirs);
    keeping.abort();
}
