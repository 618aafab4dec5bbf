//! The controllers against an API server and a peer in memory.

use std::{sync::Arc, time::Duration};

use mesh_api::names;
use mesh_core::link::Links;
use mesh_tls::Clock;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    fake_api::FakeApi,
    feed::tests::{ScriptedPeer, Updater, heartbeat, links, snapshot},
};

const LINK: &str = "/apis/mesh.dev/v1alpha1/links/east";
const MIRROR: &str = "/api/v1/namespaces/shop/services/web-east";

/// A mesh-mirror at work.
struct Mirroring {
    api: FakeApi,
    peer: ScriptedPeer,
    probe: Probe,
    _links: watch::Sender<Option<Arc<Links>>>,
    tasks: JoinSet<()>,
}

impl Mirroring {
    /// In a cluster with the Link `east` and the namespace `shop`.
    fn start() -> Self {
        let api = FakeApi::new();
        api.put(LINK, link());
        api.put("/api/v1/namespaces/shop", namespace("shop"));
        let mut mirroring = Self {
            api,
            peer: ScriptedPeer::start(),
            probe: Arc::new(|_| Box::pin(async { Ok(()) })),
            _links: watch::Sender::new(Some(Arc::new(links_with_a_gateway()))),
            tasks: JoinSet::new(),
        };
        mirroring.start_controller();
        mirroring
    }

    fn start_controller(&mut self) {
        let local = Local::new();
        let cx = Context {
            clock: Clock::SYSTEM,
            local: local.clone(),
            writer: Writer::new(self.api.client()),
            links: self._links.subscribe(),
            dial: self.peer.dial.clone(),
            probe: self.probe.clone(),
            metrics: Metrics::default(),
        };
        local.follow(&self.api.client(), &mut self.tasks);
        self.tasks.spawn(async move { controller::run(&cx).await });
    }

    /// The feed, saying that these Services are exported.
    async fn exporting(&self, services: &[&str]) -> Updater {
        let feed = self.peer.answer().await;
        feed.send(Ok(snapshot(services))).await.unwrap();
        feed
    }

    async fn until(&self, what: &str, wish: impl Fn(&FakeApi) -> bool) {
        let wait = async {
            while !wish(&self.api) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let done = timeout(Duration::from_secs(100), wait).await;
        assert!(done.is_ok(), "{what}: {:#?}", self.api.get(LINK));
    }

    async fn until_there(&self, path: &str) {
        self.until(path, |api| api.get(path).is_some()).await;
    }

    async fn until_gone(&self, path: &str) {
        self.until(path, |api| api.get(path).is_none()).await;
    }

    async fn until_condition(&self, kind: &str, status: &str) -> String {
        self.until(kind, |api| condition(api, kind)["status"] == status)
            .await;
        condition(&self.api, kind)["message"]
            .as_str()
            .unwrap()
            .into()
    }
}

fn links_with_a_gateway() -> Links {
    let mut links = links();
    Arc::make_mut(&mut links.links[0]).gateway.hosts = vec!["192.0.2.1".into()];
    links
}

fn condition(api: &FakeApi, kind: &str) -> Value {
    let link = api.get(LINK).unwrap();
    let conditions = link["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions
        .find(|c| c["type"] == kind)
        .cloned()
        .unwrap_or_default()
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

fn stranger(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "shop", "name": name, "labels": { "app": "mine" } },
        "spec": { "selector": { "app": "mine" }, "ports": [{ "port": 80 }] },
    })
}

fn link() -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "Link",
        "metadata": { "name": "east", "uid": "link-1" },
        "spec": {
            "cluster": "east",
            "trustDomain": "east",
            "bundle": "",
            "gateway": {
                "addresses": ["192.0.2.1"],
                "port": 4143,
                "identity": "spiffe://east/ns/mesh-multicluster/sa/mesh-gateway",
                "serverName": "gateway",
            },
            "peers": {
                "control": "spiffe://east/ns/mesh-system/sa/mesh-control",
                "mirror": "spiffe://east/ns/mesh-multicluster/sa/mesh-mirror",
            },
            "prefix": "fd6d:6573:6800:1::/64",
        },
    })
}

