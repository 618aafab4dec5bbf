//! An API server in memory, for tests: objects with versions, preconditions,
//! merge patches and watches. It has no defaults, admission or schemas.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use mesh_api::names;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// How much of what happened is remembered.
const PAST: usize = 4096;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The server. Clones share it.
#[derive(Clone)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    version: u64,
    events: broadcast::Sender<(String, Value)>,
    /// What happened last, by version: a watch begins where its list ended.
    past: VecDeque<(u64, String, Value)>,
    /// Paths that answer 500.
    broken: BTreeSet<String>,
    /// Writes, as `METHOD path`.
    writes: Vec<String>,
    /// Requests, without watches: those end by themselves every few minutes.
    calls: usize,
    /// Whether nothing is answered.
    away: bool,
    /// How often a write goes wrong, and the dice.
    faults: f64,
    dice: StdRng,
    /// Writes to Services that are not ours.
    intrusions: Vec<String>,
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self::with_events(1024)
    }

    /// With room for so many events that a watch has not taken yet.
    pub(crate) fn with_events(events: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            version: 0,
            events: broadcast::channel(events).0,
            past: VecDeque::new(),
            broken: BTreeSet::new(),
            writes: Vec::new(),
            calls: 0,
            away: false,
            faults: 0.0,
            dice: StdRng::seed_from_u64(0),
            intrusions: Vec::new(),
        })))
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Puts an object there as a person would.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.state();
        state.store(path, object);
    }

    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        let mut object = state.objects[path].clone();
        edit(&mut object);
        state.store(path, object);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state().remove(path);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// Makes a path answer 500, or no longer.
    pub(crate) fn set_broken(&self, path: &str, broken: bool) {
        let mut state = self.state();
        if broken {
            state.broken.insert(path.into());
        } else {
            state.broken.remove(path);
        }
    }

    /// Makes this share of writes fail, or succeed without saying so.
    pub(crate) fn set_faults(&self, share: f64, seed: u64) {
        let mut state = self.state();
        state.faults = share;
        state.dice = StdRng::seed_from_u64(seed);
    }

    /// Takes the whole server away, or brings it back.
    pub(crate) fn set_away(&self, away: bool) {
        self.state().away = away;
        self.break_watches();
    }

    /// Ends all watches: whoever watches has to list again.
    pub(crate) fn break_watches(&self) {
        let _ = self.state().events.send((String::new(), expired()));
    }

    /// How many requests there were.
    pub(crate) fn calls(&self) -> usize {
        self.state().calls
    }

    /// Writes that nobody should have made.
    pub(crate) fn intrusions(&self) -> Vec<String> {
        self.state().intrusions.clone()
    }

    /// All objects whose path has this in it.
    pub(crate) fn find(&self, part: &str) -> Vec<(String, Value)> {
        let state = self.state();
        let found = state.objects.iter().filter(|(path, _)| path.contains(part));
        found
            .map(|(path, object)| (path.clone(), object.clone()))
            .collect()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        let state = self.state();
        state
            .objects
            .keys()
            .filter(|path| path.contains(part))
            .count()
    }

    /// All writes so far.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.state().writes.clone()
    }

    /// The writes to Services so far.
    pub(crate) fn service_writes(&self) -> Vec<String> {
        let state = self.state();
        let of_services = |write: &&String| write.contains("/services");
        state.writes.iter().filter(of_services).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default();
        if self.state().away {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "it is away");
        }
        if query.contains("watch=true") {
            return self.watch(&path, since(query));
        }
        self.state().calls += 1;
        let mut state = self.state();
        if head.method != Method::GET {
            state.writes.push(format!("{} {path}", head.method));
            state.audit(&head.method, &path);
        }
        let fault = head.method != Method::GET && state.fault();
        if fault && state.dice.random() {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "not today");
        }
        if state.broken.contains(&path) {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "it is broken");
        }
        let outcome = match head.method {
            Method::GET => state.read(&path),
            Method::POST => state.create(&path, body),
            Method::PATCH => state.patch(&path, &body),
            Method::PUT => state.replace(&path, body),
            Method::DELETE => state.delete(&path, &body),
            _ => Err(StatusCode::METHOD_NOT_ALLOWED),
        };
        if fault {
            // It is done, and nobody hears of it.
            return failure(StatusCode::GATEWAY_TIMEOUT, "the answer was lost");
        }
        outcome.map_or_else(
            |status| failure(status, status.as_str()),
            |object| success(&object),
        )
    }

    /// All that happens to a collection after a version.
    fn watch(&self, collection: &str, since: u64) -> Answer {
        let (past, events) = {
            let state = self.state();
            (state.since(since), state.events.subscribe())
        };
        let prefix = format!("{collection}/");
        let plural = collection.rsplit('/').next().unwrap_or_default().to_owned();
        // A watch that cannot keep up has missed something.
        let missed = || (String::new(), expired());
        let past = past.unwrap_or_else(|| vec![missed()]);
        let coming =
            BroadcastStream::new(events).map(move |event| event.unwrap_or_else(|_| missed()));
        let lines = stream::iter(past).chain(coming).filter_map(move |event| {
            let (path, event) = event;
            let namespaced = path.rsplit('/').nth(1) == Some(plural.as_str());
            // What is below a namespace is no namespace.
            let below = path.strip_prefix(&prefix);
            let within = below.is_some_and(|name| !name.contains('/'));
            let wanted = path.is_empty() || within || namespaced;
            let line = wanted.then(|| format!("{event}\n"));
            async move { line.map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(line)))) }
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let kind = if self.objects.contains_key(path) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = self.version.to_string().into();
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("uid-{}", self.version).into();
        }
        self.objects.insert(path.into(), object.clone());
        self.tell(path, kind, &object);
        object
    }

    fn remove(&mut self, path: &str) -> Option<Value> {
        let mut object = self.objects.remove(path)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(path, "DELETED", &object);
        Some(object)
    }

    fn tell(&mut self, path: &str, kind: &str, object: &Value) {
        let event = json!({ "type": kind, "object": object });
        if self.past.len() == PAST {
            self.past.pop_front();
        }
        let entry = (self.version, path.to_owned(), event.clone());
        self.past.push_back(entry);
        let _ = self.events.send((path.into(), event));
    }

    /// What has happened after a version, if that is known still.
    fn since(&self, version: u64) -> Option<Vec<(String, Value)>> {
        let oldest = self
            .past
            .front()
            .map_or(self.version, |(first, ..)| first - 1);
        let later = self.past.iter().filter(|(of, ..)| *of > version);
        (version >= oldest).then(|| {
            later
                .map(|(_, path, event)| (path.clone(), event.clone()))
                .collect()
        })
    }

    fn read(&self, path: &str) -> Result<Value, StatusCode> {
        if let Some(object) = self.objects.get(path) {
            return Ok(object.clone());
        }
        let plural = path.rsplit('/').next().unwrap_or_default();
        if !["services", "namespaces", "links", "leases"].contains(&plural) {
            return Err(StatusCode::NOT_FOUND);
        }
        let version = self.version.to_string();
        Ok(json!({ "metadata": { "resourceVersion": version }, "items": self.below(path) }))
    }

    /// The objects of a collection, in all namespaces.
    fn below(&self, collection: &str) -> Vec<Value> {
        let plural = collection.rsplit('/').next();
        let within = |path: &String| path.rsplit('/').nth(1) == plural;
        let objects = self.objects.iter().filter(|(path, _)| within(path));
        objects.map(|(_, object)| object.clone()).collect()
    }

    fn fault(&mut self) -> bool {
        self.faults > 0.0 && self.dice.random_bool(self.faults)
    }

    /// Notes a write to a Service that mesh-mirror did not make.
    fn audit(&mut self, method: &Method, path: &str) {
        let Some(object) = self.objects.get(path) else {
            return;
        };
        let metadata = &object["metadata"];
        let ours = metadata["labels"][names::MANAGED_BY] == names::MIRROR_CONTROLLER
            && metadata["annotations"][names::LINK_UID].is_string();
        if path.contains("/services/") && !ours {
            self.intrusions.push(format!("{method} {path}: {metadata}"));
        }
    }

    fn create(&mut self, collection: &str, object: Value) -> Result<Value, StatusCode> {
        let namespace = collection.strip_suffix("/services");
        if namespace.is_some_and(|path| !self.objects.contains_key(path)) {
            return Err(StatusCode::NOT_FOUND);
        }
        let name = object["metadata"]["name"]
            .as_str()
            .ok_or(StatusCode::BAD_REQUEST)?;
        let path = format!("{collection}/{name}");
        if self.objects.contains_key(&path) {
            return Err(StatusCode::CONFLICT);
        }
        Ok(self.store(&path, object))
    }

    fn patch(&mut self, path: &str, patch: &Value) -> Result<Value, StatusCode> {
        let path = path.trim_end_matches("/status");
        let mut object = self.unchanged(path, &patch["metadata"])?;
        merge(&mut object, patch);
        Ok(self.store(path, object))
    }

    fn replace(&mut self, path: &str, object: Value) -> Result<Value, StatusCode> {
        self.unchanged(path, &object["metadata"])?;
        Ok(self.store(path, object))
    }

    fn delete(&mut self, path: &str, options: &Value) -> Result<Value, StatusCode> {
        self.unchanged(path, &options["preconditions"])?;
        self.remove(path).ok_or(StatusCode::NOT_FOUND)
    }

    /// The object, if it is of the version and uid that are asked for.
    fn unchanged(&self, path: &str, wish: &Value) -> Result<Value, StatusCode> {
        let object = self.objects.get(path).ok_or(StatusCode::NOT_FOUND)?;
        let same = |key: &str| wish[key].is_null() || wish[key] == object["metadata"][key];
        if same("resourceVersion") && same("uid") {
            Ok(object.clone())
        } else {
            Err(StatusCode::CONFLICT)
        }
    }
}

/// The version that a watch begins at.
fn since(query: &str) -> u64 {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let version = pairs.find(|(key, _)| *key == "resourceVersion");
    version.map_or(0, |(_, version)| version.parse().unwrap())
}

/// The end of a watch that has missed something.
fn expired() -> Value {
    json!({ "type": "ERROR", "object": {
        "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version",
    } })
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn success(object: &Value) -> Answer {
    Response::new(Full::from(object.to_string()).boxed_unsync())
}

fn failure(status: StatusCode, message: &str) -> Answer {
    let object = json!({
        "kind": "Status",
        "status": "Failure",
        "code": status.as_u16(),
        "message": message,
        "reason": match status {
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::CONFLICT => "Conflict",
            _ => "InternalError",
        },
    });
    let mut response = success(&object);
    *response.status_mut() = status;
    response
}
