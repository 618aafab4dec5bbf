//! Traffic goes on while things break.

use std::time::{Duration, Instant};

use anyhow::Result;
use mesh_lab::{
    cluster::Container,
    fault::{
        Fault,
        network::{Way, black_hole, cut, refuse},
        path::bad_path,
        programs::freeze_container,
    },
    relay::path::Path,
};
use serde_json::Value;

use super::{
    audited::nothing_lost_nothing_twice,
    installed::{EAST, Load, WEST, answer, call, client, linked, rolled_out},
};
use crate::shared::{Shared, eventually, patiently};

const SPLIT: &str = include_str!("../../../manifests/split-west.yaml");

#[test]
fn east_s_pods_are_replaced_and_no_request_fails() {
    let shared = linked();
    let before = pods(&shared, EAST);
    let load = Load::start(&shared, "http://web-east", "20s");
    let east = shared.cluster(EAST);
    east.kubectl(&["-n", "shop", "rollout", "restart", "deploy/web"])
        .unwrap();
    rolled_out(&shared, EAST, "shop", "web");
    assert!(!load.is_over(), "the load ended before the pods");
    let report = load.report();
    let answered = report["pods"].as_object().expect("counts by pod");
    let new = answered.keys().filter(|pod| !before.contains(pod)).count();
    assert!(new >= 1, "new pods answered too: {report}");
}

#[test]
fn r12_when_east_s_pods_are_gone_west_answers_and_east_again_when_they_are_back() {
    let shared = linked();
    let west = shared.cluster(WEST);
    let east = shared.cluster(EAST);
    let answered_by = |cluster: &str| {
        client(&shared, &["get", "http://web"])
            .is_ok_and(|text| answer(&text)["cluster"] == cluster)
    };
    west.apply(SPLIT).unwrap();
    patiently("east answers for web", west, || answered_by(EAST));

    let load = Load::start(&shared, "http://web", "25s");
    let scale = |replicas: &str| {
        let count = format!("--replicas={replicas}");
        east.kubectl(&["-n", "shop", "scale", "deploy/web", &count])
            .unwrap();
    };
    scale("0");
    let took = eventually("west answers for web", west, || answered_by(WEST));
    println!("west answered after {took:?}");
    scale("2");
    let took = eventually("east answers again", west, || answered_by(EAST));
    println!("east answered again after {took:?}");
    assert!(!load.is_over(), "the load ended before the fail-over");
    let report = load.report();
    for cluster in [EAST, WEST] {
        assert!(report["clusters"][cluster].as_u64() > Some(0), "{report}");
    }
    rolled_out(&shared, EAST, "shop", "web");
    nothing_lost_nothing_twice(&shared, &report);

    west.kubectl(&["-n", "shop", "delete", "trafficsplit", "web"])
        .unwrap();
    eventually("web is west's again", west, || answered_by(WEST));
}

#[test]
fn traffic_goes_on_without_control_planes() {
    let shared = linked();
    // What the sidecar knows it keeps; so it has to have asked before.
    call(&shared, &["get", "http://web-east"]);
    call(&shared, &["tcp", "web-east:9090"]);
    scale_control(&shared, 0);
    let gone = |cluster: &str| {
        let pods =
            shared
                .cluster(cluster)
                .kubectl(&["-n", "mesh-system", "get", "pods", "-o", "name"]);
        pods.is_ok_and(|pods| pods.trim().is_empty())
    };
    for cluster in [WEST, EAST] {
        eventually("mesh-control is gone", shared.cluster(cluster), || {
            gone(cluster)
        });
    }

    // While they are away, and while they come back and know little yet.
    let load = Load::start(&shared, "http://web-east", "20s");
    let tcp = call(&shared, &["tcp", "web-east:9090"]);
    assert_eq!(tcp["server"]["cluster"], "east");
    scale_control(&shared, 1);
    for cluster in [WEST, EAST] {
        rolled_out(&shared, cluster, "mesh-system", "mesh-control");
    }
    assert!(!load.is_over(), "the load ended before they were back");
    let report = load.report();
    assert!(report["clusters"]["east"].as_u64() > Some(0), "{report}");
    assert_eq!(
        call(&shared, &["get", "http://web-east"])["cluster"],
        "east"
    );
}

fn scale_control(shared: &Shared, replicas: u8) {
    let count = format!("--replicas={replicas}");
    for cluster in [WEST, EAST] {
        shared
            .cluster(cluster)
            .kubectl(&["-n", "mesh-system", "scale", "deploy/mesh-control", &count])
            .expect("the Deployment");
    }
}

/// The pods of `web`, but for those that are ending.
pub(super) fn pods(shared: &Shared, cluster: &str) -> Vec<String> {
    let cluster = shared.cluster(cluster);
    let list = cluster
        .kubectl(&["-n", "shop", "get", "pods", "-l", "app=web", "-o", "json"])
        .expect("a list");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let items = list["items"].as_array().expect("a list");
    items
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_bad_path_makes_requests_late_and_fails_none() {
    let shared = linked();
    let path = Path::default()
        .with_delay(Duration::from_millis(50))
        .and_then(|path| path.with_loss(0.02))
        .unwrap();
    let fault = bad_path(shared.cluster(WEST), shared.cluster(EAST), path).unwrap();
    let report = Load::start(&shared, "http://web-east", "10s").report();
    fault.undo().unwrap();
    let median = report["latency_ms"]["p50"].as_f64();
    assert!(median >= Some(100.0), "a round trip takes 100 ms: {report}");
}

/// How soon a dead cluster must be given up.
const FAIL_OVER: Duration = Duration::from_secs(15);

#[test]
fn r1_a_cluster_that_is_dead_in_any_way_is_left_within_15_seconds() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    west.apply(SPLIT).unwrap();
    let gateway = pod_of(&shared, EAST, "mesh-multicluster", "mesh-gateway");
    let gateway = Container {
        namespace: "mesh-multicluster",
        pod: &gateway,
        name: "mesh-gateway",
    };
    let port = 4143;
    let faults: [(&str, &dyn Fn() -> Result<Fault>); 4] = [
        ("refused", &|| refuse(west, east, port)),
        ("black-holed", &|| black_hole(west, east, port)),
        ("frozen", &|| freeze_container(east, gateway)),
        ("replies lost", &|| cut(east, west, Way::Forth)),
    ];
    for (name, fault) in faults {
        patiently("east answers for web", west, || answered_by(&shared, EAST));
        let fault = fault().unwrap();
        let start = Instant::now();
        eventually("west answers for web", west, || answered_by(&shared, WEST));
        let took = start.elapsed();
        println!("{name}: west answered after {took:?}");
        assert!(took < FAIL_OVER, "{name}: {took:?}");
        fault.undo().unwrap();
    }
    patiently("east answers again", west, || answered_by(&shared, EAST));
    west.kubectl(&["-n", "shop", "delete", "trafficsplit", "web"])
        .unwrap();
    eventually("web is west's again", west, || answered_by(&shared, WEST));
}

/// Whether `cluster` answers for `web` in west, soon.
fn answered_by(shared: &Shared, cluster: &str) -> bool {
    let get = ["get", "http://web", "--timeout", "3s"];
    client(shared, &get).is_ok_and(|text| answer(&text)["cluster"] == cluster)
}

fn pod_of(shared: &Shared, cluster: &str, namespace: &str, app: &str) -> String {
    let (label, path) = (
        format!("app={app}"),
        "-o=jsonpath={.items[0].metadata.name}",
    );
    let words = ["-n", namespace, "get", "pods", "-l", &label, path];
    shared.cluster(cluster).kubectl(&words).expect("a pod")
}