#[tokio::test(start_paused = true)]
async fn an_exported_service_appears_and_goes() {
    let mirroring = Mirroring::start();
    let feed = mirroring.exporting(&["web"]).await;
    mirroring.until_there(MIRROR).await;
    let mirror = mirroring.api.get(MIRROR).unwrap();
    assert_eq!(mirror["metadata"]["labels"][names::MIRRORED_FROM], "east");
    assert_eq!(
        mirror["metadata"]["annotations"][names::REMOTE_SERVICE],
        "shop/web"
    );
    assert_eq!(mirror["spec"]["ports"][0]["port"], 80);
    mirroring.until_condition("Synced", "True").await;
    mirroring.until_condition("Reachable", "True").await;
    assert_eq!(
        mirroring.api.get(LINK).unwrap()["status"]["clusterUid"],
        "east-uid"
    );
    feed.send(Ok(snapshot(&[]))).await.unwrap();
    mirroring.until_gone(MIRROR).await;
}

#[tokio::test(start_paused = true)]
async fn m9_an_edited_or_deleted_mirror_is_repaired() {
    let mirroring = Mirroring::start();
    let _feed = mirroring.exporting(&["web"]).await;
    mirroring.until_there(MIRROR).await;
    mirroring.api.edit(MIRROR, |service| {
        service["spec"]["selector"] = json!({ "app": "mine" });
        service["metadata"]["annotations"]["team"] = "shop".into();
    });
    let repaired = |api: &FakeApi| api.get(MIRROR).unwrap()["spec"]["selector"].is_null();
    mirroring.until("repair", repaired).await;
    let annotations = &mirroring.api.get(MIRROR).unwrap()["metadata"]["annotations"];
    assert_eq!(annotations["team"], "shop");
    mirroring.api.remove(MIRROR);
    mirroring.until_there(MIRROR).await;
}

#[tokio::test(start_paused = true)]
async fn m1_a_service_that_is_not_ours_is_never_written_to() {
    let mirroring = Mirroring::start();
    mirroring.api.put(MIRROR, stranger("web-east"));
    let feed = mirroring.exporting(&["web"]).await;
    let message = mirroring.until_condition("Conflicts", "True").await;
    assert!(message.contains("shop/web-east"), "{message}");
    feed.send(Ok(snapshot(&["web", "db"]))).await.unwrap();
    mirroring
        .until_there("/api/v1/namespaces/shop/services/db-east")
        .await;
    feed.send(Ok(snapshot(&[]))).await.unwrap();
    mirroring
        .until_gone("/api/v1/namespaces/shop/services/db-east")
        .await;
    mirroring.until_condition("Conflicts", "False").await;
    let writes = mirroring.api.service_writes();
    let expected = [
        "POST /api/v1/namespaces/shop/services",
        "DELETE /api/v1/namespaces/shop/services/db-east",
    ];
    assert_eq!(writes, expected);
}

#[tokio::test(start_paused = true)]
async fn m1_a_name_that_becomes_free_is_taken() {
    let mirroring = Mirroring::start();
    mirroring.api.put(MIRROR, stranger("web-east"));
    let _feed = mirroring.exporting(&["web"]).await;
    mirroring.until_condition("Conflicts", "True").await;
    mirroring.api.remove(MIRROR);
    mirroring.until_there(MIRROR).await;
    mirroring.until_condition("Conflicts", "False").await;
}

