//! A stream from a peer whose identity is verified: policy, then the
//! application.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode};
use mesh_core::{identity::SpiffeId, inbound::Refusal};
use mesh_dataplane::message::{self, Body, Incoming, Tunnel};
use mesh_drive::conduit;
use mesh_wire::mesh1::{self, Carried, Reason};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{
    Inbound, application,
    permit::{Caller, Permit, RequestPermit},
};
use crate::{
    access::{Line, Went, answered},
    body,
    metrics::BackendLabels,
    plain,
};

/// The peer at the other end of a connection.
pub(super) struct Client {
    pub(super) id: SpiffeId,
    pub(super) caller: Caller,
    pub(super) labels: BackendLabels,
}

/// Why a stream gets no answer of the application.
enum Declined {
    Policy(Refusal),
    Other(Reason),
}

/// Answers one stream, and logs it if it is a request. (A stream of bytes has a
/// line of its own, written at its end.)
pub(super) async fn answer(
    inbound: Arc<Inbound>,
    client: Arc<Client>,
    tasks: TaskTracker,
    request: Request<Incoming>,
) -> Response<Body> {
    let is_request = request.method() != Method::CONNECT;
    let line = is_request.then(|| Line::request("inbound", client.id.as_uri(), &request));
    let answer = match admit(&inbound, &client, &request) {
        Ok(admitted) => lead(&inbound, &client, &tasks, admitted, request)
            .await
            .map_err(Declined::Other),
        Err(declined) => Err(declined),
    };
    let answer = answer.unwrap_or_else(|declined| {
        inbound.metrics.refused("inbound", declined.label());
        refusal(declined.reason())
    });
    answered(line.flatten(), answer)
}

/// A stream that policy lets in, and where it leads.
struct Admitted {
    permit: Permit,
    server: SocketAddr,
    carried: Carried,
}

/// Where the stream leads, if policy lets the client go there.
fn admit(
    inbound: &Arc<Inbound>,
    client: &Client,
    request: &Request<Incoming>,
) -> Result<Admitted, Declined> {
    let bad = || Declined::Other(Reason::BadRequest);
    let port = mesh1::port(request.headers()).ok_or_else(bad)?;
    let carried = Carried::from_headers(request.headers()).ok_or_else(bad)?;
    let permit = inbound.permit(&client.caller, port).map_err(|refusal| {
        debug!(client = %client.id, port, %refusal, "refused");
        Declined::Policy(refusal)
    })?;
    let server = inbound.application(port);
    let server = server.ok_or(Declined::Other(Reason::ConnectFailed))?;
    Ok(Admitted {
        permit,
        server,
        carried,
    })
}

async fn lead(
    inbound: &Inbound,
    client: &Client,
    tasks: &TaskTracker,
    admitted: Admitted,
    request: Request<Incoming>,
) -> Result<Response<Body>, Reason> {
    let Admitted {
        permit,
        server,
        carried,
    } = admitted;
    let is_connect = request.method() == Method::CONNECT;
    match carried {
        // Large.
        Carried::Tcp if is_connect => Box::pin(tcp(inbound, client, tasks, permit, server)).await,
        Carried::Http1 | Carried::Http2 if !is_connect => {
            let permit = RequestPermit::Watched(permit);
            application::answer_peer(inbound, client, permit, server, carried, request).await
        }
        Carried::Probe if request.method() == Method::OPTIONS => Ok(would_admit()),
        Carried::Tcp | Carried::Connect | Carried::Probe | Carried::Http1 | Carried::Http2 => {
            Err(Reason::BadRequest)
        }
    }
}

/// Tells a client that only asks that it would be let in.
fn would_admit() -> Response<Body> {
    let mut response = Response::new(Body::empty());
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
    permit: Permit,
    server: SocketAddr,
) -> Result<Response<Body>, Reason> {
    let socket = mesh_net::socket::connect(server, plain::CONNECT)
        .await
        .map_err(|error| {
            debug!(%server, %error, "application");
            Reason::ConnectFailed
        })?;
    inbound.metrics.carried(&client.labels);
    let (server, life) = conduit::bytes(socket, message::limits());
    // It ends with the stream that it is joined to.
    tasks.spawn(life);
    let mut line = Line::stream("inbound", client.id.as_uri(), Went::default());
    Ok(Response::new(Body::Tunnel(Tunnel {
        server,
        watch: permit.watch(),
        over: Box::new(move |carried| {
            if let Some(line) = &mut line {
                line.carried(carried);
            }
        }),
    })))
}

impl Declined {
    /// What the peer is told.
    const fn reason(&self) -> Reason {
        match self {
            Self::Policy(_) => Reason::NotAllowed,
            Self::Other(reason) => *reason,
        }
    }

    /// Under which it is counted.
    const fn label(&self) -> &'static str {
        match self {
            Self::Policy(refusal) => refusal.as_str(),
            Self::Other(reason) => reason.as_str(),
        }
    }
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
