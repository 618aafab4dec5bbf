//! Other shapes than west and east. Each test starts its own clusters, so they
//! come after those that share the two.

mod meshed;
mod readme;

use std::net::{IpAddr, SocketAddr};

use mesh_lab::{
    addresses::{Family, IpFamilies},
    cluster::Cluster,
    lab::Lab,
    network as wan,
    paths::Paths,
};
use serde_json::Value;

use crate::shared::{eventually, lab_command, release};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: mesh.dev/testapp:dev
          args: [serve]
          env: [{name: CLUSTER, value: "@cluster@"}]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 4143, targetPort: 8080}]
"#;

/// A cluster is Ready this soon on two cores, with all built before and read
/// before.
const READY_SECONDS: f64 = 15.0;
/// The machine may do something else during one start, and not during all.
const STARTS: usize = 3;

#[test]
fn clusters_are_ready_in_time() {
    release();
    let mut times = Vec::new();
    while times.len() < STARTS {
        lab_command(&["down"]).unwrap();
        let printed = lab_command(&["up", "west", "east"]).unwrap();
        let slowest = ["west", "east"].map(|cluster| ready_after(&printed, cluster));
        let slowest = slowest[0].max(slowest[1]);
        println!("both were ready in {slowest} s");
        if slowest <= READY_SECONDS {
            return;
        }
        times.push(slowest);
    }
    panic!("no start was fast enough: {times:?} s");
}

/// When the cluster was ready, in seconds, by what `lab up` printed.
fn ready_after(printed: &str, cluster: &str) -> f64 {
    let line = format!("{cluster}: DNS is ready");
    let ready = printed.lines().find(|text| text.contains(&line));
    ready
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no time in {printed:?}"))
}

#[test]
fn three_clusters_reach_each_other() {
    release();
    let names = ["west", "east", "north"];
    lab_command(&[&["up"], &names[..]].concat()).unwrap();
    let lab = Lab::attach(&Paths::from_env()).unwrap();
    for name in names {
        let manifest = WEB.replace("@cluster@", name);
        lab.cluster(name).unwrap().apply(&manifest).unwrap();
    }
    for cluster in lab.clusters() {
        let status = ["rollout", "status", "deploy/web", "--timeout=90s"];
        cluster.kubectl(&status).unwrap();
    }
    let addresses: Vec<(String, String)> = lab
        .clusters()
        .iter()
        .map(|cluster| {
            let path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}";
            let address = cluster.kubectl(&["get", "service", "web", path]).unwrap();
            (cluster.name().to_owned(), address)
        })
        .collect();
    for cluster in lab.clusters() {
        for (name, address) in &addresses {
            let url = format!("http://{address}:4143");
            let get = ["exec", "deploy/web", "--", "/testapp", "get", &url];
            let expected = format!(r#""cluster":"{name}""#);
            let what = format!("{url} answers as {name}");
            eventually(&what, cluster, || {
                let answer = cluster.kubectl(&get);
                answer.is_ok_and(|answer| answer.contains(&expected))
            });
        }
    }
}

const ON_EVERY_NODE: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      containers:
        - name: web
          image: mesh.dev/testapp:dev
          args: [serve]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
"#;

/// A pod, and where it is.
struct Pod {
    name: String,
    address: String,
    node: String,
}

fn pods(cluster: &Cluster) -> Vec<Pod> {
    let list = cluster.kubectl(&["get", "pods", "-l", "app=everywhere", "-o", "json"]);
    let list: Value = serde_json::from_str(&list.expect("pods")).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().expect("a list");
    items
        .iter()
        .map(|pod| Pod {
            name: text(&pod["metadata"]["name"]),
            address: text(&pod["status"]["podIP"]),
            node: text(&pod["spec"]["nodeName"]),
        })
        .collect()
}

#[test]
fn pods_of_two_nodes_reach_each_other_as_themselves() {
    release();
    lab_command(&["up", "west", "--nodes", "2"]).unwrap();
    let lab = Lab::attach(&Paths::from_env()).unwrap();
    let west = lab.cluster("west").unwrap();
    west.apply(ON_EVERY_NODE).unwrap();
    let status = ["rollout", "status", "daemonset/everywhere", "--timeout=90s"];
    west.kubectl(&status).unwrap();
    let pods = pods(west);
    let mut nodes: Vec<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["west-1", "west-2"]);
    for (from, to) in [(&pods[0], &pods[1]), (&pods[1], &pods[0])] {
        let url = format!("http://{}:8080", to.address);
        let get = ["exec", &from.name, "--", "/testapp", "get", &url];
        let answer = west.kubectl(&get).unwrap();
        let seen = format!(r#""peer":"{}:"#, from.address);
        assert!(answer.contains(&seen), "from {}: {answer}", from.node);
        // Names, and logs of pods, on either node.
        let named = [
            "exec",
            &from.name,
            "--",
            "/testapp",
            "get",
            "http://kubernetes:443",
        ];
        let said = format!("{:#}", west.kubectl(&named).unwrap_err());
        assert!(!said.contains("name not found"), "{}: {said}", from.node);
        let logs = west.kubectl(&["logs", &from.name]).unwrap();
        assert!(logs.contains("8080"), "{}: {logs}", from.node);
    }
}

/// A Service for all of a cluster's families, and one for each.
const OF_FAMILIES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: all}
spec:
  type: LoadBalancer
  ipFamilyPolicy: @policy@
  selector: {app: web}
  ports:
    - {name: open, port: 4143, targetPort: 8080}
    - {name: closed, port: 8090, targetPort: 8080}
"#;

const OF_FAMILY: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: "@name@"}
spec:
  ipFamilies: ["@family@"]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"#;

