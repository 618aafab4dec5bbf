//! How fast, and at what price, traffic leaves a cluster and comes back.
//!
//! 500 requests a second to `web`, which east answers first. Then east's pods or
//! its gateway are away for 20 s. The load says per second who answered.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mesh_lab::fault::network::{black_hole, refuse};
use serde_json::Value;

use super::installed::{EAST, WEST, answer, client, linked, rolled_out};
use crate::shared::{Shared, eventually};

const SPLIT: &str = include_str!("../../../manifests/split-west.yaml");
/// When it breaks and when it is whole again, in seconds of the load.
const BREAKS: u64 = 8;
const WHOLE: u64 = 28;
const SECONDS: &str = "66s";

/// What happened in one second of the load.
struct Second {
    east: u64,
    west: u64,
}

/// What the load saw.
struct Seen {
    seconds: Vec<Second>,
    total: u64,
    failed: u64,
}

impl Seen {
    fn read(said: &str) -> Self {
        let lines = said.lines().filter(|line| line.starts_with('{'));
        let values: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let count = |value: &Value, cluster: &str| value["clusters"][cluster].as_u64().unwrap_or(0);
        let report = values.last().expect("a report");
        println!("load: {report}");
        Self {
            seconds: values
                .iter()
                .filter(|value| value.get("t").is_some())
                .map(|value| Second {
                    east: count(value, EAST),
                    west: count(value, WEST),
                })
                .collect(),
            total: report["total"].as_u64().expect("a count"),
            failed: report["failed"].as_u64().expect("a count"),
        }
    }

    /// Seconds from `since` until nearly all is answered by `cluster`.
    fn moved(&self, since: u64, cluster: &str) -> Option<usize> {
        let since = usize::try_from(since).ok()?;
        let rest = self.seconds.iter().skip(since);
        let share = |second: &Second| match cluster {
            EAST => (second.east, second.west),
            _ => (second.west, second.east),
        };
        rest.map(share)
            .position(|(theirs, others)| theirs > 0 && others * 20 < theirs)
    }

    /// How often the cluster that answers most has changed.
    fn swings(&self) -> usize {
        let east_leads: Vec<bool> = self
            .seconds
            .iter()
            .filter(|second| second.east + second.west > 0)
            .map(|second| second.east > second.west)
            .collect();
        east_leads.windows(2).filter(|two| two[0] != two[1]).count()
    }
}

/// Runs the load, breaks and mends, and returns what the load saw.
fn broken_for_20_seconds<'a>(
    shared: &Arc<Shared>,
    name: &str,
    breaks: impl FnOnce() -> Box<dyn FnOnce() + 'a>,
) -> Seen {
    let west = shared.cluster(WEST);
    eventually("east answers for web", west, || {
        client(shared, &["get", "http://web", "--timeout", "3s"])
            .is_ok_and(|text| answer(&text)["cluster"] == EAST)
    });
    let start = Instant::now();
    let load = {
        let shared = shared.clone();
        thread::spawn(move || {
            let load = ["load", "http://web", "--rate", "500", "--duration", SECONDS];
            // What a second of requests brings waits for a black hole's
            // discovery; a client of this rate has room for that.
            let room = ["--connections", "3000", "--in-flight", "3000"];
            let told = ["--timeline", "--json"];
            client(&shared, &[&load[..], &room, &told].concat())
        })
    };
    let until = |second: u64| {
        west.wait_for("the moment", Duration::from_secs(60), || {
            start.elapsed() >= Duration::from_secs(second)
        })
        .expect("time passes");
    };
    until(BREAKS);
    let mend = breaks();
    until(WHOLE);
    mend();
    let said = load.join().expect("the thread ends");
    let seen = Seen::read(&said.unwrap_or_else(|error| panic!("the load: {error}")));
    let (left, back) = (seen.moved(BREAKS, WEST), seen.moved(WHOLE, EAST));
    println!(
        "{name}: {} of {} failed; in west after {left:?} s; back in east after {back:?} s; {} swings",
        seen.failed,
        seen.total,
        seen.swings()
    );
    seen
}

/// The bars: at most 0.1 % of idempotent requests fail, traffic has
/// moved `within` so many seconds, and is back within 30 s without a swing.
fn check(name: &str, seen: &Seen, within: usize) {
    assert!(seen.failed * 1000 <= seen.total, "{name}: too many failed");
    // The load's first second is not exactly ours.
    let left = seen.moved(BREAKS, WEST);
    assert!(left.is_some_and(|s| s <= within + 1), "{name}: {left:?}");
    let back = seen.moved(WHOLE, EAST);
    assert!(back.is_some_and(|s| s <= 31), "{name}: {back:?}");
    assert_eq!(seen.swings(), 2, "{name}: there and back");
}

#[test]
#[ignore = "measures for 4 minutes: name it to run it"]
fn r1_traffic_moves_to_west_and_back_when_east_s_pods_or_its_gateway_are_away() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    west.apply(SPLIT).unwrap();
    let scale = |what: &str, namespace: &str, replicas: &str| {
        let (what, count) = (format!("deploy/{what}"), format!("--replicas={replicas}"));
        let scale = ["-n", namespace, "scale", &what, &count];
        shared.cluster(EAST).kubectl(&scale).expect("scaled");
    };
    let pods = broken_for_20_seconds(&shared, "pods", || {
        scale("web", "shop", "0");
        let kill = ["-n", "shop", "delete", "pods", "-l", "app=web"];
        east.kubectl(&[&kill[..], &["--force", "--grace-period=0"]].concat())
            .unwrap();
        Box::new(|| scale("web", "shop", "2"))
    });
    rolled_out(&shared, EAST, "shop", "web");
    let refused = broken_for_20_seconds(&shared, "gateway refused", || {
        let fault = refuse(west, east, 4143).unwrap();
        Box::new(|| fault.undo().unwrap())
    });
    let silent = broken_for_20_seconds(&shared, "gateway black-holed", || {
        let fault = black_hole(west, east, 4143).unwrap();
        Box::new(|| fault.undo().unwrap())
    });
    west.kubectl(&["-n", "shop", "delete", "trafficsplit", "web"])
        .unwrap();
    check("pods", &pods, 2);
    check("gateway refused", &refused, 2);
    check("gateway black-holed", &silent, 10);
}
