//! A stream from a peer whose identity is verified: policy, then the
//! application.

use std::{net::SocketAddr, sync::Arc};

use http::StatusCode;
use mesh_core::{identity::SpiffeId, inbound::Refusal};
use mesh_dataplane::message::{self, Body, Request, Response, Tunnel, upgrade};
use mesh_drive::conduit;
use mesh_http::head::{Head, Invalid};
use mesh_wire::mesh1::{self, Carried, Reason};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{Inbound, application, permit::Guests};
use crate::{
    access::{Line, Went, answered},
    body,
    metrics::BackendLabels,
    plain,
};

/// The peer at the other end of a connection.
pub(super) struct Client {
    pub(super) id: SpiffeId,
    pub(super) guests: Guests,
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
    mut request: Request,
) -> Response {
    let wished = upgrade::unwrap(&mut request.head);
    let is_request = !is_bytes(&request.head);
    let line = is_request.then(|| Line::request("inbound", client.id.as_uri(), &request.head));
    let admitted = match &wished {
        Ok(_) => admit(&inbound, &client, &request),
        Err(_) => Err(Declined::Other(Reason::BadRequest)),
    };
    let answer = match admitted {
        Ok(admitted) => lead(&inbound, &client, &tasks, admitted, request)
            .await
            .map_err(Declined::Other),
        Err(declined) => Err(declined),
    };
    let answer = answer.unwrap_or_else(|declined| {
        inbound.metrics.refused("inbound", declined.label());
        refusal(declined.reason())
    });
    let answer = answered(line.flatten(), answer);
    match wished {
        Ok(Some(wished)) => wrapped(answer, &wished),
        Ok(None) | Err(_) => answer,
    }
}

/// Whether it carries the bytes of a TCP connection, and was asked for by no
/// application.
fn is_bytes(head: &Head) -> bool {
    head.is_connect()
        && head.protocol().is_none()
        && head.authority() == Some(mesh1::AUTHORITY_TCP.as_bytes())
        && head.get_single(mesh1::PROTO.as_bytes()) == Some(Carried::Tcp.as_str().as_bytes())
}

/// The answer to an upgrade, as it travels.
fn wrapped(mut answer: Response, wished: &[u8]) -> Response {
    match upgrade::wrap_answer(&mut answer.head, wished) {
        Ok(()) => answer,
        Err(_) => refusal(Reason::BrokenOff),
    }
}

/// Where a stream leads that policy lets in.
struct Admitted {
    server: SocketAddr,
    carried: Carried,
}

/// Where the stream leads, if policy lets the client go there.
fn admit(inbound: &Inbound, client: &Client, request: &Request) -> Result<Admitted, Declined> {
    let said = |name: &str| {
        let value = request.head.get_single(name.as_bytes());
        value.ok_or(Declined::Other(Reason::BadRequest))
    };
    let bad = || Declined::Other(Reason::BadRequest);
    let port = mesh1::port(said(mesh1::PORT)?).ok_or_else(bad)?;
    let carried = Carried::from_value(said(mesh1::PROTO)?).ok_or_else(bad)?;
    let admitted = client.guests.admit(inbound, port, request);
    admitted.map_err(|refusal| {
        debug!(client = %client.id, port, %refusal, "refused");
        Declined::Policy(refusal)
    })?;
    let server = inbound.application(port);
    let server = server.ok_or(Declined::Other(Reason::ConnectFailed))?;
    Ok(Admitted { server, carried })
}

async fn lead(
    inbound: &Inbound,
    client: &Client,
    tasks: &TaskTracker,
    admitted: Admitted,
    request: Request,
) -> Result<Response, Reason> {
    let Admitted { server, carried } = admitted;
    match carried {
        // Large.
        Carried::Tcp if is_bytes(&request.head) => {
            Box::pin(tcp(inbound, client, tasks, server)).await
        }
        Carried::Http1 | Carried::Http2 => {
            application::answer_peer(inbound, client, server, carried, request).await
        }
        Carried::Probe if request.head.method() == b"OPTIONS" => Ok(would_admit()),
        Carried::Tcp | Carried::Probe => Err(Reason::BadRequest),
    }
}

/// Tells a client that only asks that it would be let in.
fn would_admit() -> Response {
    let head = || {
        let mut head = Head::response(StatusCode::NO_CONTENT.as_u16())?;
        let probe = Carried::Probe.as_str().as_bytes();
        head.push(mesh1::PROTO.as_bytes(), probe)?;
        Ok::<_, Invalid>(head)
    };
    Response {
        head: head().unwrap_or_default(),
        body: Body::empty(),
    }
}

/// Connects to the application first: a refusal is then still an answer.
async fn tcp(
    inbound: &Inbound,
    client: &Client,
    tasks: &TaskTracker,
    server: SocketAddr,
) -> Result<Response, Reason> {
    let socket = mesh_net::socket::connect(server, plain::CONNECT)
        .await
        .map_err(|error| {
            debug!(%server, %error, "application");
            Reason::ConnectFailed
        })?;
    inbound.metrics.carried(&client.labels);
    let socket = inbound.screened(socket, server.port());
    let (server, life) = conduit::bytes(socket, message::limits());
    // It ends with the stream that it is joined to.
    tasks.spawn(life);
    let mut line = Line::stream("inbound", client.id.as_uri(), Went::default());
    Ok(Response {
        head: Head::response(StatusCode::OK.as_u16()).unwrap_or_default(),
        body: Body::Tunnel(Tunnel {
            server: Arc::new(server),
            over: Box::new(move |carried| {
                if let Some(line) = &mut line {
                    line.carried(carried);
                }
            }),
        }),
    })
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
pub(super) fn refusal(reason: Reason) -> Response {
    let mut response = body::answer(reason.status(), reason.as_str());
    let told = reason.as_str().as_bytes();
    // Our own words are valid ones.
    let _ = response.head.push(mesh1::ERROR.as_bytes(), told);
    response
}
