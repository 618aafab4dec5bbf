use std::pin::Pin;

use hyper_util::rt::TokioIo;
use mesh_core::link::Gateway;
use mesh_proto::v1::{
    ExportedEndpointsRequest, ExportedEndpointsUpdate, ExportedService, ExportedServicePort,
    ExportedServices, ExportedServicesDelta, ExportedServicesUpdate, Heartbeat, SnapshotComplete,
    Unchanged,
    exported_services_update::Update,
    exports_server::{Exports, ExportsServer},
};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{advance, timeout},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, transport::Endpoint};

use super::*;

type Answer = mpsc::Receiver<Result<ExportedServicesUpdate, Status>>;
type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A peer that answers each call with the next of its answers, and keeps what
/// it was asked last.
struct Peer {
    answers: tokio::sync::Mutex<mpsc::Receiver<Answer>>,
    asked: watch::Sender<ExportedServicesRequest>,
}

#[tonic::async_trait]
impl Exports for Peer {
    type WatchServicesStream = Updates<ExportedServicesUpdate>;
    type WatchEndpointsStream = Updates<ExportedEndpointsUpdate>;

    async fn watch_services(
        &self,
        request: Request<ExportedServicesRequest>,
    ) -> Result<Response<Self::WatchServicesStream>, Status> {
        self.asked.send_replace(request.into_inner());
        match self.answers.lock().await.recv().await {
            Some(answer) => Ok(Response::new(Box::pin(ReceiverStream::new(answer)))),
            None => Err(Status::permission_denied("west is not linked")),
        }
    }

    async fn watch_endpoints(
        &self,
        _: Request<ExportedEndpointsRequest>,
    ) -> Result<Response<Self::WatchEndpointsStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// A peer whose answers a test gives.
pub(crate) struct ScriptedPeer {
    pub(crate) dial: Dial,
    calls: mpsc::Sender<Answer>,
    asked: watch::Receiver<ExportedServicesRequest>,
    _server: tokio::task::JoinSet<()>,
}

pub(crate) type Updater = mpsc::Sender<Result<ExportedServicesUpdate, Status>>;

impl ScriptedPeer {
    pub(crate) fn start() -> Self {
        let (calls, answers) = mpsc::channel(8);
        let (asking, asked) = watch::channel(ExportedServicesRequest::default());
        let (connections, incoming) = mpsc::channel::<std::io::Result<DuplexStream>>(8);
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move {
            let peer = ExportsServer::new(Peer {
                answers: tokio::sync::Mutex::new(answers),
                asked: asking,
            });
            let server = tonic::transport::Server::builder().add_service(peer);
            let _ = server
                .serve_with_incoming(ReceiverStream::new(incoming))
                .await;
        });
        Self {
            dial: dial(connections),
            calls,
            asked,
            _server: server,
        }
    }

    /// What it says on its next stream.
    pub(crate) async fn answer(&self) -> Updater {
        let (sender, receiver) = mpsc::channel(8);
        self.calls.send(receiver).await.unwrap();
        sender
    }
}

/// A feed that is being followed from a scripted peer.
struct Followed {
    peer: ScriptedPeer,
    feed: watch::Receiver<Feed>,
    again: Arc<Notify>,
    _links: watch::Sender<Option<Arc<Links>>>,
    _task: tokio::task::JoinSet<()>,
}

impl Followed {
    fn start() -> Self {
        let peer = ScriptedPeer::start();
        let again = Arc::new(Notify::new());
        let (sender, feed) = watch::channel(Feed::default());
        let links = watch::Sender::new(Some(Arc::new(links())));
        let (receiver, dial, asked) = (links.subscribe(), peer.dial.clone(), again.clone());
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            follow("east", receiver, dial, &sender, &asked).await;
        });
        Self {
            peer,
            feed,
            again,
            _links: links,
            _task: task,
        }
    }

    async fn answer(&self) -> Updater {
        self.peer.answer().await
    }

    /// Waits until the feed is as wished.
    async fn until(&mut self, wish: impl FnMut(&Feed) -> bool) -> Feed {
        let found = timeout(Duration::from_secs(120), self.feed.wait_for(wish)).await;
        found.unwrap().unwrap().clone()
    }
}

