//! What becomes of an identity while nobody issues certificates: a Certify
//! server on loopback, whose certificates live for seconds.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use linkerd2_proxy_api::identity::{
    CertifyResponse,
    identity_server::{Identity as IdentityService, IdentityServer},
};
use mesh_runtime::Readiness;
use mesh_testing::ca::{TestRoot, id};
use mesh_tls::{ALPN_H2, Clock, TlsError};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    io::duplex,
    net::{TcpListener, TcpStream},
};
use tonic::{Request, Response, codegen::Service as _};

use super::*;

const CONTROL: &str = "spiffe://west/ns/mesh-system/sa/mesh-control";
const WEB: &str = "spiffe://west/ns/shop/sa/web";
/// How long what is issued lives.
const SHORT: Duration = Duration::from_secs(3);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(40);
const AGAIN: Duration = Duration::from_millis(20);

/// mesh-control, as far as an identity needs it. Clones share the root, and
/// whether it answers.
#[derive(Clone)]
struct Issuer {
    root: Arc<Mutex<TestRoot>>,
    away: Arc<AtomicBool>,
    /// How many seconds its clock is ahead.
    ahead: Arc<AtomicI32>,
    life: Duration,
}

#[tonic::async_trait]
impl IdentityService for Issuer {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Status::unavailable("away"));
        }
        let csr = request.into_inner().certificate_signing_request;
        let root = self.root.lock().expect("no panic");
        let (leaf_certificate, intermediate_certificates) =
            root.certify_for(&csr, WEB, self.clock().now(), self.life);
        Ok(Response::new(CertifyResponse {
            leaf_certificate,
            intermediate_certificates,
            valid_until: None,
        }))
    }
}

impl Issuer {
    fn clock(&self) -> Clock {
        Clock::off_by(self.ahead.load(Ordering::Relaxed))
    }

    /// Serves Certify as `tls` says who it is.
    async fn serve(self, tls: Tls) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().answer(stream, tls.clone()));
            }
        });
        address
    }

    async fn answer(self, stream: TcpStream, tls: Tls) {
        let Ok(session) = tls.accept_unauthenticated(stream, ALPN_H2).await else {
            return;
        };
        let server = IdentityServer::new(self);
        let service = service_fn(move |request| server.clone().call(request));
        let connection = http2::Builder::new(TokioExecutor::new());
        // It ends with the test.
        let _ = connection
            .serve_connection(TokioIo::new(session), service)
            .await;
    }
}

/// A workload with its files, and its issuer.
struct World {
    issuer: Issuer,
    control: Tls,
    tls: Tls,
    readiness: Readiness,
    registry: Registry,
    _files: tempfile::TempDir,
}

impl World {
    async fn new(life: Duration) -> Self {
        Self::with_clocks(life, Clock::SYSTEM, Clock::SYSTEM).await
    }

    /// The clocks are the workload's, and mesh-control's.
    async fn with_clocks(life: Duration, clock: Clock, control_clock: Clock) -> Self {
        let root = TestRoot::new("west");
        let files = files(&root);
        let control = Tls::new(root.trust(), control_clock);
        control.set_certificate(root.issue_at(CONTROL, control_clock.now()));
        let tls = Tls::new(root.trust(), clock);
        let issuer = Issuer {
            root: Arc::new(Mutex::new(root)),
            away: Arc::default(),
            ahead: Arc::new(control_clock.offset().into()),
            life,
        };
        let address = issuer.clone().serve(control.clone()).await;
        let (mut registry, readiness) = (Registry::default(), Readiness::new());
        readiness.set(true);
        let health = IdentityHealth::register(&mut registry, readiness.clone());
        let identity = Identity {
            config: config(files.path()),
            tls: tls.clone(),
            links: LastLinks::default(),
            health: health.clone(),
        };
        tokio::spawn(identity.stay_certified(channel_to(address, tls.clone())));
        tokio::spawn(health.watch(tls.clone()));
        Self {
            issuer,
            control,
            tls,
            readiness,
            registry,
            _files: files,
        }
    }

    /// Whether a session with somebody who trusts the same works now.
    async fn meet(&self) -> Result<(), TlsError> {
        let (near, far) = duplex(65_536);
        let expected = [id(CONTROL)];
        let (connected, _) = tokio::join!(
            self.tls.connect(near, &expected, None, ALPN_H2),
            self.control.accept(far, ALPN_H2)
        );
        connected.map(drop)
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("it can be encoded");
        text
    }
}

