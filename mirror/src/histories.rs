//! Random histories of a cluster and its peers, with crashes and lies, against
//! a model of what must be there in the end.
//!
//! `MESH_SEED` repeats one history, `MESH_RUNS` says how many there are. The
//! order of events is the seed's; jitter and timers are the program's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mesh_api::names;
use mesh_core::link::Links;
use mesh_tls::Clock;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    controller,
    fake_api::FakeApi,
    fake_peer::{Mood, Peers, link_object, links},
    importer::Context,
    local::Local,
    metrics::Metrics,
    writer::Writer,
};

/// `a-b` of `c` and `a` of `b-c` want one name.
const LINKS: [&str; 3] = ["east", "c", "b-c"];
const NAMES: [&str; 5] = ["a", "a-b", "web", "db", "api"];
const NAMESPACES: [&str; 2] = ["shop", "store"];
const LIES: [Mood; 7] = [
    Mood::Empty,
    Mood::Half,
    Mood::Garbage,
    Mood::Stranger,
    Mood::Silent,
    Mood::Refusing,
    Mood::Cut,
];

#[test]
fn m11_histories_with_crashes_and_lies_end_as_the_model_says() {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = match number("MESH_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = rand::random::<u32>().into();
            first..first + number("MESH_RUNS").unwrap_or(RUNS)
        }
    };
    println!("seeds {seeds:?}");
    for seed in seeds {
        println!("MESH_SEED={seed} repeats this history");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(live(seed));
    }
}

async fn live(seed: u64) {
    let mut history = History::start(seed);
    for _ in 0..STEPS {
        history.step();
        let pause = history.random.random_range(0..15_000);
        sleep(Duration::from_millis(pause)).await;
        assert_eq!(history.api.intrusions(), [""; 0]);
    }
    history.make_peace();
    history.settle().await;
    history.stays_quiet().await;
}

struct History {
    random: StdRng,
    api: FakeApi,
    peers: Peers,
    links: watch::Sender<Option<Arc<Links>>>,
    /// Two may run at once: the Lease is no lock.
    controllers: [Option<JoinSet<()>>; 2],
    link_uids: u64,
    told: Vec<String>,
}

impl History {
    fn start(seed: u64) -> Self {
        let mut history = Self {
            random: StdRng::seed_from_u64(seed),
            api: FakeApi::new(),
            peers: Peers::start(&LINKS),
            links: watch::Sender::new(Some(Arc::new(links(&LINKS)))),
            controllers: [None, None],
            link_uids: 0,
            told: Vec::new(),
        };
        for link in LINKS {
            history.toggle_link(link);
        }
        for namespace in NAMESPACES {
            history.toggle_namespace(namespace);
        }
        history.start_controller(0);
        history
    }

