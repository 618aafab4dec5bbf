//! The mesh on other shapes than west and east.

use mesh_lab::{cluster::Cluster, lab::Lab, paths::Paths};

use crate::{
    mesh::installed::{answer, header, mesh, shop},
    shared::{eventually, lab_command, release},
};

/// Starts the clusters and installs the mesh in each.
fn meshed(up: &[&str]) -> Lab {
    release();
    lab_command(&[&["up"], up].concat()).expect("the clusters");
    let lab = Lab::attach(&Paths::from_env()).expect("the lab");
    for cluster in lab.clusters() {
        let control = mesh(&["install", "--cluster", cluster.name()], "");
        cluster.apply(&control).expect("the control plane");
        let multicluster = mesh(&["multicluster", "install"], "");
        cluster.apply(&multicluster).expect("gateway and mirror");
    }
    for cluster in lab.clusters() {
        rolled_out(cluster, "mesh-system", "mesh-control");
        rolled_out(cluster, "mesh-multicluster", "mesh-gateway");
        rolled_out(cluster, "mesh-multicluster", "mesh-mirror");
    }
    lab
}

fn rolled_out(cluster: &Cluster, namespace: &str, name: &str) {
    let deployment = format!("deploy/{name}");
    let words = ["-n", namespace, "rollout", "status", &deployment];
    cluster
        .kubectl(&[&words[..], &["--timeout=120s"]].concat())
        .unwrap_or_else(|error| panic!("{}: {name}: {error:#}", cluster.name()));
}

fn link(context: &str, peer: &str) {
    let words = ["multicluster", "link", "--context", context];
    mesh(&[&words[..], &["--cluster", peer, "--yes"]].concat(), "");
}

/// The shop of east, as if it stood in `cluster`.
fn shop_of(cluster: &str) -> String {
    let shop = shop("east").replace("value: east", &format!("value: {cluster}"));
    mesh(&["inject", "-"], &shop)
}

/// Which cluster answers a pod of west, and as whom it saw the caller.
fn answered(west: &Cluster, url: &str) -> Option<(String, Vec<String>)> {
    let pod = ["-n", "shop", "exec", "deploy/client", "-c", "client", "--"];
    let get = ["/testapp", "get", url, "--timeout", "3s"];
    let text = west.kubectl(&[&pod[..], &get].concat()).ok()?;
    let answer = answer(&text);
    let cluster = answer["cluster"].as_str()?.to_owned();
    Some((cluster, header(&answer, "l5d-client-id")))
}

fn is_answered_by(west: &Cluster, url: &str, cluster: &str) -> bool {
    answered(west, url).is_some_and(|(by, _)| by == cluster)
}

fn services(cluster: &Cluster) -> Vec<String> {
    let path = "-o=jsonpath={.items[*].metadata.name}";
    let names = cluster
        .kubectl(&["-n", "shop", "get", "services", path])
        .expect("Services");
    names.split_whitespace().map(str::to_owned).collect()
}

const OVER_THREE: &str = r#"
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata:
  name: web
  namespace: shop
  annotations: {mesh.dev/primary-service: web-east}
spec:
  service: web
  backends:
    - {service: web-east, weight: 1}
    - {service: web-north, weight: 1}
    - {service: web, weight: 1}
"#;

#[test]
fn three_clusters_with_three_roots_share_what_they_export_and_stand_in_for_each_other() {
    let lab = meshed(&["west", "east", "north"]);
    let cluster = |name| lab.cluster(name).unwrap();
    let (west, east, north) = (cluster("west"), cluster("east"), cluster("north"));
    for (context, peer) in [("west", "east"), ("west", "north"), ("east", "north")] {
        link(context, peer);
    }
    let injected = mesh(&["inject", "-"], shop("west"));
    west.apply(&injected).unwrap();
    for peer in [east, north] {
        peer.apply(&shop_of(peer.name())).unwrap();
        rolled_out(peer, "shop", "web");
    }
    rolled_out(west, "shop", "client");

    // For west alone.
    let vault = ["-n", "shop", "label", "service", "vault"];
    let exported = ["mesh.dev/exported=true"];
    east.kubectl(&[&vault[..], &exported].concat()).unwrap();
    let only = ["-n", "shop", "annotate", "service", "vault"];
    east.kubectl(&[&only[..], &["mesh.dev/export-to=west"]].concat())
        .unwrap();

    for peer in ["east", "north"] {
        let url = format!("http://web-{peer}");
        eventually("the peer answers", west, || {
            is_answered_by(west, &url, peer)
        });
        let (_, seen) = answered(west, &url).unwrap();
        assert_eq!(seen, ["spiffe://west/ns/shop/sa/client"], "{peer}");
    }
    eventually("vault is mirrored in west", west, || {
        services(west).contains(&"vault-east".to_owned())
    });
    let mut known = services(north);
    known.sort();
    assert_eq!(known, ["vault", "web", "web-east"], "no mirror of a mirror");

    west.apply(OVER_THREE).unwrap();
    let web = "http://web";
    let scale = |peer: &Cluster, replicas: &str| {
        let count = format!("--replicas={replicas}");
        peer.kubectl(&["-n", "shop", "scale", "deploy/web", &count])
            .unwrap();
    };
    eventually("east answers", west, || is_answered_by(west, web, "east"));
    scale(east, "0");
    eventually("north answers", west, || is_answered_by(west, web, "north"));
    scale(north, "0");
    eventually("west answers", west, || is_answered_by(west, web, "west"));
    scale(east, "1");
    eventually("east again", west, || is_answered_by(west, web, "east"));
}

#[test]
fn clusters_of_two_nodes_and_a_gateway_of_two_replicas() {
    let lab = meshed(&["west", "east", "--nodes", "2"]);
    let (west, east) = (lab.cluster("west").unwrap(), lab.cluster("east").unwrap());
    let scale = ["-n", "mesh-multicluster", "scale", "deploy/mesh-gateway"];
    east.kubectl(&[&scale[..], &["--replicas=2"]].concat())
        .unwrap();
    rolled_out(east, "mesh-multicluster", "mesh-gateway");
    link("west", "east");
    let injected = mesh(&["inject", "-"], shop("west"));
    west.apply(&injected).unwrap();
    east.apply(&shop_of("east")).unwrap();
    rolled_out(east, "shop", "web");
    rolled_out(west, "shop", "client");
    let spread = ["-n", "shop", "get", "pods", "-l", "app=web"];
    let nodes = east
        .kubectl(&[&spread[..], &["-o=jsonpath={.items[*].spec.nodeName}"]].concat())
        .unwrap();
    println!("web runs on {nodes}");
    eventually("east answers", west, || {
        is_answered_by(west, "http://web-east", "east")
    });
    // Whichever replica of the gateway and whichever pod: all answer.
    let pod = ["-n", "shop", "exec", "deploy/client", "-c", "client", "--"];
    let load = ["/testapp", "load", "http://web-east", "--rate", "100"];
    let text = west
        .kubectl(&[&pod[..], &load, &["--duration", "5s", "--json"]].concat())
        .unwrap();
    let report = answer(&text);
    assert_eq!(report["failed"], 0, "{report}");
    assert_eq!(
        report["pods"].as_object().map(serde_json::Map::len),
        Some(2)
    );
}