#[test]
fn dual_stack_clusters_answer_over_both_families() {
    release();
    lab_command(&["up", "west", "east", "--ip", "dual"]).unwrap();
    let lab = Lab::attach(&Paths::from_env()).unwrap();
    answer_over_all_families(&lab, IpFamilies::Dual, "RequireDualStack");
}

#[test]
fn ipv6_only_clusters_work() {
    release();
    lab_command(&["up", "west", "east", "--ip", "v6"]).unwrap();
    let lab = Lab::attach(&Paths::from_env()).unwrap();
    answer_over_all_families(&lab, IpFamilies::V6, "SingleStack");
    let west = lab.cluster("west").unwrap();
    let nodes = addresses(west, "nodes", "{.items[*].status.addresses[*].address}");
    assert_eq!(nodes, ["fd99:0:1::10".parse::<IpAddr>().unwrap()]);
}

/// Within each cluster by address and by name, and from each to the other.
fn answer_over_all_families(lab: &Lab, families: IpFamilies, policy: &str) {
    for cluster in lab.clusters() {
        assert_eq!(cluster.families(), families);
        serve(cluster, policy);
    }
    for cluster in lab.clusters() {
        let status = ["rollout", "status", "deploy/web", "--timeout=90s"];
        cluster.kubectl(&status).expect("the pods start");
        answers_within(cluster);
        let logs = cluster.kubectl(&["logs", "deploy/web"]);
        let logs = logs.expect("pods have logs");
        assert!(logs.contains("[::]:8080"), "{}: {logs}", cluster.name());
    }
    for from in lab.clusters() {
        for to in lab.clusters().iter().filter(|to| to.name() != from.name()) {
            answers_across(from, to);
        }
    }
}

/// The application, for all addresses that pods have.
fn serve(cluster: &Cluster, policy: &str) {
    let everywhere = r#"args: [serve, --http, "[::]:8080"]"#;
    let web = WEB.replace("args: [serve]", everywhere);
    cluster
        .apply(&web.replace("@cluster@", cluster.name()))
        .expect("the API server takes it");
    cluster
        .apply(&OF_FAMILIES.replace("@policy@", policy))
        .expect("the API server takes it");
    for family in cluster.families().all() {
        let service = OF_FAMILY.replace("@name@", &name_of(*family));
        let service = service.replace("@family@", family.name());
        cluster.apply(&service).expect("the API server takes it");
    }
}

fn name_of(family: Family) -> String {
    format!("web-{}", family.name().to_lowercase())
}

fn answers_within(cluster: &Cluster) {
    let pods = addresses(cluster, "pods", "{.items[*].status.podIPs[*].ip}");
    assert_eq!(families_of(&pods), cluster.families().all());
    let services = addresses(cluster, "service/all", "{.spec.clusterIPs[*]}");
    assert_eq!(families_of(&services), cluster.families().all());
    for address in services {
        get_soon(cluster, SocketAddr::new(address, 4143));
    }
    for family in cluster.families().all() {
        for domain in ["", ".default", ".default.svc.cluster.local"] {
            let peer = get_soon(cluster, format!("{}{domain}", name_of(*family)));
            assert_eq!(Family::of(peer), *family, "{domain}");
        }
    }
}

fn answers_across(from: &Cluster, to: &Cluster) {
    let path = "{.status.loadBalancer.ingress[*].ip}";
    let mut balancers = Vec::new();
    eventually("the Service has its addresses", to, || {
        balancers = addresses(to, "service/all", path);
        families_of(&balancers) == to.families().all()
    });
    for address in balancers {
        let took = eventually("the address answers", from, || {
            get(from, SocketAddr::new(address, 4143)).is_ok()
        });
        println!("{address} answered {} after {took:?}", from.name());
        let before = wan::dropped_packets().expect("a count");
        let refused = get(from, SocketAddr::new(address, 8090));
        assert!(refused.is_err(), "{address}: {refused:?}");
        let dropped = wan::dropped_packets().expect("a count") - before;
        assert!(dropped > 0, "{address}");
        println!("{dropped} packets to port 8090 of {address} were dropped");
    }
}

/// As [`get`], once the node knows the Service: its rules follow the pod's
/// readiness by a moment.
fn get_soon(cluster: &Cluster, authority: impl std::fmt::Display) -> IpAddr {
    let mut seen = Err(String::new());
    let what = format!("{authority} answers");
    eventually(&what, cluster, || {
        seen = get(cluster, &authority);
        seen.is_ok()
    });
    seen.expect("an answer")
}

/// Who the application saw when a pod of `cluster` asked it.
fn get(cluster: &Cluster, authority: impl std::fmt::Display) -> Result<IpAddr, String> {
    let url = format!("http://{authority}");
    let get = ["exec", "deploy/web", "--", "/testapp", "get", &url];
    let answer = cluster.kubectl(&[&get[..], &["--timeout", "3s"]].concat());
    let answer = answer.map_err(|error| format!("{error:#}"))?;
    let peer = answer.split(r#""peer":""#).nth(1);
    let peer = peer.and_then(|rest| rest.split('"').next()?.parse::<SocketAddr>().ok());
    Ok(peer.ok_or(answer)?.ip().to_canonical())
}

fn addresses(cluster: &Cluster, what: &str, path: &str) -> Vec<IpAddr> {
    let output = format!("-o=jsonpath={path}");
    let said = cluster.kubectl(&["get", what, &output]).expect("objects");
    let words = said.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

fn families_of(addresses: &[IpAddr]) -> Vec<Family> {
    addresses.iter().copied().map(Family::of).collect()
}