fn dial(connections: mpsc::Sender<std::io::Result<DuplexStream>>) -> Dial {
    Arc::new(move |_| {
        let connections = connections.clone();
        let connector = tower::service_fn(move |_| {
            let connections = connections.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                connections
                    .send(Ok(theirs))
                    .await
                    .map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(ours))
            }
        });
        Endpoint::from_static("http://peer").connect_with_connector_lazy(connector)
    })
}

pub(crate) fn links() -> Links {
    let id = |name: &str| format!("spiffe://east/ns/mesh/sa/{name}").parse().unwrap();
    Links {
        cluster: "west".parse().unwrap(),
        trust_domain: "west".parse().unwrap(),
        roots: Vec::new(),
        links: vec![Arc::new(Link {
            name: "east".into(),
            cluster: "east".parse().unwrap(),
            trust_domain: "east".parse().unwrap(),
            roots: Vec::new(),
            gateway: Gateway {
                hosts: Vec::new(),
                port: 4143,
                identity: id("gateway"),
                server_name: "gateway".into(),
            },
            prefix: "fd6d:6573:6800:1::/64".parse().unwrap(),
            control: id("control"),
            mirror: id("mirror"),
            import: true,
            export: true,
        })],
    }
}

pub(crate) fn snapshot(names: &[&str]) -> ExportedServicesUpdate {
    let service = |name: &&str| ExportedService {
        namespace: "shop".into(),
        name: (*name).into(),
        ports: vec![ExportedServicePort {
            port: 80,
            ..Default::default()
        }],
        ..Default::default()
    };
    let services = ExportedServices {
        cluster_uid: "east-uid".into(),
        services: names.iter().map(service).collect(),
        ..Default::default()
    };
    ExportedServicesUpdate {
        update: Some(Update::Services(services)),
    }
}

pub(crate) fn heartbeat() -> ExportedServicesUpdate {
    ExportedServicesUpdate {
        update: Some(Update::Heartbeat(Heartbeat {})),
    }
}

fn count(feed: &Feed) -> Option<usize> {
    let received = feed.received.as_ref()?;
    Some(received.snapshot.services.len())
}

fn is_lost(feed: &Feed) -> bool {
    matches!(feed.health, Health::Lost(_))
}

#[tokio::test(start_paused = true)]
async fn snapshots_replace_each_other() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    stream.send(Ok(snapshot(&["web"]))).await.unwrap();
    let feed = followed.until(|feed| count(feed) == Some(1)).await;
    assert_eq!(feed.health, Health::Alive);
    stream.send(Ok(snapshot(&["web", "db"]))).await.unwrap();
    followed.until(|feed| count(feed) == Some(2)).await;
}

#[tokio::test(start_paused = true)]
async fn m7_silence_is_noticed_within_15_seconds_and_the_state_is_kept() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    stream.send(Ok(snapshot(&["web"]))).await.unwrap();
    followed.until(|feed| count(feed) == Some(1)).await;
    let start = Instant::now();
    let feed = followed.until(is_lost).await;
    assert_eq!(count(&feed), Some(1));
    assert!(start.elapsed() < SILENCE + Duration::from_secs(1));
    assert!(matches!(feed.health, Health::Lost(reason) if reason.contains("15 seconds")));
}

#[tokio::test(start_paused = true)]
async fn m7_a_heartbeat_keeps_a_feed_alive() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    stream.send(Ok(snapshot(&["web"]))).await.unwrap();
    followed.until(|feed| count(feed) == Some(1)).await;
    for _ in 0..10 {
        advance(Duration::from_secs(5)).await;
        stream.send(Ok(heartbeat())).await.unwrap();
        // Until the client has taken it.
        while stream.capacity() < stream.max_capacity() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(followed.feed.borrow().health, Health::Alive);
}

#[tokio::test(start_paused = true)]
async fn m6_a_feed_that_breaks_is_followed_again_and_keeps_its_state() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    stream.send(Ok(snapshot(&["web"]))).await.unwrap();
    followed.until(|feed| count(feed) == Some(1)).await;
    drop(stream);
    let feed = followed.until(is_lost).await;
    assert_eq!(count(&feed), Some(1));
    let stream = followed.answer().await;
    stream.send(Ok(snapshot(&["web", "db"]))).await.unwrap();
    let feed = followed.until(|feed| count(feed) == Some(2)).await;
    assert_eq!(feed.health, Health::Alive);
}

