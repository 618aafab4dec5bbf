//! Other shapes than west and east. Each test starts its own clusters, so they
//! come after those that share the two.

use mesh_lab::{lab::Lab, paths::Paths};

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