    fn start_controller(&mut self, index: usize) {
        let local = Local::new();
        let cx = Context {
            clock: Clock::SYSTEM,
            local: local.clone(),
            writer: Writer::new(self.api.client()),
            links: self.links.subscribe(),
            dial: self.peers.dial.clone(),
            probe: Arc::new(|_| Box::pin(async { Ok(()) })),
            metrics: Metrics::default(),
        };
        let mut tasks = JoinSet::new();
        local.follow(&self.api.client(), &mut tasks);
        tasks.spawn(async move { controller::run(&cx).await });
        self.controllers[index] = Some(tasks);
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.random).expect("not empty")
    }

    fn step(&mut self) {
        let (link, name) = (self.pick(&LINKS), self.pick(&NAMES));
        let namespace = self.pick(&NAMESPACES);
        let key = (namespace.to_owned(), name.to_owned());
        let mirror = format!("{}/services/{name}-{link}", namespace_path(namespace));
        let dice = self.random.random_range(0..30);
        self.told.push(format!("{dice} {link} {namespace}/{name}"));
        match dice {
            0..=8 => {
                let port = self.random.random_range(1..=3);
                self.peers.says(link, |says| {
                    says.services.insert(key, port);
                });
            }
            9..=11 => self.peers.says(link, |says| {
                says.services.remove(&key);
            }),
            12..=14 => {
                let lie = self.pick(&LIES);
                self.told.push(format!("{lie:?}"));
                self.peers.says(link, |says| says.mood = lie);
            }
            15..=16 => self.peers.says(link, |says| says.mood = Mood::Honest),
            17 => self.put_stranger(namespace, &mirror),
            18 => self.api.remove(&mirror),
            19 => self.edit(&mirror, |service| {
                service["spec"]["selector"] = json!({ "app": "mine" });
            }),
            20 => self.edit(&mirror, |service| {
                service["metadata"]["labels"][names::MANAGED_BY] = "me".into();
            }),
            21 => self.edit(&mirror, |service| {
                service["spec"]["ports"] = json!([{ "port": 99 }]);
            }),
            22 => self.toggle_namespace(namespace),
            23 => self.toggle_link(link),
            24 => self.turn_link(link),
            25 => self.api.set_faults(0.3, self.random.random()),
            26 => self.api.set_faults(0.0, 0),
            27 => self.api.break_watches(),
            28 => {
                let index = self.pick(&[0, 1]);
                self.controllers[index] = None;
            }
            _ => {
                let index = self.pick(&[0, 1]);
                self.start_controller(index);
            }
        }
    }

    fn put_stranger(&self, namespace: &str, path: &str) {
        if self.api.get(&namespace_path(namespace)).is_none() || self.api.get(path).is_some() {
            return;
        }
        let name = path.rsplit('/').next();
        self.api.put(
            path,
            json!({
                "metadata": { "namespace": namespace, "name": name },
                "spec": { "selector": { "app": "mine" }, "ports": [{ "port": 80 }] },
            }),
        );
    }

    fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        if self.api.get(path).is_some() {
            self.api.edit(path, edit);
        }
    }

    fn toggle_namespace(&self, namespace: &str) {
        let path = namespace_path(namespace);
        if self.api.get(&path).is_some() {
            for (below, _) in self.api.find(&format!("{path}/")) {
                self.api.remove(&below);
            }
            return self.api.remove(&path);
        }
        let object = json!({ "metadata": { "name": namespace } });
        self.api.put(&path, object);
    }

    fn toggle_link(&mut self, link: &str) {
        if self.api.get(&link_path(link)).is_some() {
            return self.api.remove(&link_path(link));
        }
        self.link_uids += 1;
        let uid = format!("link-{}", self.link_uids);
        self.api.put(&link_path(link), link_object(link, &uid));
    }

    fn turn_link(&self, link: &str) {
        self.edit(&link_path(link), |link| {
            let direction = &mut link["spec"]["direction"];
            *direction = if *direction == "Export" {
                "Both"
            } else {
                "Export"
            }
            .into();
        });
    }

    /// From here on everything works and everybody says the truth.
    fn make_peace(&mut self) {
        self.api.set_faults(0.0, 0);
        for link in LINKS {
            self.peers.says(link, |says| says.mood = Mood::Honest);
        }
        self.controllers[1] = None;
        if self.controllers[0].is_none() {
            self.start_controller(0);
        }
    }

    async fn settle(&self) {
        let start = Instant::now();
        while let Some(wrong) = self.wrong() {
            let (told, services) = (&self.told, self.api.find("/services/"));
            assert!(
                start.elapsed() < SETTLED,
                "{wrong}\nafter {told:#?}\n{services:#?}\n{:#?}",
                self.api.find("/links/")
            );
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// What is right stays right, and soon without a call: what Links and
    /// Events say of it is the last to be written.
    async fn stays_quiet(&self) {
        let start = Instant::now();
        let (mut calls, mut since) = (self.api.calls(), start);
        while since.elapsed() < QUIET {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(self.wrong(), None);
            if self.api.calls() != calls {
                (calls, since) = (self.api.calls(), Instant::now());
            }
            let writes = self.api.writes();
            let last = &writes[writes.len().saturating_sub(10)..];
            assert!(start.elapsed() < SETTLED, "it is never quiet: {last:#?}");
        }
        assert_eq!(self.api.intrusions(), [""; 0]);
    }

    /// The mirrors that should be there: by path, who may have them and how.
    fn wanted(&self) -> BTreeMap<String, BTreeSet<(String, u16)>> {
        let mut wanted: BTreeMap<String, BTreeSet<(String, u16)>> = BTreeMap::new();
        for name in LINKS {
            let Some(link) = self.api.get(&link_path(name)) else {
                continue;
            };
            if link["spec"]["direction"] == "Export" {
                continue;
            }
            let uid = link["metadata"]["uid"].as_str().expect("a uid").to_owned();
            for ((namespace, service), port) in &self.peers.peers[name].borrow().services {
                let namespace = namespace_path(namespace);
                if self.api.get(&namespace).is_some() {
                    let path = format!("{namespace}/services/{service}-{name}");
                    let owner = (uid.clone(), *port);
                    wanted.entry(path).or_default().insert(owner);
                }
            }
        }
        wanted
    }

    /// What differs from the model.
    fn wrong(&self) -> Option<String> {
        let mut wanted = self.wanted();
        for (path, service) in self.api.find("/services/") {
            let owners = wanted.remove(&path);
            if service["metadata"]["labels"][names::MANAGED_BY] != names::MIRROR_CONTROLLER {
                continue;
            }
            let uid = service["metadata"]["annotations"][names::LINK_UID].as_str();
            let ports = service["spec"]["ports"].as_array().map_or(0, Vec::len);
            let port = service["spec"]["ports"][0]["port"].as_u64();
            let is = |(owner, wanted): &(String, u16)| {
                uid == Some(owner) && port == Some((*wanted).into()) && ports == 1
            };
            let plain = service["spec"]["selector"].is_null();
            if !plain || !owners.is_some_and(|owners| owners.iter().any(is)) {
                return Some(format!("{path} should not be so"));
            }
        }
        wanted
            .keys()
            .next()
            .map(|path| format!("{path} is missing"))
    }
}

fn namespace_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}")
}

fn link_path(name: &str) -> String {
    format!("/apis/mesh.dev/v1alpha1/links/{name}")
}

const RUNS: u64 = 200;
const STEPS: usize = 30;
/// Lies about the cluster's uid take a minute to be believed, and a minute to
/// be taken back.
const SETTLED: Duration = Duration::from_secs(400);
/// Longer than any timer of ours.
const QUIET: Duration = Duration::from_secs(100);
