//! Several ways to a gateway, and a gateway that comes and goes.

use std::{
    net::IpAddr,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mesh_lab::fault::network::{black_hole_address, refuse};
use serde_json::Value;

use super::installed::{EAST, LINK, WEST, answer, client, linked, mesh};
use crate::shared::{Shared, eventually, patiently};

const SPLIT: &str = include_str!("../../../manifests/split-west.yaml");

/// What load told: a report for each second, and one of all.
struct Told {
    seconds: Vec<Value>,
    all: Value,
}

/// Load of 100 requests a second.
fn load(shared: &std::sync::Arc<Shared>, url: &'static str, seconds: u64) -> JoinHandle<Told> {
    let shared = shared.clone();
    thread::spawn(move || {
        let duration = format!("{seconds}s");
        let words = ["load", url, "--rate", "100", "--duration", &duration];
        let more = ["--timeout", "12s", "--timeline", "--json"];
        let text = match client(&shared, &[&words[..], &more].concat()) {
            // It fails when a request has; how many may is said by the test.
            Ok(text) | Err(text) => text,
        };
        let lines = text.lines().filter_map(|line| {
            let object = line.get(line.find('{')?..=line.rfind('}')?)?;
            serde_json::from_str::<Value>(object).ok()
        });
        let (seconds, whole): (Vec<_>, Vec<_>) = lines.partition(|line| line["t"].is_u64());
        let all = whole.last().unwrap_or_else(|| panic!("no report: {text}"));
        Told {
            seconds,
            all: all.clone(),
        }
    })
}

fn addresses(shared: &Shared) -> Vec<IpAddr> {
    let path = "-o=jsonpath={.status.loadBalancer.ingress[*].ip}";
    let words = ["-n", "mesh-multicluster", "get", "service", "mesh-gateway"];
    let text = shared
        .cluster(EAST)
        .kubectl(&[&words[..], &[path]].concat())
        .expect("the Service");
    text.split_whitespace()
        .map(|text| text.parse().expect("an address"))
        .collect()
}

/// Gives east's gateway so many addresses of each family, and tells west.
fn with_addresses(shared: &Shared, count: usize) -> Vec<IpAddr> {
    let before = addresses(shared);
    let families = before.iter().filter(|ip| ip.is_ipv4()).count().min(1)
        + before.iter().filter(|ip| ip.is_ipv6()).count().min(1);
    let east = shared.cluster(EAST);
    let annotation = format!("lab.mesh.dev/addresses={count}");
    let words = ["-n", "mesh-multicluster", "annotate", "service"];
    let words = [&words[..], &["mesh-gateway", "--overwrite", &annotation]].concat();
    east.kubectl(&words).expect("the Service");
    eventually("it has its addresses", east, || {
        addresses(shared).len() == count * families
    });
    mesh(&LINK, "");
    let now = addresses(shared);
    let west = shared.cluster(WEST);
    eventually("west's link has them", west, || {
        let link = west.kubectl(&["get", "links.mesh.dev", EAST, "-o", "json"]);
        link.is_ok_and(|link| now.iter().all(|ip| link.contains(&format!("\"{ip}\""))))
    });
    now
}

#[test]
fn one_address_of_a_gateway_is_black_holed_and_no_request_fails() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    let addresses = with_addresses(&shared, 2);
    eventually("east answers", west, || {
        client(&shared, &["get", "http://web-east"]).is_ok()
    });

    let load = load(&shared, "http://web-east", 30);
    thread::sleep(Duration::from_secs(5));
    let fault = black_hole_address(west, east, addresses[0], 4143).unwrap();
    let told = load.join().expect("the load");
    fault.undo().unwrap();
    with_addresses(&shared, 1);

    // What was under way when it happened is noticed within 5 s and repeated.
    let late = told.seconds.iter().filter(|s| s["t"].as_u64() >= Some(12));
    let failed: u64 = late.filter_map(|second| second["failed"].as_u64()).sum();
    assert_eq!(failed, 0, "{}", told.all);
    assert_rarely_failed(&told);
}

#[test]
fn r2_a_gateway_that_flaps_every_5_seconds_makes_no_more_than_one_swing_a_minute() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    west.apply(SPLIT).unwrap();
    let answered_by = |cluster: &str| {
        let get = ["get", "http://web", "--timeout", "3s"];
        client(&shared, &get).is_ok_and(|text| answer(&text)["cluster"] == cluster)
    };
    patiently("east answers for web", west, || answered_by(EAST));

    let load = load(&shared, "http://web", 70);
    thread::sleep(Duration::from_secs(5));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let fault = refuse(west, east, 4143).unwrap();
        thread::sleep(Duration::from_secs(5));
        fault.undo().unwrap();
        thread::sleep(Duration::from_secs(5));
    }
    let told = load.join().expect("the load");
    let by: Vec<&str> = told.seconds.iter().filter_map(mostly).collect();
    println!("answered, second by second: {by:?}");
    let swings = by.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((1..=2).contains(&swings), "{swings} swings: {by:?}");
    assert_rarely_failed(&told);

    patiently("east answers again", west, || answered_by(EAST));
    west.kubectl(&["-n", "shop", "delete", "trafficsplit", "web"])
        .unwrap();
    eventually("web is west's again", west, || answered_by(WEST));
}

/// Of requests that may be repeated no more than one in a thousand fails.
fn assert_rarely_failed(told: &Told) {
    let count = |name: &str| told.all[name].as_u64().expect("a count");
    assert!(count("failed") * 1000 <= count("total"), "{}", told.all);
}

/// The cluster that answered most in this second.
fn mostly(second: &Value) -> Option<&str> {
    let clusters = second["clusters"].as_object()?;
    let most = clusters.iter().max_by_key(|(_, count)| count.as_u64())?;
    Some(most.0)
}
