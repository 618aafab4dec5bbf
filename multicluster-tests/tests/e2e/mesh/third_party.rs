//! Programs that others wrote, unchanged, behind sidecars and across the link.

use std::sync::Arc;

use super::installed::{EAST, WEST, linked, mesh, rolled_out};
use crate::shared::{Shared, eventually, lab_command};

const IN_EAST: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: nginx, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx, namespace: shop}
spec:
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      serviceAccountName: nginx
      containers:
        - name: nginx
          image: mesh.dev/nginx:debian
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: nginx, namespace: shop, labels: {mesh.dev/exported: "true"}}
spec:
  selector: {app: nginx}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis, namespace: shop}
spec:
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      serviceAccountName: nginx
      containers:
        - name: redis
          image: mesh.dev/redis:debian
          readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: redis, namespace: shop, labels: {mesh.dev/exported: "true"}}
spec:
  selector: {app: redis}
  ports: [{name: redis, port: 6379, appProtocol: mesh.dev/opaque}]
"#;

const IN_WEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: tools, namespace: shop}
spec:
  selector: {matchLabels: {app: tools}}
  template:
    metadata: {labels: {app: tools}}
    spec:
      serviceAccountName: client
      containers:
        - {name: tools, image: "mesh.dev/tools:debian"}
"#;

fn tool(shared: &Shared, script: &str) -> Result<String, String> {
    let pod = ["-n", "shop", "exec", "deploy/tools", "-c", "tools"];
    shared
        .cluster(WEST)
        .kubectl(&[&pod[..], &["--", "sh", "-c", script]].concat())
        .map_err(|error| format!("{error:#}"))
}

fn installed() -> Arc<Shared> {
    let shared = linked();
    lab_command(&["images", "third-party", "nginx", "redis", "tools"]).expect("the images");
    for (cluster, manifest) in [(EAST, IN_EAST), (WEST, IN_WEST)] {
        let injected = mesh(&["inject", "-"], manifest);
        shared.cluster(cluster).apply(&injected).expect("the pods");
    }
    for (cluster, name) in [(EAST, "nginx"), (EAST, "redis"), (WEST, "tools")] {
        rolled_out(&shared, cluster, "shop", name);
    }
    shared
}

#[test]
fn nginx_curl_h2load_and_redis_work_across_the_link() {
    let shared = installed();
    let west = shared.cluster(WEST);
    let page = "curl -sS --max-time 5 http://nginx-east";
    eventually("nginx answers", west, || tool(&shared, page).is_ok());
    let page = tool(&shared, "curl -sSi --max-time 5 http://nginx-east").unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.to_lowercase().contains("server: nginx"), "{page}");

    let load = "h2load --h1 -n 500 -c 10 http://nginx-east/";
    let report = tool(&shared, load).unwrap();
    assert!(report.contains("500 succeeded, 0 failed"), "{report}");
    let load = "h2load -n 500 -c 2 -m 20 http://web-east/";
    let report = tool(&shared, load).unwrap();
    assert!(report.contains("500 succeeded, 0 failed"), "{report}");

    let redis = "printf 'SET a b\\r\\nGET a\\r\\nQUIT\\r\\n' | busybox nc redis-east 6379";
    eventually("redis answers", west, || {
        tool(&shared, redis).is_ok_and(|said| said.contains("+OK"))
    });
    let said = tool(&shared, redis).unwrap();
    assert_eq!(said, "+OK\r\n$1\r\nb\r\n+OK\r\n");
    let east = shared.cluster(EAST);
    let services = ["-n", "shop", "delete", "service", "nginx", "redis"];
    east.kubectl(&services).unwrap();
    east.kubectl(&["-n", "shop", "delete", "deploy", "nginx", "redis"])
        .unwrap();
    west.kubectl(&["-n", "shop", "delete", "deploy", "tools"])
        .unwrap();
}
