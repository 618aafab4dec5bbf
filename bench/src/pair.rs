//! Two proxies of one subject, with everything around them: namespaces, back
//! end, and for ours a control plane.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use mesh_core::{destination::Protocol, ports};
use mesh_pair::{
    capture::{self, Capture},
    control::{ControlPlane, Port, Root, Script},
    namespace::{B, Namespace, SERVICE, Side, Site, pin},
    process::Program,
    sidecar::{Placed, Sidecars},
};
use nix::sys::signal::Signal;

use crate::{
    backend::{BYTES_PORT, Backend, HTTP_PORT},
    cores::{LOAD_CORE, PROXY_CORE},
    interrupt,
    load::{
        bulk::{self, Direction},
        carrier::Version,
        closed::{self, Plan},
        payload::{MARKER, SIGN},
        requests::Kind,
        window::Window,
    },
    peers,
    subject::Subject,
};

/// The namespaces of all subjects begin with this.
pub(crate) const PREFIX: &str = "mesh-bench-";
/// How long a pair may take until it answers.
const START: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(50);

/// What all pairs share.
pub(crate) struct Surroundings {
    pub(crate) root: Root,
    /// `mesh-proxy` and `mesh-redirect`, where any user can run them.
    pub(crate) sidecars: Sidecars,
    /// How they were built.
    pub(crate) profile: String,
    /// Other proxies' programs.
    pub(crate) peers: Option<PathBuf>,
    /// For configurations and logs.
    pub(crate) folder: PathBuf,
}

/// How many threads each proxy has, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workers {
    pub(crate) count: usize,
    pub(crate) cores: &'static [usize],
    /// Where load and back end are.
    pub(crate) load: &'static [usize],
}

/// As nearly everything is measured.
pub(crate) const ONE_WORKER: Workers = Workers {
    count: 1,
    cores: &[PROXY_CORE],
    load: &[LOAD_CORE],
};

/// A running pair. Fields are dropped in order: programs first.
pub(crate) struct Pair {
    pub(crate) subject: Subject,
    /// None of `Direct`.
    pub(crate) proxies: Option<Proxies>,
    _control: Vec<ControlPlane>,
    backend: Backend,
    /// What was seen to be encrypted.
    verified: HashSet<&'static str>,
    load: &'static [usize],
    site: Site,
}

pub(crate) struct Proxies {
    pub(crate) a: Program,
    pub(crate) b: Program,
}

impl Proxies {
    /// All processes of both.
    pub(crate) fn pids(&self) -> Vec<u32> {
        [self.a.pids(), self.b.pids()].concat()
    }
}

impl Pair {
    /// Starts everything, and returns once a request is answered.
    ///
    /// # Errors
    /// If something does not start or does not answer.
    pub(crate) fn start(cx: &Surroundings, subject: Subject, workers: Workers) -> Result<Self> {
        Self::try_start(cx, subject, workers).with_context(|| format!("{subject} does not start"))
    }

    fn try_start(cx: &Surroundings, subject: Subject, workers: Workers) -> Result<Self> {
        let site = Site::new(&format!("{PREFIX}{subject}"))?;
        let backend = Backend::start(&site.b, workers.load)?;
        let mut control = Vec::new();
        let proxies = match subject {
            Subject::Direct => None,
            Subject::Mesh => {
                redirect(cx, &site)?;
                for namespace in [&site.a, &site.b] {
                    let script = Script::new(&cx.root, &ports_of_backend());
                    control.push(ControlPlane::start(namespace, &[LOAD_CORE], script)?);
                }
                Some(Proxies {
                    a: sidecar(cx, &site, Side::A, workers)?,
                    b: sidecar(cx, &site, Side::B, workers)?,
                })
            }
            Subject::Haproxy | Subject::Envoy | Subject::Nginx => Some(Proxies {
                b: peer(cx, subject, &site.b, Side::B, workers)?,
                a: peer(cx, subject, &site.a, Side::A, workers)?,
            }),
        };
        let mut pair = Self {
            subject,
            proxies,
            _control: control,
            backend,
            verified: HashSet::new(),
            load: workers.load,
            site,
        };
        pair.until_it_answers()?;
        Ok(pair)
    }

