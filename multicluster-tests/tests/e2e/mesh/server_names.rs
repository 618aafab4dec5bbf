//! TLS of the applications' own, led to a linked cluster by the server name.

use serde_json::json;

use super::{
    installed::{EAST, WEST, explain, linked, mesh, rolled_out},
    routes::{gateway_api, said_of},
};
use crate::shared::{Shared, eventually, lab_command};

const NAME: &str = "east.vault.example";

const IN_EAST: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: vault, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: vault, namespace: shop}
spec:
  selector: {matchLabels: {app: vault}}
  template:
    metadata: {labels: {app: vault}}
    spec:
      serviceAccountName: vault
      containers:
        - name: nginx
          image: mesh.dev/nginx:debian
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
          volumeMounts: [{name: tls, mountPath: /etc/nginx/conf.d}]
      volumes: [{name: tls, configMap: {name: vault-tls}}]
---
apiVersion: v1
kind: Service
metadata: {name: vault, namespace: shop, labels: {mesh.dev/exported: "true"}}
spec:
  selector: {app: vault}
  ports: [{name: tls, port: 443, targetPort: 8443, appProtocol: https}]
"#;

/// `secrets` has no pods of its own: only its route says where its clients go.
const IN_WEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: vault-client, namespace: shop}
spec:
  selector: {matchLabels: {app: vault-client}}
  template:
    metadata: {labels: {app: vault-client}}
    spec:
      serviceAccountName: client
      containers:
        - {name: tools, image: "mesh.dev/tools:debian"}
---
apiVersion: v1
kind: Service
metadata: {name: secrets, namespace: shop}
spec:
  ports: [{name: tls, port: 443, appProtocol: https}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: secrets, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: secrets, port: 443}]
  hostnames: [east.vault.example]
  rules:
    - backendRefs: [{name: vault-east, port: 443}]
"#;

/// nginx says for whom it takes the connection, with a certificate of its own.
fn configuration() -> String {
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let server = "server {
        listen [::]:8443 ssl ipv6only=off;
        ssl_certificate conf.d/tls.crt;
        ssl_certificate_key conf.d/tls.key;
        location / { return 200 \"vault for $ssl_server_name\"; }
    }";
    let files = json!({
        "vault.conf": server,
        "tls.crt": issued.cert.pem(),
        "tls.key": issued.signing_key.serialize_pem(),
    });
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "vault-tls", "namespace": "shop"},
        "data": files,
    });
    map.to_string()
}

/// What curl says of `https://{name}/` at `secrets`.
fn asked_for(shared: &Shared, name: &str) -> Result<String, String> {
    let pod = ["-n", "shop", "exec", "deploy/vault-client", "-c", "tools"];
    let curl = format!("curl -sSk --max-time 5 --connect-to ::secrets:443 https://{name}/ 2>&1");
    shared
        .cluster(WEST)
        .kubectl(&[&pod[..], &["--", "sh", "-c", &curl]].concat())
        .map_err(|error| format!("{error:#}"))
}

#[test]
fn a_tls_route_leads_to_the_other_cluster_by_the_server_name() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    gateway_api(&shared);
    lab_command(&["images", "third-party", "nginx", "tools"]).expect("the images");
    east.apply(&configuration()).expect("the configuration");
    for (cluster, manifest) in [(EAST, IN_EAST), (WEST, IN_WEST)] {
        let injected = mesh(&["inject", "-"], manifest);
        shared.cluster(cluster).apply(&injected).expect("the pods");
    }
    rolled_out(&shared, EAST, "shop", "vault");
    rolled_out(&shared, WEST, "shop", "vault-client");

    eventually("the route counts", west, || {
        ["Accepted", "ResolvedRefs"]
            .iter()
            .all(|condition| said_of(&shared, "tlsroute/secrets", condition) == "True")
    });
    eventually("east answers", west, || {
        asked_for(&shared, NAME).is_ok_and(|said| said == format!("vault for {NAME}"))
    });
    let refused = asked_for(&shared, "west.vault.example").unwrap_err();
    assert!(refused.contains("unrecognized name"), "{refused}");
    let said = explain(&["secrets"]);
    let said = said.unwrap_or_else(|said| said);
    let shown = format!("TLS for {NAME}: vault-east 1");
    assert!(said.contains(&shown), "{said}");

    west.kubectl(&["-n", "shop", "delete", "tlsroute,service", "secrets"])
        .unwrap();
    west.kubectl(&["-n", "shop", "delete", "deploy", "vault-client"])
        .unwrap();
    east.kubectl(&["-n", "shop", "delete", "service,deploy", "vault"])
        .unwrap();
    east.kubectl(&["-n", "shop", "delete", "configmap", "vault-tls"])
        .unwrap();
}
