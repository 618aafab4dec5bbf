//! HTTP/1 and HTTP/2 connections, and gRPC within them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::Context;
use crate::behaviour::Behaviour;
use crate::echo::{Echo, header_list, json, version_name};
use crate::grpc;
use crate::id::RequestId;

/// Body of every answer.
pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// Serves one connection; a drain lets its requests in flight finish.
pub(super) async fn serve(cx: Arc<Context>, io: TcpStream, peer: SocketAddr) -> anyhow::Result<()> {
    let draining = cx.draining.clone();
    let service = service_fn(move |request| {
        let cx = cx.clone();
        async move { Ok::<_, Infallible>(answer(&cx, peer, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));

    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    outcome.map_err(|error| anyhow::anyhow!(error))
}

async fn answer(cx: &Context, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/healthz" {
        return text(StatusCode::OK, "ok\n".into());
    }
    let query = request.uri().query().unwrap_or_default();
    if request.uri().path() == "/ids" {
        return ids(cx, query);
    }
    let behaviour = match cx.behaviour.for_request(query, request.headers()) {
        Ok(behaviour) => behaviour,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    if grpc::is_grpc(request.headers()) {
        return grpc::server::answer(&cx.place, &cx.seen, peer, &behaviour, request).await;
    }
    echo(cx, peer, &behaviour, request).await
}

/// How often each request of `?run=RUN` was seen.
fn ids(cx: &Context, query: &str) -> Response<Body> {
    let run = query.split('&').find_map(|pair| pair.strip_prefix("run="));
    match run.unwrap_or_default().parse() {
        Ok(run) => {
            let sightings = cx.seen.of(&run, &cx.place.pod);
            with_json(response(StatusCode::OK, json(&sightings)))
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("run: {error}\n")),
    }
}

async fn echo(
    cx: &Context,
    peer: SocketAddr,
    behaviour: &Behaviour,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let seen = match SeenBody::read(body).await {
        Ok(seen) => seen,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("request body: {error}\n")),
    };
    let id = RequestId::of_headers(&head.headers);
    id.iter().for_each(|id| cx.seen.note(id));
    tokio::time::sleep(behaviour.latency()).await;

    let echo = Echo {
        place: &cx.place,
        id: id.map(|id| id.to_string()),
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        authority: head.uri.authority().map(|authority| authority.as_str()),
        host: head.headers.get(HOST).and_then(|host| host.to_str().ok()),
        version: version_name(head.version),
        headers: header_list(&head.headers),
        trailers: header_list(&seen.trailers),
        peer,
        body_length: seen.length,
        body: seen.text(),
    };
    with_json(response(
        behaviour.status(rand::random()),
        echo.render(behaviour.size()),
    ))
}

fn with_json(mut response: Response<Body>) -> Response<Body> {
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// A request's body, counted; only its start is kept.
#[derive(Default)]
struct SeenBody {
    length: u64,
    start: Vec<u8>,
    trailers: HeaderMap,
}

/// How much of a request's body comes back in the answer.
const SHOWN_BODY: usize = 1024;

impl SeenBody {
    async fn read(mut body: Incoming) -> Result<Self, hyper::Error> {
        let mut seen = Self::default();
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => seen.add(&data),
                Err(frame) => seen.trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        Ok(seen)
    }

    fn add(&mut self, data: &[u8]) {
        self.length += data.len() as u64;
        let room = SHOWN_BODY - self.start.len();
        self.start.extend_from_slice(&data[..room.min(data.len())]);
    }

    fn text(&self) -> Option<&str> {
        let whole = self.length == self.start.len() as u64 && self.length > 0;
        whole
            .then(|| std::str::from_utf8(&self.start).ok())
            .flatten()
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    response(status, text.into_bytes())
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Full::from(body).boxed_unsync());
    *response.status_mut() = status;
    response
}
