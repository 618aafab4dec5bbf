//! Traffic goes on while what is above it is away: control planes, API servers.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mesh_lab::{cluster::Cluster, fault::programs::stop_program};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::installed::{EAST, Load, WEST, answer, client, linked, mesh, rolled_out};
use crate::shared::{Shared, eventually};

/// A load that needs no API server while it runs.
const LOADER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: loader, namespace: shop}
spec:
  restartPolicy: Never
  serviceAccountName: client
  containers:
    - name: load
      image: mesh.dev/testapp:dev
      args: [load, "http://web-east", --rate, "100", --duration, "@seconds@s", --json]
"#;

/// A pod outside the mesh.
const NEWCOMER: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: newcomer, namespace: shop}
spec:
  containers: [{name: app, image: mesh.dev/testapp:dev}]
";

/// Runs `during` while a pod of west calls web-east, and returns the load's report.
fn loaded(shared: &Shared, seconds: u64, during: impl FnOnce()) -> Value {
    let west = shared.cluster(WEST);
    let manifest = LOADER.replace("@seconds@", &seconds.to_string());
    west.apply(&mesh(&["inject", "-"], &manifest))
        .expect("the pod");
    let phase = || {
        let path = "-o=jsonpath={.status.phase}";
        west.kubectl(&["-n", "shop", "get", "pod", "loader", path])
            .unwrap_or_default()
    };
    eventually("the load runs", west, || phase() == "Running");
    during();
    let over = || matches!(phase().as_str(), "Succeeded" | "Failed");
    west.wait_for("the load ends", Duration::from_secs(180), over)
        .expect("it ends");
    let said = west
        .kubectl(&["-n", "shop", "logs", "loader", "-c", "load"])
        .expect("its log");
    west.kubectl(&["-n", "shop", "delete", "pod", "loader", "--now"])
        .expect("the pod ends");
    let report = answer(&said);
    println!("load: {report}");
    report
}

#[test]
fn east_s_api_server_is_away_for_minutes_and_no_request_fails() {
    let shared = linked();
    let east = shared.cluster(EAST);
    let report = loaded(&shared, 145, || {
        let fault = stop_program(east, "kube-apiserver", Signal::SIGKILL).unwrap();
        let start = Instant::now();
        // Calls that a person makes meanwhile, too.
        east.wait_for("two minutes are over", Duration::from_secs(180), || {
            assert!(client(&shared, &["get", "http://web-east"]).is_ok());
            start.elapsed() > Duration::from_secs(125)
        })
        .unwrap();
        fault.undo().unwrap();
    });
    assert_eq!(report["failed"], 0, "{report}");
    ready(east);
}

#[test]
fn m12_west_s_api_server_is_away_and_its_mirrors_are_right_within_30_seconds_of_its_return() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    let report = loaded(&shared, 45, || {
        let fault = stop_program(west, "kube-apiserver", Signal::SIGKILL).unwrap();
        let vault = ["-n", "shop", "label", "service", "vault"];
        east.kubectl(&[&vault[..], &["mesh.dev/exported=true"]].concat())
            .unwrap();
        let start = Instant::now();
        east.wait_for("20 s are over", Duration::from_secs(60), || {
            start.elapsed() > Duration::from_secs(20)
        })
        .unwrap();
        fault.undo().unwrap();
        let back = Instant::now();
        eventually("vault is mirrored", west, || {
            let get = ["-n", "shop", "get", "service", "vault-east"];
            west.kubectl(&get).is_ok()
        });
        println!("vault-east is there {:?} after the return", back.elapsed());
        assert!(back.elapsed() < Duration::from_secs(30));
        east.kubectl(&[&vault[..], &["mesh.dev/exported-"]].concat())
            .unwrap();
    });
    assert_eq!(report["failed"], 0, "{report}");
    eventually("vault-east is gone", west, || {
        let get = ["-n", "shop", "get", "service", "vault-east"];
        west.kubectl(&get).is_err()
    });
    ready(west);
}

/// Waits until a cluster whose API server was away does its work again.
fn ready(cluster: &Cluster) {
    eventually("the API server answers", cluster, || {
        let get = ["--request-timeout=2s", "get", "--raw", "/readyz"];
        cluster.kubectl(&get).is_ok()
    });
    eventually("its node is Ready", cluster, || {
        let path = r#"-o=jsonpath={.items[0].status.conditions[?(@.type=="Ready")].status}"#;
        cluster
            .kubectl(&["get", "nodes", path])
            .is_ok_and(|status| status == "True")
    });
    // A kubelet looks again within a minute only.
    cluster.apply(NEWCOMER).expect("the pod");
    let pod = ["-n", "shop", "get", "pod", "newcomer"];
    let phase = [&pod[..], &["-o=jsonpath={.status.phase}"]].concat();
    cluster
        .wait_for("a new pod runs", Duration::from_secs(120), || {
            cluster.kubectl(&phase).is_ok_and(|said| said == "Running")
        })
        .expect("it runs");
    cluster
        .kubectl(&["-n", "shop", "delete", "pod", "newcomer", "--now"])
        .expect("the pod ends");
}

#[test]
fn east_s_pods_are_replaced_while_control_planes_are_away_and_no_request_fails() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    // What a sidecar knows it keeps; so it has to have asked before.
    assert!(client(&shared, &["get", "http://web-east"]).is_ok());
    scale_control(west, 0);
    scale_control(east, 0);
    let before = pods(east);
    let load = Load::start(&shared, "http://web-east", "60s");
    east.kubectl(&["-n", "shop", "rollout", "restart", "deploy/web"])
        .unwrap();
    // A new one waits for a certificate, and the old ones answer.
    eventually("a new pod is there", east, || {
        pods(east).difference(&before).next().is_some()
    });
    // West's sidecars are told nothing of what happens now.
    scale_control(east, 1);
    rolled_out(&shared, EAST, "mesh-system", "mesh-control");
    rolled_out(&shared, EAST, "shop", "web");
    eventually("the old pods are gone", east, || {
        pods(east).is_disjoint(&before)
    });
    let answered = client(&shared, &["get", "http://web-east"]).map(|text| answer(&text));
    assert_eq!(
        answered.map(|answer| answer["cluster"].clone()),
        Ok("east".into())
    );
    scale_control(west, 1);
    rolled_out(&shared, WEST, "mesh-system", "mesh-control");
    assert!(!load.is_over(), "the load ended too soon");
    let report = load.report();
    let new = report["pods"].as_object().expect("counts by pod");
    assert!(new.keys().any(|pod| !before.contains(pod)), "{report}");
}

fn scale_control(cluster: &Cluster, replicas: u8) {
    let count = format!("--replicas={replicas}");
    cluster
        .kubectl(&["-n", "mesh-system", "scale", "deploy/mesh-control", &count])
        .expect("the Deployment");
    if replicas == 0 {
        eventually("mesh-control is gone", cluster, || {
            let get = ["-n", "mesh-system", "get", "pods", "-o", "name"];
            cluster
                .kubectl(&get)
                .is_ok_and(|said| said.trim().is_empty())
        });
    }
}

/// The pods of web that are there.
fn pods(cluster: &Cluster) -> BTreeSet<String> {
    let path = "-o=jsonpath={.items[*].metadata.name}";
    let names = cluster
        .kubectl(&["-n", "shop", "get", "pods", "-l", "app=web", path])
        .expect("pods");
    names.split_whitespace().map(str::to_owned).collect()
}
