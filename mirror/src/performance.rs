//! How fast, how large and how quiet: in a process of its own, whose memory
//! holds the API server and the peers too.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_tls::Clock;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{
    controller,
    fake_api::FakeApi,
    fake_peer::{Peers, link_object, links},
    importer::Context,
    local::Local,
    metrics::Metrics,
    writer::Writer,
};

const MANY: usize = 5000;
const NAMESPACES: usize = 50;
const MEMORY_KIB: usize = 256 * 1024;

#[test]
fn m8_five_thousand_services_are_mirrored_fast_small_and_quietly() {
    alone("performance::many");
}

#[test]
fn m8_a_link_that_floods_us_leaves_others_fresh() {
    alone("performance::flood");
}

/// Runs one of the ignored tests below alone.
fn alone(test: &str) {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args([test, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}\n{why}");
}

#[tokio::test]
#[ignore = "the test above runs it"]
async fn many() {
    let place = Place::new(&["east"]);
    for number in 0..MANY {
        place.export("east", number, 80);
    }
    let start = Instant::now();
    let _tasks = place.start();
    place.until(30, || place.mirrors() == MANY).await;
    println!("{MANY} Services mirrored after {:?}", start.elapsed());
    let calls = place.quiet_for(Duration::from_secs(5)).await;
    println!("{calls} API calls in all, none while nothing changes");
    let mut delays = place.change(300, Duration::from_millis(40)).await;
    delays.sort();
    let (p50, p99) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
    println!("a change is visible after {p50:?} (p50), {p99:?} (p99)");
    assert!(p99 <= Duration::from_secs(1), "{p99:?}");
    assert_memory();
}

#[tokio::test]
#[ignore = "the test above runs it"]
async fn flood() {
    let place = Place::new(&["east", "calm"]);
    place.peers.says("east", |says| {
        for number in 0..100_000 {
            let key = (format!("ns{}", number % NAMESPACES), format!("s{number}"));
            says.services.insert(key, 80);
        }
    });
    let _tasks = place.start();
    place.until(30, || place.mirrors() == MANY).await;
    println!("the quota of {MANY} is reached, and kept");
    let mut worst = Duration::ZERO;
    let start = Instant::now();
    for round in 1..=40_u16 {
        // 5,000 changes a second.
        place.peers.says("east", |says| {
            let ports = says.services.values_mut().skip(usize::from(round) * 100);
            ports.take(1250).for_each(|port| *port = 80 + round);
        });
        if round % 10 == 0 {
            let changed = Instant::now();
            place.export("calm", usize::from(round), 80);
            let path = mirror_path("calm", usize::from(round));
            place.until(30, || place.api.get(&path).is_some()).await;
            worst = worst.max(changed.elapsed());
        }
        sleep(Duration::from_millis(250)).await;
    }
    println!(
        "{:?} of flood: the other link is behind by {worst:?} at most",
        start.elapsed()
    );
    assert!(place.api.count("-east") <= MANY);
    assert_memory();
}

/// A cluster with links, and their peers.
struct Place {
    api: FakeApi,
    peers: Peers,
    links: watch::Sender<Option<Arc<mesh_core::link::Links>>>,
}

impl Place {
    fn new(names: &[&str]) -> Self {
        let api = FakeApi::with_events(32 * 1024);
        for name in names {
            let path = format!("/apis/mesh.dev/v1alpha1/links/{name}");
            api.put(&path, link_object(name, &format!("uid-of-{name}")));
        }
        for number in 0..NAMESPACES {
            let name = format!("ns{number}");
            let object = json!({ "metadata": { "name": name } });
            api.put(&format!("/api/v1/namespaces/{name}"), object);
        }
        Self {
            api,
            peers: Peers::start(names),
            links: watch::Sender::new(Some(Arc::new(links(names)))),
        }
    }

    fn export(&self, link: &str, number: usize, port: u16) {
        let key = (format!("ns{}", number % NAMESPACES), format!("s{number}"));
        self.peers.says(link, |says| {
            says.services.insert(key, port);
        });
    }

    fn start(&self) -> JoinSet<()> {
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
        tasks
    }

    fn mirrors(&self) -> usize {
        self.api.count("-east")
    }

    async fn until(&self, seconds: u64, wish: impl Fn() -> bool) {
        let start = Instant::now();
        while !wish() {
            assert!(
                start.elapsed() < Duration::from_secs(seconds),
                "it takes too long"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until no call is made for so long; says how many there were.
    async fn quiet_for(&self, quiet: Duration) -> usize {
        let start = Instant::now();
        let (mut calls, mut since) = (self.api.calls(), Instant::now());
        while since.elapsed() < quiet {
            sleep(Duration::from_millis(50)).await;
            if self.api.calls() != calls {
                (calls, since) = (self.api.calls(), Instant::now());
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "it is never quiet"
            );
        }
        calls
    }

    /// Changes Services one after the other, and says how long each change
    /// took to be seen here.
    async fn change(&self, count: usize, pace: Duration) -> Vec<Duration> {
        let mut delays = Vec::new();
        let mut pending: BTreeMap<usize, Instant> = BTreeMap::new();
        let mut next = 0;
        let mut due = Instant::now();
        while next < count || !pending.is_empty() {
            if next < count && due <= Instant::now() {
                self.export("east", next, 81);
                pending.insert(next, Instant::now());
                next += 1;
                due += pace;
            }
            pending.retain(|number, changed| {
                let mirror = self.api.get(&mirror_path("east", *number));
                let seen = mirror.is_some_and(|mirror| port(&mirror) == Some(81));
                if seen {
                    delays.push(changed.elapsed());
                }
                assert!(
                    changed.elapsed() < Duration::from_secs(20),
                    "s{number} is not seen"
                );
                !seen
            });
            sleep(Duration::from_millis(5)).await;
        }
        delays
    }
}

fn mirror_path(link: &str, number: usize) -> String {
    let namespace = number % NAMESPACES;
    format!("/api/v1/namespaces/ns{namespace}/services/s{number}-{link}")
}

fn port(service: &Value) -> Option<u64> {
    service["spec"]["ports"][0]["port"].as_u64()
}

/// The largest that this process ever was.
fn assert_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("{} MiB at most, API server and peer included", kib / 1024);
    assert!(kib <= MEMORY_KIB, "{kib} KiB");
}