    /// Asks both proxies to end, as the kubelet does, and waits for it.
    ///
    /// # Errors
    /// If one does not.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(Proxies { a, b }) = &mut self.proxies else {
            return Ok(());
        };
        // B's connections are A's.
        a.stop(Signal::SIGTERM, END)?;
        b.stop(Signal::SIGTERM, END)
    }

    /// Where a client sends such requests.
    pub(crate) fn http(&self, version: Version, kind: Kind) -> SocketAddr {
        let port = match (version, kind) {
            (_, Kind::Grpc(_)) => peers::GRPC,
            (Version::Http1, _) => peers::HTTP1,
            (Version::Http2, _) => peers::HTTP2,
        };
        match self.subject {
            Subject::Direct => (B, HTTP_PORT).into(),
            Subject::Mesh => (SERVICE, HTTP_PORT).into(),
            Subject::Haproxy | Subject::Envoy | Subject::Nginx => {
                (Ipv4Addr::LOCALHOST, port).into()
            }
        }
    }

    /// Where a client sends bytes.
    pub(crate) fn bytes(&self) -> SocketAddr {
        match self.subject {
            Subject::Direct => (B, BYTES_PORT).into(),
            Subject::Mesh => (SERVICE, BYTES_PORT).into(),
            _ => (Ipv4Addr::LOCALHOST, peers::BYTES).into(),
        }
    }

    /// Where B takes HTTP/2 or `mesh/1` inside mutual TLS, and its ALPN.
    pub(crate) fn tls(&self) -> (SocketAddr, &'static [u8]) {
        match self.subject {
            Subject::Mesh => ((B, ports::INBOUND).into(), mesh_tls::ALPN_MESH),
            _ => ((B, peers::TLS + peers::HTTP2).into(), b"h2"),
        }
    }

    /// The processes of both proxies; none without proxies.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.proxies.as_ref().map_or_else(Vec::new, Proxies::pids)
    }

    /// Runs a client: on a thread of its own in A's namespace, on the load's
    /// cores.
    ///
    /// # Errors
    /// If the client fails, the back end saw something wrong, or a proxy ended.
    pub(crate) fn client<T: Send>(
        &mut self,
        client: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let cores = self.load;
        let outcome = self.site.a.enter(|| {
            pin(cores)?;
            client()
        })?;
        if let Some(proxies) = &mut self.proxies {
            proxies.a.check()?;
            proxies.b.check()?;
        }
        self.backend.check()?;
        outcome
    }

    /// Runs requests for `length`, after a warm-up.
    ///
    /// # Errors
    /// As [`client`](Self::client), or if they did not cross the link.
    pub(crate) fn closed(&mut self, plan: &Plan, length: Duration) -> Result<closed::Done> {
        let pids = self.pids();
        let done = self.client(|| closed::run(plan, Window::new(&pids, length / 5, length)))?;
        let each = (plan.kind.sent() + plan.kind.received()) as u64;
        let under_way = (plan.connections * plan.streams) as u64;
        crossed(done.used.link, done.requests * each, under_way * each)?;
        Ok(done)
    }

    /// Looks at the link while requests of this kind are carried, once for each
    /// kind; true if that was now.
    ///
    /// # Errors
    /// If they can be read there, or do not cross it.
    pub(crate) fn verify(&mut self, version: Version, kind: Kind) -> Result<bool> {
        let what = match (version, kind) {
            (_, Kind::Grpc(_)) => "grpc",
            (Version::Http1, _) => "http1",
            (Version::Http2, _) => "http2",
        };
        let address = self.http(version, kind);
        // With something to be recognized in both directions.
        let kind = match kind {
            Kind::Get(size) => Kind::Post(size),
            Kind::Post(_) | Kind::Grpc(_) => kind,
        };
        let plan = Plan {
            address,
            version,
            kind,
            connections: 4,
            streams: 1,
        };
        self.watched(what, |pair| pair.closed(&plan, SHORT).map(drop))
    }

    /// The same for bytes.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub(crate) fn verify_bytes(&mut self) -> Result<bool> {
        let address = self.bytes();
        self.watched("bytes", |pair| {
            for direction in [Direction::Down, Direction::Up] {
                pair.client(|| bulk::run(address, direction, Window::new(&[], SHORT, SHORT)))?;
            }
            Ok(())
        })
    }

    fn watched(
        &mut self,
        what: &'static str,
        act: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<bool> {
        if self.verified.contains(what) {
            return Ok(false);
        }
        let capture = Capture::start(&self.site.a, &MARKER[..SIGN])?;
        act(self).with_context(|| format!("{what} does not get through; {}", self.said()))?;
        capture::check(capture.stop()?, self.proxies.is_some()).with_context(|| what)?;
        self.verified.insert(what);
        Ok(true)
    }

    fn until_it_answers(&mut self) -> Result<()> {
        let plan = Plan {
            address: self.http(Version::Http1, Kind::Get(1024)),
            version: Version::Http1,
            kind: Kind::Get(1024),
            connections: 1,
            streams: 1,
        };
        let deadline = Instant::now() + START;
        loop {
            interrupt::check()?;
            let pids = self.pids();
            let window = || Window::new(&pids, Duration::ZERO, Duration::from_millis(1));
            match self.client(|| closed::run(&plan, window())) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => bail!("{error:#}\n{}", self.said()),
                Err(_) => {}
            }
            if let Some(proxies) = &mut self.proxies {
                proxies.a.check()?;
                proxies.b.check()?;
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// What the proxies said last.
    fn said(&self) -> String {
        self.proxies.as_ref().map_or_else(String::new, |proxies| {
            format!(
                "A: {}\nB: {}",
                proxies.a.last_words(),
                proxies.b.last_words()
            )
        })
    }
}

/// Longer than the grace time that a sidecar gives its connections by default.
const END: Duration = Duration::from_secs(40);
/// Of a run that only shows that something works.
const SHORT: Duration = Duration::from_millis(150);

/// Checks that bytes crossed the link, but for those that were `under_way` when
/// the interval began: they may have crossed before.
///
/// # Errors
/// If fewer crossed than were carried.
pub(crate) fn crossed(link: u64, carried: u64, under_way: u64) -> Result<()> {
    ensure!(
        link + under_way >= carried,
        "{carried} bytes were carried, and only {link} crossed the link"
    );
    Ok(())
}

/// What sidecars know of the back end.
fn ports_of_backend() -> [Port; 2] {
    [
        Port::of_client(HTTP_PORT, "web", Protocol::Detect),
        Port::of_client(BYTES_PORT, "bytes", Protocol::Opaque),
    ]
}

/// Redirects the connections of both pods.
fn redirect(cx: &Surroundings, site: &Site) -> Result<()> {
    // Handshakes with B are measured without A.
    let past_a = ["--skip-outbound-ports", &ports::INBOUND.to_string()];
    cx.sidecars.redirect(&site.a, &past_a)?;
    cx.sidecars.redirect(&site.b, &[])
}

fn sidecar(cx: &Surroundings, site: &Site, side: Side, workers: Workers) -> Result<Program> {
    let placed = Placed {
        side,
        workers: workers.count,
        cores: workers.cores,
    };
    cx.sidecars.start(site.of(side), &cx.root, placed)
}

fn peer(
    cx: &Surroundings,
    subject: Subject,
    namespace: &Namespace,
    side: Side,
    workers: Workers,
) -> Result<Program> {
    let programs = cx.peers.as_deref();
    let programs = programs.context("tools/bench-peers says where it is: --peers FOLDER")?;
    let command = peers::command(subject, side, workers.count, programs, &cx.folder)?;
    let log = cx.folder.join(format!("{subject}-{}.log", side.as_str()));
    Program::start(namespace, workers.cores, command, &log)
}
