//! A stream from a peer whose identity is verified: policy, then the
//! application.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mesh_core::{identity::SpiffeId, inbound::Refusal};
use mesh_dataplane::peer::Body;
use mesh_net::copy::copy;
use mesh_wire::mesh1::{self, Carried, Reason};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{Inbound, application};
use crate::{body, metrics::BackendLabels, plain};

/// The peer at the other end of a connection.
pub(super) struct Client {
    pub(super) id: SpiffeId,
    pub(super) labels: BackendLabels,
}

/// Answers one stream.
pub(super) async fn answer(
    inbound: Arc<Inbound>,
    client: Arc<Client>,
    tasks: TaskTracker,
    request: Request<Incoming>,
) -> Response<Body> {
    let result = match admit(&inbound, &client, &request) {
        Ok((server, Carried::Tcp)) if request.method() == Method::CONNECT => {
            tcp(&inbound, &client, &tasks, server, request).await
        }
        Ok((_, Carried::Probe)) if request.method() == Method::OPTIONS => Ok(admitted()),
        Ok((_, Carried::Tcp | Carried::Connect | Carried::Probe)) => Err(Reason::BadRequest),
        Ok(_) if request.method() == Method::CONNECT => Err(Reason::BadRequest),
        Ok((server, carried)) => {
            application::answer_peer(&inbound, &client, server, carried, request).await
        }
        Err(reason) => Err(reason),
    };
    result.unwrap_or_else(|reason| {
        inbound.metrics.refused("inbound", reason.as_str());
        refusal(reason)
    })
}

/// Where the stream leads, if policy lets the client go there.
fn admit(
    inbound: &Inbound,
    client: &Client,
    request: &Request<Incoming>,
) -> Result<(SocketAddr, Carried), Reason> {
    let port = mesh1::port(request.headers()).ok_or(Reason::BadRequest)?;
    let carried = Carried::from_headers(request.headers()).ok_or(Reason::BadRequest)?;
    inbound
        .authorize(&client.id, port)
        .map_err(|refusal: Refusal| {
            debug!(client = %client.id, port, %refusal, "refused");
            Reason::NotAllowed
        })?;
    let server = inbound.application(port).ok_or(Reason::ConnectFailed)?;
    Ok((server, carried))
}

/// Tells a client that only asks that it would be let in.
fn admitted() -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
        .headers_mut()
        .insert(mesh1::PROTO, Carried::Probe.header());
    response
}

/// Connects to the application first: a refusal is then still an answer.
async fn tcp(
    inbound: &Inbound,
    client: &Client,
    tasks: &TaskTracker,
    server: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Reason> {
    let mut server = mesh_net::socket::connect(server, plain::CONNECT)
        .await
        .map_err(|error| {
            debug!(%server, %error, "application");
            Reason::ConnectFailed
        })?;
    inbound.metrics.carried(&client.labels);
    let upgrade = hyper::upgrade::on(&mut request);
    tasks.spawn(async move {
        let result = carry(upgrade, &mut server).await;
        debug!(?result, "stream ended");
    });
    Ok(Response::new(
        Empty::new().map_err(|never| match never {}).boxed(),
    ))
}

async fn carry(upgrade: hyper::upgrade::OnUpgrade, server: &mut TcpStream) -> anyhow::Result<()> {
    let mut stream = TokioIo::new(upgrade.await?);
    copy(&mut stream, server).await?;
    Ok(())
}

/// Tells the peer's sidecar why, in a form that it does not take for the
/// application's answer.
pub(super) fn refusal(reason: Reason) -> Response<Body> {
    let mut response = body::answer(reason.status(), reason.as_str());
    response.headers_mut().insert(mesh1::ERROR, reason.header());
    response
}

/// What the application is told of its client.
pub(super) fn client_id(id: &SpiffeId) -> Result<HeaderValue, Reason> {
    HeaderValue::from_str(id.as_uri()).map_err(|_| Reason::BadRequest)
}