fn channel_to(control: SocketAddr, tls: Tls) -> Channel {
    let server = Server {
        host: "127.0.0.1".into(),
        port: control.port(),
        identity: id(CONTROL),
    };
    let resolver = Resolver::from_system().expect("resolv.conf");
    channel::unauthenticated(server, tls, resolver)
}

fn config(folder: &Path) -> WorkloadConfig {
    WorkloadConfig {
        roots_dir: folder.to_owned(),
        token_file: folder.join("token"),
        control_host: "unused".to_owned(),
        clock: ClockConfig::default(),
    }
}

fn files(root: &TestRoot) -> tempfile::TempDir {
    let files = tempfile::tempdir().expect("a folder");
    let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"system:serviceaccount:shop:web"}"#);
    for (name, text) in [
        ("ca.crt", root.bundle_pem()),
        ("trust-domain", "west\n".to_owned()),
        ("token", format!("e30.{claims}.c2ln")),
    ] {
        std::fs::write(files.path().join(name), text).expect("written");
    }
    files
}

/// Waits until `holds`.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !holds().await {
            sleep(AGAIN).await;
        }
    };
    timeout(LONG, reached).await.expect(what);
}

#[tokio::test]
async fn t6_without_an_issuer_it_serves_to_the_end_then_fails_closed_and_heals() {
    let world = World::new(SHORT).await;
    world.tls.certified().await;
    let first = world.tls.valid_until().unwrap();
    until("it is renewed", async || {
        world.tls.valid_until() != Some(first)
    })
    .await;

    world.issuer.away.store(true, Ordering::Relaxed);
    until("its certificate ends", async || {
        let end = world.tls.valid_until().unwrap();
        let met = world.meet().await;
        let over = Clock::SYSTEM.now() >= end;
        // To the end, and not beyond; in between the clock may have moved.
        assert!(met.is_ok() || over, "{met:?}");
        over
    })
    .await;
    until("it fails closed", async || {
        let met = world.meet().await.map_err(|error| error.reason());
        met == Err("own_expired")
    })
    .await;
    until("it is not ready", async || !world.readiness.is_ready()).await;
    assert!(world.readiness.withheld().unwrap().contains("expired"));
    let metrics = world.metrics();
    for line in [
        "mesh_identity_not_after_seconds 1",
        r#"mesh_identity_renewals_total{outcome="ok"} "#,
        r#"mesh_identity_renewals_total{outcome="unreachable"} "#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }

    world.issuer.away.store(false, Ordering::Relaxed);
    until("it has healed", async || world.meet().await.is_ok()).await;
    until("it is ready", async || world.readiness.is_ready()).await;
}

#[tokio::test(start_paused = true)]
async fn t5_when_another_root_signs_the_certificate_is_replaced_soon() {
    let world = World::new(DAY).await;
    world.tls.certified().await;
    let new = TestRoot::new("west");
    let both = |first: &TestRoot, second: &TestRoot| {
        let bundle = [first.bundle(), second.bundle()].concat();
        Trust::new(id(WEB).trust_domain().clone(), &bundle).unwrap()
    };
    let old = std::mem::replace(&mut *world.issuer.root.lock().unwrap(), new);
    let start = Instant::now();
    {
        let new = world.issuer.root.lock().unwrap();
        world.control.set_trust(new.trust());
        // The old root signed the certificate, and only vouches from now on.
        world.tls.set_trust(both(&new, &old));
    }
    until("the new root signs", async || world.meet().await.is_ok()).await;
    assert!(start.elapsed() <= Duration::from_secs(30));
}

const HOUR: i32 = 3600;

/// Waits until attempts fail over a clock, and looks at what is said of it.
async fn said_to_be_about_time(world: &World) {
    // As sidecars and gateways are, until they have a certificate.
    world.readiness.set(false);
    until("an attempt fails over a clock", async || {
        let counted = r#"mesh_identity_renewals_total{outcome="clock"} "#;
        world.metrics().contains(counted)
    })
    .await;
    until("it says why it is not ready", async || {
        let said = world.readiness.why_not();
        said.is_some_and(|why| why.contains("clocks is off"))
    })
    .await;
    assert_eq!(world.tls.id(), None);
}

#[tokio::test]
async fn t7_a_workload_whose_clock_is_a_day_ahead_is_not_certified_and_says_why() {
    let ahead = Clock::off_by(25 * HOUR);
    let world = World::with_clocks(DAY, ahead, Clock::SYSTEM).await;
    said_to_be_about_time(&world).await;
    assert_eq!(world.meet().await.unwrap_err().reason(), "not_certified");
}

#[tokio::test]
async fn t7_a_control_plane_whose_clock_is_ahead_is_refused_until_it_is_set_right() {
    let ahead = Clock::off_by(HOUR);
    let world = World::with_clocks(DAY, Clock::SYSTEM, ahead).await;
    said_to_be_about_time(&world).await;

    world.issuer.ahead.store(0, Ordering::Relaxed);
    let right = world.issuer.root.lock().unwrap().issue(CONTROL);
    world.control.set_certificate(right);
    until("it is certified", async || world.meet().await.is_ok()).await;
    assert_eq!(world.readiness.why_not(), None);
}

#[test]
fn t7_a_certificate_from_the_future_does_not_replace_a_good_one() {
    let root = TestRoot::new("west");
    let check = |tls: Tls, issued: Clock| {
        let identity = Identity {
            config: config(Path::new("unused")),
            tls,
            links: LastLinks::default(),
            health: IdentityHealth::default(),
        };
        identity.check_time(&root.issue_at(WEB, issued.now()))
    };
    let (hour, uncertified) = (Clock::off_by(HOUR), Tls::new(root.trust(), Clock::SYSTEM));
    let refused = check(root.tls(WEB), hour).unwrap_err();
    assert!(matches!(refused, ClockOff::Early(3500..=3600)), "{refused}");
    assert_eq!(outcome(&Ok(Err(refused.into()))), "clock");
    assert_eq!(check(uncertified, hour), Ok(()));
    assert_eq!(check(root.tls(WEB), Clock::off_by(50)), Ok(()));
    let ended = check(root.tls(WEB), Clock::off_by(-25 * HOUR));
    assert_eq!(ended, Err(ClockOff::Ended));
}

#[tokio::test]
async fn t5_t7_what_a_removed_root_signed_is_replaced_even_from_the_future() {
    let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
    let (removed, both) = (
        new.bundle_pem(),
        format!("{}\n{}", new.bundle_pem(), old.bundle_pem()),
    );
    let (files, control) = (files(&new), new.tls(CONTROL));
    let issuer = Issuer {
        root: Arc::new(Mutex::new(new)),
        away: Arc::default(),
        ahead: Arc::new(HOUR.into()),
        life: DAY,
    };
    let address = issuer.serve(control).await;
    let certified = async |bundle: String| {
        std::fs::write(files.path().join("ca.crt"), bundle).expect("written");
        let tls = old.tls(WEB);
        let mut client = IdentityClient::new(channel_to(address, tls.clone()));
        let identity = Identity {
            config: config(files.path()),
            tls,
            links: LastLinks::default(),
            health: IdentityHealth::default(),
        };
        identity.certify(&mut client, false).await
    };
    let refused = certified(both).await.unwrap_err();
    assert!(refused.is::<ClockOff>(), "{refused:#}");
    let taken = certified(removed).await.unwrap();
    assert!(taken.not_before() > Clock::SYSTEM.now());
}

#[tokio::test]
async fn t7_clocks_that_differ_by_less_than_the_leeway_do_no_harm() {
    for offset in [-50, 50] {
        let world = World::with_clocks(DAY, Clock::off_by(offset), Clock::SYSTEM).await;
        until("it is certified", async || world.meet().await.is_ok()).await;
        let world = World::with_clocks(DAY, Clock::SYSTEM, Clock::off_by(offset)).await;
        until("it is certified", async || world.meet().await.is_ok()).await;
    }
}

#[tokio::test]
async fn t7_a_workload_whose_clock_is_an_hour_behind_is_certified() {
    let world = World::with_clocks(DAY, Clock::off_by(-HOUR), Clock::SYSTEM).await;
    // mesh-control has had its certificate for longer than that.
    let earlier = Clock::off_by(-2 * HOUR).now();
    let control = world.issuer.root.lock().unwrap().issue_at(CONTROL, earlier);
    world.control.set_certificate(control);
    until("it is certified", async || world.meet().await.is_ok()).await;
}
