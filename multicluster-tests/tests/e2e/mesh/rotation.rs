//! East's root is replaced while west's requests go on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::installed::{EAST, Load, WEST, linked, mesh};
use crate::shared::{Shared, eventually};

/// How long everything may take to be trusted, signed or closed.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn t5_east_s_root_rotates_and_no_request_fails_and_nothing_restarts() {
    let shared = linked();
    let (west, before) = (shared.cluster(WEST), running(&shared));
    let old = roots(&shared);
    assert_eq!(old.len(), 1, "no rotation is under way");
    let load = Load::at(&shared, "1000", "http://web-east", "150s");

    rotate(&["begin"]);
    eventually("west has heard of both roots", west, || {
        heard(&shared).len() == 2
    });
    // Waits that only an explicit word leaves out.
    refused(&["use"]);
    rotate(&["use", "--now"]);
    let both = roots(&shared);
    assert_ne!(both[0], old[0], "the new root signs");
    eventually("everybody in east has a new certificate", west, || {
        workloads_of(&shared, &both[0])
    });
    refused(&["finish"]);
    rotate(&["finish", "--now"]);

    let start = Instant::now();
    let new = vec![both[0].clone()];
    eventually("west trusts the new root alone", west, || {
        heard(&shared) == new
    });
    // Old connections are closed while the load goes on.
    west.wait_for("old connections are closed", SOON * 2, || {
        assert!(!load.is_over(), "the load ended before the rotation");
        start.elapsed() > SOON
    })
    .expect("time passes");
    let report = load.report();
    assert!(report["clusters"][EAST].as_u64() > Some(0), "{report}");
    assert_eq!(running(&shared), before, "nothing was restarted");
}

fn rotate(step: &[&str]) {
    let words = ["trust", "rotate", "--context", EAST];
    println!("{step:?}: {}", mesh(&[&words[..], step].concat(), ""));
}

/// The step must come too early.
fn refused(step: &[&str]) {
    let words = ["trust", "rotate", "--context", EAST];
    let words = [&words[..], step].concat();
    let run = std::panic::catch_unwind(|| mesh(&words, ""));
    let said = run.expect_err("it is too early");
    let said = said.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(said.contains("too early"), "{said}");
}

/// The fingerprints of east's roots, the one that signs first.
fn roots(shared: &Shared) -> Vec<String> {
    let map = ["-n", "mesh-system", "get", "configmap", "mesh-roots"];
    let path = "-o=jsonpath={.data.ca\\.crt}";
    let east = shared.cluster(EAST);
    let pem = east.kubectl(&[&map[..], &[path]].concat()).expect("roots");
    fingerprints(&pem)
}

/// The roots of east that west knows.
fn heard(shared: &Shared) -> Vec<String> {
    let path = "-o=jsonpath={.status.bundle}";
    let west = shared.cluster(WEST);
    let pem = west.kubectl(&["get", "link", EAST, path]);
    fingerprints(&pem.unwrap_or_default())
}

fn fingerprints(pem: &str) -> Vec<String> {
    let roots = mesh_tls::parse_bundle(pem).unwrap_or_default();
    roots
        .iter()
        .map(|root| mesh_tls::fingerprint(root))
        .collect()
}

/// Whether all that east's programs show was issued under `root`: they say so
/// in their logs once.
fn workloads_of(shared: &Shared, root: &str) -> bool {
    let east = shared.cluster(EAST);
    let said = |words: &[&str]| {
        let log = [&["logs", "--since=60s"][..], words].concat();
        let log = east.kubectl(&log).unwrap_or_default();
        log.contains("another root signs") && log.rfind("certified") > log.rfind("another root")
    };
    roots(shared).first().is_some_and(|first| first == root)
        && said(&["-n", "mesh-multicluster", "deploy/mesh-gateway"])
        && said(&["-n", "shop", "deploy/web", "-c", "mesh-proxy"])
}

/// Every pod by its uid, with the restarts of its containers.
fn running(shared: &Shared) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (cluster, namespace) in [
        (WEST, "shop"),
        (EAST, "shop"),
        (WEST, "mesh-system"),
        (EAST, "mesh-system"),
        (WEST, "mesh-multicluster"),
        (EAST, "mesh-multicluster"),
    ] {
        let words = ["-n", namespace, "get", "pods", "-o", "json"];
        let list = shared.cluster(cluster).kubectl(&words).expect("a list");
        let list: Value = serde_json::from_str(&list).expect("JSON");
        for pod in list["items"].as_array().expect("a list") {
            let status = &pod["status"];
            let containers = ["containerStatuses", "initContainerStatuses"]
                .iter()
                .filter_map(|kind| status[kind].as_array())
                .flatten();
            let restarts = containers.filter_map(|one| one["restartCount"].as_u64());
            let uid = pod["metadata"]["uid"].as_str().expect("a uid");
            all.insert(format!("{cluster} {uid}"), restarts.sum());
        }
    }
    all
}
