//! The admin port: `/live`, `/ready`, `/metrics`, and pages that a program adds.
//! Nothing there changes state. Every caller in the cluster can reach it, so it is cheap and bounded: one
//! request per connection, with a deadline, and few connections at a time.

mod page;

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, info};

use self::page::Page;
pub use self::page::{PageResult, Query};
use crate::{Backoff, Readiness, Shutdown};

/// The admin port, bound and not yet served.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    pages: Pages,
}

impl Admin {
    /// Binds the port.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(
        addr: SocketAddr,
        readiness: Readiness,
        registry: Arc<Registry>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(addr).await?,
            pages: Pages {
                readiness,
                registry,
                made: BTreeMap::new(),
            },
        })
    }

    /// Adds a page of JSON that is made when somebody asks, at most one at a
    /// time. `make` gets the request's query and must change nothing: any pod
    /// can ask.
    #[must_use]
    pub fn with_page<Make, Answer>(mut self, path: &'static str, make: Make) -> Self
    where
        Make: Fn(Query) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = PageResult> + Send + 'static,
    {
        self.pages.made.insert(path, Page::new(make));
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the program is to end. Connections that are open then are
    /// closed.
    pub async fn serve(self, shutdown: Shutdown) {
        let mut connections = Newest::default();
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.signalled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    backoff.reset();
                    connections.spawn(answer(self.pages.clone(), stream));
                }
                Err(error) => {
                    debug!(%error, "the admin port cannot accept a connection");
                    sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// The newest connections. One more takes the place of the oldest, so that idle
/// ones never keep a probe away: an honest one is answered long before.
#[derive(Default)]
struct Newest {
    tasks: JoinSet<()>,
    order: VecDeque<AbortHandle>,
}

impl Newest {
    fn spawn(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        if self.order.len() == MAX_CONNECTIONS
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        self.order.push_back(self.tasks.spawn(connection));
    }
}

/// Binds the admin port and answers until the program is to end.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve_admin(
    addr: SocketAddr,
    readiness: Readiness,
    registry: Arc<Registry>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let admin = Admin::bind(addr, readiness, registry)
        .await
        .with_context(|| format!("the admin port {addr} cannot be bound"))?;
    info!(%addr, "serving health and metrics");
    admin.serve(shutdown).await;
    Ok(())
}

async fn answer(pages: Pages, stream: TcpStream) {
    let service = service_fn(|request| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.page(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "an admin connection failed"),
        Err(_) => debug!("an admin connection took too long"),
    }
}

#[derive(Clone, Debug)]
struct Pages {
    readiness: Readiness,
    registry: Arc<Registry>,
    made: BTreeMap<&'static str, Page>,
}

impl Pages {
    async fn page(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            let mut page = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            page.headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET"));
            return page;
        }
        match request.uri().path() {
            "/live" => plain(StatusCode::OK, "live\n"),
            "/ready" if self.readiness.is_ready() => plain(StatusCode::OK, "ready\n"),
            "/ready" => self.not_ready(),
            "/metrics" => self.metrics(),
            path => match self.made.get(path) {
                Some(page) => {
                    let question = request.uri().query().unwrap_or_default();
                    page.answer(question.into()).await
                }
                None => plain(StatusCode::NOT_FOUND, "try /live, /ready or /metrics\n"),
            },
        }
    }

    fn not_ready(&self) -> Response<Full<Bytes>> {
        let mut page = plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n");
        if let Some(reason) = self.readiness.why_not() {
            *page.body_mut() = Full::from(format!("not ready: {reason}\n"));
        }
        page
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut body = String::new();
        if text::encode(&mut body, &self.registry).is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "cannot be encoded\n");
        }
        with_type(StatusCode::OK, OPEN_METRICS, body.into())
    }
}

fn plain(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let body = Bytes::from_static(body.as_bytes());
    with_type(status, "text/plain; charset=utf-8", body)
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Probes and a few scrapers.
const MAX_CONNECTIONS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;
const HEADER_DEADLINE: Duration = Duration::from_secs(2);
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
