//! A client and a server in each cluster, without the mesh.

use std::sync::{Arc, OnceLock};

use mesh_lab::cluster::Cluster;

use crate::shared::{Shared, eventually, shared};

pub(crate) const WEST: &str = "west";
pub(crate) const EAST: &str = "east";

const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: lab}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: lab}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: mesh.dev/testapp:dev
          args: [serve]
          env: [{name: CLUSTER, value: "@cluster@"}]
          readinessProbe:
            httpGet: {path: /healthz, port: 8080}
            periodSeconds: 1
          volumeMounts:
            - {name: scratch, mountPath: /scratch}
      volumes:
        - name: scratch
          emptyDir: {medium: Memory, sizeLimit: 4Mi}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: lab}
spec:
  replicas: 1
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      containers:
        - {name: client, image: mesh.dev/testapp:dev, args: [serve]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: lab}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: lab}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
    - {name: gateway, port: 4143, targetPort: 8080}
    - {name: closed, port: 8090, targetPort: 8080}
"#;

pub(crate) const EXTRA_LOAD_BALANCER: &str = r"
apiVersion: v1
kind: Service
metadata: {name: extra, namespace: lab}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 4143, targetPort: 8080}]
";

/// The clusters, with the application running in both.
pub(crate) fn application() -> Arc<Shared> {
    static APPLIED: OnceLock<()> = OnceLock::new();
    let shared = shared();
    APPLIED.get_or_init(|| {
        for name in [WEST, EAST] {
            let manifest = MANIFEST.replace("@cluster@", name);
            shared
                .cluster(name)
                .apply(&manifest)
                .expect("the API server takes it");
        }
        for name in [WEST, EAST] {
            await_rollouts(shared.cluster(name));
        }
    });
    shared
}

fn await_rollouts(cluster: &Cluster) {
    for deployment in ["deploy/web", "deploy/client"] {
        cluster
            .kubectl(&[
                "-n",
                "lab",
                "rollout",
                "status",
                deployment,
                "--timeout=60s",
            ])
            .expect("the pods start");
    }
}

/// The body of the answer to a request of the client in `cluster`.
pub(crate) fn get(shared: &Shared, cluster: &str, url: &str) -> String {
    try_get(shared, cluster, url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

pub(crate) fn try_get(shared: &Shared, cluster: &str, url: &str) -> Result<String, String> {
    let client = ["-n", "lab", "exec", "deploy/client", "--", "/testapp"];
    let mut words = client.to_vec();
    words.extend(["get", url, "--timeout", "3s"]);
    shared
        .cluster(cluster)
        .kubectl(&words)
        .map_err(|error| format!("{error:#}"))
}

/// The WAN address of the application in `cluster`, which answers there: kube-proxy
/// hears of Services and endpoints after those who asked for them.
pub(crate) fn load_balancer(shared: &Shared, cluster: &str) -> String {
    let there = shared.cluster(cluster);
    let mut address = String::new();
    eventually("the Service has an address", there, || {
        address = address_of(there, "outside");
        !address.is_empty()
    });
    eventually("the Service answers in its cluster", there, || {
        try_get(shared, cluster, &format!("http://{address}:4143")).is_ok()
    });
    address
}

pub(crate) fn address_of(cluster: &Cluster, service: &str) -> String {
    let path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}";
    cluster
        .kubectl(&["-n", "lab", "get", "service", service, path])
        .expect("the Service is there")
}
