//! Other shapes than west and east. Each test starts its own clusters, so they
//! come after those that share the two.

use mesh_lab::{cluster::Cluster, lab::Lab, paths::Paths};
use serde_json::Value;

use crate::shared::{lab_command, release};

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
            let answer = cluster.kubectl(&get).unwrap();
            let expected = format!(r#""cluster":"{name}""#);
            assert!(answer.contains(&expected), "{}: {answer}", cluster.name());
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
