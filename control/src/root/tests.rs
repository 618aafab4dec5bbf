//! Replicas that follow the Secret of a scripted API server.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use k8s_openapi::serde_json::{self, Value, json};
use kube::client::Body;

use super::*;
use crate::rotation::secret::{CERTIFICATE, KEY, tests::secret as good_secret};

/// One Secret with a version, and the reasons of Events.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    secret: Secret,
    version: u64,
    events: Vec<String>,
}

impl Server {
    fn new() -> Self {
        let server = Self::default();
        server.put(good_secret());
        server
    }

    fn put(&self, mut secret: Secret) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        secret.metadata.resource_version = Some(state.version.to_string());
        state.secret = secret;
    }

    fn secret(&self) -> Secret {
        self.0.lock().unwrap().secret.clone()
    }

    fn edit(&self, edit: impl FnOnce(&mut Secret)) {
        let mut secret = self.secret();
        edit(&mut secret);
        self.put(secret);
    }

    fn wish(&self, wish: &str) {
        self.edit(|secret| {
            let annotations = secret.metadata.annotations.get_or_insert_default();
            annotations.insert(names::ROTATE_ROOT.to_owned(), wish.to_owned());
        });
    }

    fn annotation(&self, key: &str) -> Option<String> {
        self.secret().metadata.annotations?.get(key).cloned()
    }

    fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().events.clone()
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (code, answer) = server.answer(&head.method, head.uri.path(), &body);
                let answer = Body::from(answer.to_string().into_bytes());
                let response = Response::builder().status(code).body(answer);
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        if path.contains("/events") {
            let event: Value = serde_json::from_slice(body).unwrap();
            let reason = event["reason"].as_str().unwrap_or_default().to_owned();
            self.0.lock().unwrap().events.push(reason);
            return (201, event);
        }
        assert!(path.ends_with("/secrets/mesh-root"), "{path}");
        if *method == Method::PUT {
            let new: Secret = serde_json::from_slice(body).unwrap();
            if new.metadata.resource_version != self.secret().metadata.resource_version {
                let conflict = json!({
                    "kind": "Status", "status": "Failure", "code": 409,
                    "reason": "Conflict", "message": "changed",
                });
                return (409, conflict);
            }
            self.put(new);
        }
        (200, json!(self.secret()))
    }

    /// A replica that has just started.
    fn replica(&self) -> RootOfTrust {
        let held = read(&self.secret(), Clock::SYSTEM.now()).unwrap();
        let authority = Authority::new(&held.signing.pem(), "west".parse().unwrap()).unwrap();
        RootOfTrust::new(&self.client(), &held, authority, Metrics::default())
    }
}

/// What an authority signs ends in this root.
fn signs_with(replica: &RootOfTrust, root: &[u8]) -> bool {
    let key = mesh_tls::KeyRequest::generate().unwrap();
    let id = "spiffe://west/ns/shop/sa/web".parse().unwrap();
    let issued = replica
        .authority
        .issue(&id, key.csr_der(), Clock::SYSTEM.now())
        .unwrap();
    let certificate = key.certify(issued.leaf, issued.intermediates).unwrap();
    certificate.is_rooted_in(root)
}

#[tokio::test]
async fn t5_replicas_go_through_a_rotation_together_without_a_restart() {
    let server = Server::new();
    let mut replicas = [server.replica(), server.replica()];
    let now = Clock::SYSTEM.now();
    let old = replicas[0].published().borrow().der[0].clone();
    for (wish, roots, old_signs) in [
        ("begin", 2, true),
        ("use-now", 2, false),
        ("finish-now", 1, false),
    ] {
        server.wish(wish);
        let [one, other] = &mut replicas;
        // Both see the wish; one of them writes.
        tokio::join!(one.look(now), other.look(now));
        for replica in &mut replicas {
            replica.look(now).await;
            let published = replica.published().borrow().clone();
            assert_eq!(published.der.len(), roots, "{wish}");
            assert_eq!(published.der.contains(&old), roots == 2, "{wish}");
            assert!(signs_with(replica, &published.der[0]), "{wish}");
            assert_eq!(signs_with(replica, &old), old_signs, "{wish}");
        }
        let published = replicas.each_ref().map(|r| r.published().borrow().clone());
        assert_eq!(published[0], published[1], "{wish}");
        assert_eq!(server.annotation(names::ROTATE_ROOT), None);
    }
    assert_eq!(server.events(), ["RootRotation"; 3]);
}

#[tokio::test]
async fn t5_a_step_that_is_refused_changes_nothing_and_says_why() {
    let server = Server::new();
    let mut replica = server.replica();
    let before = server.secret().data;
    server.wish("finish");
    replica.look(Clock::SYSTEM.now()).await;
    assert_eq!(server.secret().data, before);
    let said = server.annotation(names::ROTATE_ROOT_REFUSED).unwrap();
    assert!(said.contains("begin first"), "{said}");
    assert_eq!(server.events(), ["RootRotationRefused"]);
}

#[tokio::test]
async fn i5_a_secret_that_has_become_wrong_leaves_the_last_good_root() {
    let server = Server::new();
    let mut replica = server.replica();
    let good = server.secret();
    let published = replica.published().borrow().clone();
    for spoil in [
        (|secret: &mut Secret| drop(secret.data.take())) as fn(&mut Secret),
        |secret| drop(secret.data.as_mut().unwrap().remove(KEY)),
        |secret| {
            let other = good_secret().data.unwrap().remove(CERTIFICATE);
            let data = secret.data.as_mut().unwrap();
            data.insert(CERTIFICATE.to_owned(), other.unwrap());
        },
    ] {
        server.put(good.clone());
        server.edit(spoil);
        replica.look(Clock::SYSTEM.now()).await;
        // Once is enough.
        replica.look(Clock::SYSTEM.now()).await;
        assert_eq!(*replica.published().borrow(), published);
        assert!(signs_with(&replica, &published.der[0]));
    }
    assert_eq!(server.events(), ["RootKept"; 3]);

    // And a good one is taken as soon as it is there.
    server.put(good_secret());
    replica.look(Clock::SYSTEM.now()).await;
    let new = replica.published().borrow().clone();
    assert_ne!(new, published);
    assert!(signs_with(&replica, &new.der[0]));
}