#[tokio::test(start_paused = true)]
async fn m10_a_deleted_link_takes_its_mirrors_with_it_and_nothing_else() {
    let mirroring = Mirroring::start();
    let other = "/api/v1/namespaces/shop/services/other-east";
    mirroring.api.put(other, stranger("other-east"));
    let _feed = mirroring.exporting(&["web"]).await;
    mirroring.until_there(MIRROR).await;
    mirroring.api.remove(LINK);
    let gone = |api: &FakeApi| api.get(MIRROR).is_none();
    let wait = async {
        while !gone(&mirroring.api) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.unwrap();
    assert!(mirroring.api.get(other).is_some());
}

#[tokio::test(start_paused = true)]
async fn m10_what_was_unexported_while_we_were_down_is_removed() {
    let mut mirroring = Mirroring::start();
    let feed = mirroring.exporting(&["web", "db"]).await;
    mirroring.until_there(MIRROR).await;
    mirroring.tasks.shutdown().await;
    drop(feed);
    mirroring.start_controller();
    let _feed = mirroring.exporting(&["db"]).await;
    mirroring.until_gone(MIRROR).await;
    assert!(
        mirroring
            .api
            .get("/api/v1/namespaces/shop/services/db-east")
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn m12_what_the_api_server_refused_is_tried_until_it_works() {
    let mirroring = Mirroring::start();
    let services = "/api/v1/namespaces/shop/services";
    mirroring.api.set_broken(services, true);
    let feed = mirroring.exporting(&["web"]).await;
    let message = mirroring.until_condition("Synced", "False").await;
    assert!(message.contains("it is broken"), "{message}");
    mirroring.api.set_broken(services, false);
    mirroring.until_there(MIRROR).await;
    mirroring.until_condition("Synced", "True").await;
    drop(feed);
}

#[tokio::test(start_paused = true)]
async fn m12_an_api_server_that_was_away_for_an_hour_is_caught_up_with_in_30_seconds() {
    let mirroring = Mirroring::start();
    let feed = mirroring.exporting(&["web", "old"]).await;
    mirroring.until_there(MIRROR).await;
    mirroring.api.set_away(true);
    feed.send(Ok(snapshot(&["web", "db"]))).await.unwrap();
    for _ in 0..720 {
        sleep(Duration::from_secs(5)).await;
        feed.send(Ok(heartbeat())).await.unwrap();
    }
    mirroring.api.remove(MIRROR);
    mirroring.api.set_away(false);
    let start = tokio::time::Instant::now();
    let beat = async {
        loop {
            let _ = feed.send(Ok(heartbeat())).await;
            sleep(Duration::from_secs(5)).await;
        }
    };
    let services = "/api/v1/namespaces/shop/services";
    let caught_up = mirroring.until("all is as it should be", |api| {
        let there = |name: &str| api.get(&format!("{services}/{name}")).is_some();
        there("web-east") && there("db-east") && !there("old-east")
    });
    tokio::select! {
        () = caught_up => {}
        () = beat => {}
    }
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn m13_a_namespace_that_appears_gets_its_mirrors() {
    let mirroring = Mirroring::start();
    mirroring.api.remove("/api/v1/namespaces/shop");
    let _feed = mirroring.exporting(&["web"]).await;
    let message = mirroring.until_condition("Synced", "False").await;
    assert!(message.contains("does not exist"), "{message}");
    mirroring
        .api
        .put("/api/v1/namespaces/shop", namespace("shop"));
    mirroring.until_there(MIRROR).await;
}

#[tokio::test(start_paused = true)]
async fn m6_an_empty_feed_is_asked_again_before_many_mirrors_go() {
    let mirroring = Mirroring::start();
    let names = ["web", "b", "c", "d", "e", "f", "g"];
    let feed = mirroring.exporting(&names).await;
    mirroring.until_condition("Synced", "True").await;
    feed.send(Ok(snapshot(&[]))).await.unwrap();
    let message = mirroring.until_condition("Synced", "False").await;
    assert!(message.starts_with("7 mirrors"), "{message}");
    let start = tokio::time::Instant::now();
    let beat = async {
        loop {
            let _ = feed.send(Ok(heartbeat())).await;
            sleep(Duration::from_secs(5)).await;
        }
    };
    let confirmed = async {
        let _second = mirroring.exporting(&[]).await;
        mirroring.until_gone(MIRROR).await;
    };
    tokio::select! {
        () = confirmed => {}
        () = beat => {}
    }
    assert!(
        start.elapsed() >= Duration::from_secs(59),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn s6_a_gateway_that_does_not_answer_takes_no_mirror_away() {
    let mut mirroring = Mirroring::start();
    mirroring.tasks.shutdown().await;
    mirroring.probe = Arc::new(|_| Box::pin(async { Err("no route".into()) }));
    mirroring.start_controller();
    let feed = mirroring.exporting(&["web"]).await;
    mirroring.until_there(MIRROR).await;
    let beat = async {
        loop {
            let _ = feed.send(Ok(heartbeat())).await;
            sleep(Duration::from_secs(5)).await;
        }
    };
    let dead = |api: &FakeApi| api.get(LINK).unwrap()["status"]["gateways"][0]["alive"] == false;
    tokio::select! {
        () = beat => {}
        () = mirroring.until("a dead gateway", dead) => {}
    }
    let status = &mirroring.api.get(LINK).unwrap()["status"];
    assert_eq!(status["gateways"][0]["address"], "192.0.2.1");
    assert!(mirroring.api.get(MIRROR).is_some());
}

#[tokio::test(start_paused = true)]
async fn s11_a_peer_that_is_away_at_the_start_costs_no_mirror_and_is_tried_again() {
    let mut mirroring = Mirroring::start();
    let feed = mirroring.exporting(&["web"]).await;
    mirroring.until_there(MIRROR).await;
    mirroring.tasks.shutdown().await;
    drop(feed);
    mirroring.start_controller();
    mirroring.until_condition("Reachable", "False").await;
    sleep(Duration::from_secs(600)).await;
    assert!(mirroring.api.get(MIRROR).is_some());
    let _feed = mirroring.exporting(&["web", "db"]).await;
    mirroring.until_condition("Reachable", "True").await;
}

#[tokio::test(start_paused = true)]
async fn s17_what_is_as_it_should_be_is_not_written_again() {
    let mirroring = Mirroring::start();
    let feed = mirroring.exporting(&["web"]).await;
    mirroring.until_condition("Synced", "True").await;
    sleep(Duration::from_secs(10)).await;
    let calls = mirroring.api.calls();
    for _ in 0..20 {
        feed.send(Ok(snapshot(&["web"]))).await.unwrap();
        feed.send(Ok(heartbeat())).await.unwrap();
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(mirroring.api.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn s23_events_about_a_link_are_in_the_api_server() {
    let mirroring = Mirroring::start();
    mirroring.api.remove("/api/v1/namespaces/shop");
    let _feed = mirroring.exporting(&["web"]).await;
    mirroring
        .until("an Event", |api| api.count("/events/") > 0)
        .await;
    let (_, event) = mirroring.api.find("/events/").remove(0);
    assert_eq!(event["reason"], "ServicesRefused");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["kind"], "Link");
    assert_eq!(event["regarding"]["name"], "east");
    assert_eq!(event["metadata"]["namespace"], "default");
}

#[tokio::test(start_paused = true)]
async fn s33_a_burst_of_edits_to_a_link_ends_with_the_last_one_and_restarts_nothing() {
    let mirroring = Mirroring::start();
    let feed = mirroring.exporting(&["web"]).await;
    mirroring.until_there(MIRROR).await;
    for edit in 0..500 {
        mirroring.api.edit(LINK, |link| {
            let allowed = if edit % 2 == 0 { "shop" } else { "store" };
            link["spec"]["namespaces"] = json!([allowed]);
        });
    }
    mirroring.until_gone(MIRROR).await;
    let writes = mirroring.api.service_writes().len();
    assert_eq!(writes, 2, "made once, removed once");
    feed.send(Ok(snapshot(&["web"])))
        .await
        .expect("the feed is still the first");
}
