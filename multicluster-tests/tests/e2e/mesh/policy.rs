//! Who may reach what, in a cluster and from another one.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use mesh_lab::cluster::Cluster;
use mesh_wire::mesh1::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    installed::{EAST, WEST, client, linked, mesh, rolled_out},
    intruder::{ask, cluster_ip, intrude},
};
use crate::shared::{Shared, eventually};

/// Within which a withdrawn policy takes effect.
const SOON: Duration = Duration::from_secs(5);

/// An application of its own, so that other tests keep theirs.
const GUARDED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: guarded, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: guarded}}
  template:
    metadata: {labels: {app: guarded}}
    spec:
      serviceAccountName: web
      containers:
        - name: guarded
          image: mesh.dev/testapp:dev
          args: [serve]
          env:
            - {name: CLUSTER, value: east}
          ports:
            - {name: http, containerPort: 8080}
            - {name: tcp, containerPort: 9090}
          readinessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 1
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 1
            failureThreshold: 3
---
apiVersion: v1
kind: Service
metadata:
  name: guarded
  namespace: shop
  labels: {mesh.dev/exported: "true"}
spec:
  selector: {app: guarded}
  ports:
    - {name: http, port: 80, targetPort: http}
    - {name: tcp, port: 9090, targetPort: tcp, appProtocol: mesh.dev/opaque}
"#;

/// Only west's client may.
const POLICY: &str = r#"
apiVersion: mesh.dev/v1alpha1
kind: Server
metadata: {name: guarded-http, namespace: shop}
spec:
  podSelector: {matchLabels: {app: guarded}}
  port: http
---
apiVersion: mesh.dev/v1alpha1
kind: Server
metadata: {name: guarded-tcp, namespace: shop}
spec:
  podSelector: {matchLabels: {app: guarded}}
  port: 9090
  proxyProtocol: opaque
---
apiVersion: mesh.dev/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: front-end, namespace: shop}
spec:
  identities: ["spiffe://west/ns/shop/sa/client"]
---
apiVersion: mesh.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: front-end, namespace: shop}
spec:
  targetRef: {kind: Namespace, name: shop}
  requiredAuthenticationRefs:
    - {group: mesh.dev, kind: MeshTLSAuthentication, name: front-end}
"#;

/// What is left when the policy is withdrawn.
const OBJECTS: [&str; 5] = [
    "deploy/guarded",
    "service/guarded",
    "server/guarded-http",
    "server/guarded-tcp",
    "meshtlsauthentication/front-end",
];

#[test]
fn c4_a_policy_admits_one_account_of_another_cluster_until_it_is_withdrawn() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    east.apply(&mesh(&["inject", "-"], GUARDED))
        .expect("the application");
    rolled_out(&shared, EAST, "shop", "guarded");
    let front_end = || client(&shared, &["get", "http://guarded-east"]).is_ok();
    let other_of_west = || get(west, "web", "http://guarded-east");
    let other_of_east = || get(east, "vault", "http://guarded");
    eventually("guarded-east answers", west, front_end);
    // All may, as long as nobody says otherwise.
    eventually("others of west", west, other_of_west);
    eventually("others of east", east, other_of_east);

    east.apply(POLICY).expect("the policy");
    for object in [
        "servers.mesh.dev/guarded-http",
        "meshtlsauthentications.mesh.dev/front-end",
        "authorizationpolicies.mesh.dev/front-end",
    ] {
        let wait = ["-n", "shop", "wait", "--for=condition=Accepted", object];
        east.kubectl(&wait).expect("it says that it counts");
    }
    eventually("others of west are refused", west, || !other_of_west());
    eventually("others of east are refused", east, || !other_of_east());
    assert!(front_end(), "west's client is admitted");
    withdraw(&shared);
    let still_ready = ready(east);
    let mut words = vec!["-n", "shop", "delete", "--wait=false"];
    words.extend(OBJECTS);
    east.kubectl(&words).expect("the end of it");
    assert_eq!(still_ready, "1", "the kubelet may ask for health");
}

/// Withdraws the policy while a stream is open.
fn withdraw(shared: &Shared) {
    let (go, told) = mpsc::channel();
    thread::scope(|scope| {
        // The intruder's thread is on the WAN, where no API server answers.
        scope.spawn(move || {
            if told.recv().is_ok() {
                let policy = ["-n", "shop", "delete", "authorizationpolicy", "front-end"];
                shared.cluster(EAST).kubectl(&policy).expect("gone");
            }
        });
        watch_it_end(shared, &go);
    });
}

/// A stream that the policy allows, and what comes of it.
fn watch_it_end(shared: &Shared, go: &mpsc::Sender<()>) {
    let address = cluster_ip(shared, "shop", "guarded-east");
    intrude(shared, async |intruder| {
        let endpoints = intruder.endpoints(&address, 9090).await;
        let peer = intruder.peer(endpoints.first().expect("its pod")).await;
        let mut stream = peer.tcp(9090).await.expect("a stream");
        stream.write_all(b"ahoy\n").await.expect("sent");
        // A line about the server comes first.
        let mut heard = [0; 256];
        assert!(stream.read(&mut heard).await.expect("an echo") > 0);

        go.send(()).expect("somebody who withdraws it");
        let start = Instant::now();
        let ended = async { while let Ok(1..) = stream.read(&mut heard).await {} };
        timeout(SOON, ended).await.expect("the stream is closed");
        loop {
            let told = ask(&peer, 8080).await;
            if told == (403, Some(Reason::NotAllowed)) {
                break;
            }
            assert!(start.elapsed() < SOON, "{told:?}");
        }
        println!("withdrawn after {:?}", start.elapsed());
    });
    assert!(client(shared, &["get", "http://guarded-east"]).is_err());
}

/// Whether a request from a pod of this Deployment is answered well.
fn get(cluster: &Cluster, deployment: &str, url: &str) -> bool {
    let target = format!("deploy/{deployment}");
    let words = [
        "-n", "shop", "exec", &target, "-c", deployment, "--", "/testapp", "get", url,
    ];
    cluster.kubectl(&words).is_ok()
}

/// How many pods are ready under a policy that admits nobody.
fn ready(cluster: &Cluster) -> String {
    // Longer than the probes need to fail.
    let replicas = "-o=jsonpath={.status.readyReplicas}";
    let words = ["-n", "shop", "get", "deploy/guarded", replicas];
    let start = Instant::now();
    loop {
        let ready = cluster.kubectl(&words).expect("the Deployment");
        if ready != "1" || start.elapsed() > Duration::from_secs(6) {
            return ready;
        }
        thread::yield_now();
    }
}
