//! Requests to the pod's own application.

use std::{net::SocketAddr, sync::Arc};

use http::StatusCode;
use mesh_dataplane::message::{Body, Incoming, Request, Response, Unanswered, without_ours};
use mesh_drive::{buffers, conduit::Version, exchange::Broken};
use mesh_http::head::{Head, Invalid};
use mesh_wire::mesh1::{CLIENT_ID, Carried, Reason};
use tracing::debug;

use super::{Inbound, direct, permit::Guests};
use crate::{
    access::{Line, answered},
    body::{answer as our_answer, no_protocols, reset as without_answer},
    metrics::BackendLabels,
    plain, tunnel,
};

/// Passes on the request of a verified peer, and says who it is.
///
/// # Errors
/// If the application takes no connection, so that nothing was sent, or if it ends
/// before it has answered.
pub(super) async fn answer_peer(
    inbound: &Inbound,
    client: &direct::Client,
    server: SocketAddr,
    carried: Carried,
    request: Request,
) -> Result<Response, Reason> {
    let Request { mut head, body, .. } = request;
    let is_for_tunnel = head.asks_for_tunnel();
    clean(&mut head)?;
    let id = client.id.as_uri().as_bytes();
    head.push(CLIENT_ID.as_bytes(), id)
        .map_err(|_| Reason::BadRequest)?;
    let version = match carried {
        Carried::Http2 => Version::Http2,
        Carried::Http1 | Carried::Tcp | Carried::Probe => Version::Http1,
    };
    let (to, caller) = ((server, version), body.exchange().clone());
    let body = if is_for_tunnel {
        // Rare, and large.
        let body = Box::pin(tunnel::wrapped_body(&head, body)).await;
        body.map_err(|_| Reason::BadRequest)?
    } else {
        Body::Incoming(body)
    };
    let answering = inbound.application.request(to, &head, body, Some(&caller));
    let answer = answering.await;
    buffers::give_back_head(head);
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            debug!(%server, %error, "application");
            return match error {
                plain::Error::Connect(_) => Err(Reason::ConnectFailed),
                plain::Error::Broken(why) => reset(why).ok_or(Reason::BrokenOff),
                plain::Error::NoProtocols => Ok(no_protocols()),
            };
        }
    };
    inbound.metrics.answered(&client.labels, response.status());
    Ok(clean_answer(response))
}

/// A client without a sidecar, and where it wants to go.
pub(super) struct Unmeshed {
    pub(super) labels: BackendLabels,
    pub(super) guests: Guests,
    pub(super) server: SocketAddr,
}

/// Passes on the request of a client without a sidecar, and logs it: nobody
/// vouches for it.
pub(super) async fn answer_unmeshed(
    inbound: Arc<Inbound>,
    client: Arc<Unmeshed>,
    request: Request,
) -> Response {
    let line = Line::request("inbound", "", &request.head);
    answered(line, unmeshed(&inbound, &client, request).await)
}

async fn unmeshed(inbound: &Arc<Inbound>, client: &Unmeshed, request: Request) -> Response {
    let server = client.server;
    let admitted = client
        .guests
        .admit_unknown(inbound, server.port(), &request);
    if let Err(refusal) = admitted {
        let address = client.guests.caller().address;
        debug!(client = %address, %server, %refusal, "refused");
        inbound.metrics.refused("inbound", refusal.as_str());
        return direct::refusal(Reason::NotAllowed);
    }
    let Request {
        mut head,
        version,
        body,
    } = request;
    let prepared = complete(&mut head, server).and_then(|()| tunnel::prepare(&mut head, &body));
    if prepared.is_err() || clean(&mut head).is_err() {
        return our_answer(StatusCode::BAD_REQUEST, "the request is malformed");
    }
    let (to, caller) = ((server, version), body.exchange().clone());
    let body = if head.asks_for_tunnel() {
        // Rare, and large.
        match Box::pin(tunnel::body(&head, body)).await {
            Ok(body) => body,
            Err(_) => {
                return our_answer(StatusCode::BAD_REQUEST, "the request's body broke off");
            }
        }
    } else {
        Body::Incoming(body)
    };
    let answering = inbound.application.request(to, &head, body, Some(&caller));
    let response = match answering.await {
        Ok(response) => clean_answer(response),
        Err(error) => {
            debug!(%server, %error, "application");
            let given_up = match error {
                plain::Error::Connect(_) => None,
                plain::Error::Broken(why) => reset(why),
                plain::Error::NoProtocols => Some(no_protocols()),
            };
            given_up.unwrap_or_else(|| {
                our_answer(StatusCode::BAD_GATEWAY, "the application does not answer")
            })
        }
    };
    inbound.metrics.answered(&client.labels, response.status());
    response
}

/// Takes out what only we may say.
fn clean(head: &mut Head) -> Result<(), Reason> {
    without_ours(head);
    if head.authority().is_none() {
        return Err(Reason::BadRequest);
    }
    Ok(())
}

/// A request of HTTP/1.0 need not say whom it is for.
fn complete(head: &mut Head, server: SocketAddr) -> Result<(), Invalid> {
    match head.authority() {
        Some(_) => Ok(()),
        None => head.set_authority(server.to_string().as_bytes()),
    }
}

/// What a client is answered whose request the application has reset.
fn reset(why: Broken) -> Option<Response> {
    let code = Unanswered::reset(why)?;
    Some(without_answer(code, "the application has reset the stream"))
}

fn clean_answer(mut response: Response<Incoming>) -> Response {
    without_ours(&mut response.head);
    response.map(Incoming::into_body)
}