#[tokio::test(start_paused = true)]
async fn m6_lost_permission_is_said_and_the_state_is_kept() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    stream.send(Ok(snapshot(&["web"]))).await.unwrap();
    followed.until(|feed| count(feed) == Some(1)).await;
    let refused = Status::permission_denied("west is not linked");
    stream.send(Err(refused)).await.unwrap();
    let feed = followed.until(is_lost).await;
    let expected = "the peer does not export to this cluster: west is not linked";
    assert_eq!(feed.health, Health::Lost(expected.into()));
    assert_eq!(count(&feed), Some(1));
}

#[tokio::test(start_paused = true)]
async fn m6_a_second_complete_snapshot_can_be_asked_for() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    stream.send(Ok(snapshot(&["web"]))).await.unwrap();
    let first = followed.until(|feed| count(feed) == Some(1)).await;
    let second = followed.answer().await;
    second.send(Ok(snapshot(&["web"]))).await.unwrap();
    advance(Duration::from_millis(1)).await;
    followed.again.notify_one();
    let newer =
        |feed: &Feed| feed.received.as_ref().unwrap().at > first.received.as_ref().unwrap().at;
    let feed = followed.until(newer).await;
    assert_eq!(feed.health, Health::Alive);
}

/// What a peer that sends differences says.
fn says(update: Update) -> Result<ExportedServicesUpdate, Status> {
    let update = Some(update);
    Ok(ExportedServicesUpdate { update })
}

/// A complete snapshot of `names`, in one part.
async fn say_all(stream: &Updater, names: &[&str], version: &str) {
    let Some(Update::Services(mut part)) = snapshot(names).update else {
        unreachable!("a snapshot");
    };
    part.partial = true;
    stream.send(says(Update::Services(part))).await.unwrap();
    let mark = SnapshotComplete {
        version: version.into(),
        services: u32::try_from(names.len()).unwrap(),
    };
    stream.send(says(Update::Complete(mark))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_breaks_goes_on_from_its_version() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    say_all(&stream, &["web", "db"], "1").await;
    let first = followed.until(|feed| count(feed) == Some(2)).await;
    assert!(followed.peer.asked.borrow().deltas);
    drop(stream);
    followed.until(is_lost).await;
    let stream = followed.answer().await;
    let same = Unchanged {
        version: "1".into(),
    };
    stream.send(says(Update::Unchanged(same))).await.unwrap();
    let feed = followed.until(|feed| feed.health == Health::Alive).await;
    assert_eq!(count(&feed), Some(2));
    assert!(
        feed.received.unwrap().at > first.received.unwrap().at,
        "said anew"
    );
    assert_eq!(followed.peer.asked.borrow().version, "1");
}

#[tokio::test(start_paused = true)]
async fn m6_a_difference_that_does_not_fit_leads_to_a_snapshot_and_removes_nothing() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    say_all(&stream, &["web", "db"], "1").await;
    followed.until(|feed| count(feed) == Some(2)).await;
    let delta = ExportedServicesDelta {
        base: "another".into(),
        version: "2".into(),
        services: 0,
        ..Default::default()
    };
    stream.send(says(Update::Delta(delta))).await.unwrap();
    let feed = followed.until(is_lost).await;
    assert_eq!(count(&feed), Some(2));
    let stream = followed.answer().await;
    say_all(&stream, &["web"], "2").await;
    followed.until(|feed| count(feed) == Some(1)).await;
    assert_eq!(
        followed.peer.asked.borrow().version,
        "",
        "not from a version"
    );
}

#[tokio::test(start_paused = true)]
async fn m6_a_snapshot_that_is_cut_off_says_nothing() {
    let mut followed = Followed::start();
    let stream = followed.answer().await;
    say_all(&stream, &["web", "db"], "1").await;
    followed.until(|feed| count(feed) == Some(2)).await;
    drop(stream);
    followed.until(is_lost).await;
    let stream = followed.answer().await;
    let Some(Update::Services(mut part)) = snapshot(&["web"]).update else {
        unreachable!("a snapshot");
    };
    part.partial = true;
    stream.send(says(Update::Services(part))).await.unwrap();
    // A heart that beats says nothing about Services either.
    stream.send(Ok(heartbeat())).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let feed = followed.feed.borrow().clone();
    assert!(is_lost(&feed), "what is known is still the old: {feed:?}");
    assert_eq!(count(&feed), Some(2));
    say_all(&stream, &["web"], "2").await;
    let feed = followed.until(|feed| count(feed) == Some(1)).await;
    assert_eq!(feed.health, Health::Alive);
}
