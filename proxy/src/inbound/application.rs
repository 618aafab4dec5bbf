//! Requests to the pod's own application.

use std::{net::SocketAddr, pin::pin, sync::Arc};

use http::{
    Request, Response, StatusCode, Uri, Version,
    header::HOST,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use mesh_dataplane::message::{Body, Incoming};
use mesh_wire::{
    forward::{strip_hop_by_hop, strip_mesh},
    mesh1::{CLIENT_ID, Carried, Reason},
};
use tracing::debug;

use super::{
    Inbound, direct,
    permit::{Caller, RequestPermit},
};
use crate::{
    access::{Line, answered},
    body::answer as our_answer,
    metrics::BackendLabels,
    plain,
};

/// Passes on the request of a verified peer, and says who it is.
///
/// # Errors
/// If the application takes no connection, so that nothing was sent, or if
/// there is no answer before it, or the permit, ends.
pub(super) async fn answer_peer(
    inbound: &Inbound,
    client: &direct::Client,
    mut permit: RequestPermit,
    server: SocketAddr,
    carried: Carried,
    request: Request<Incoming>,
) -> Result<Response<Body>, Reason> {
    let (mut head, body) = request.into_parts();
    clean(&mut head)?;
    head.headers
        .insert(CLIENT_ID, direct::client_id(&client.id)?);
    head.version = match carried {
        Carried::Http2 => Version::HTTP_2,
        Carried::Http1 | Carried::Tcp | Carried::Connect | Carried::Probe => Version::HTTP_11,
    };
    let request = Request::from_parts(head, Body::Incoming(body));
    let answering = pin!(inbound.application.request(server, request));
    let answer = permit.hold(answering).await.ok_or(Reason::BrokenOff)?;
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            debug!(%server, %error, "application");
            return Err(match error {
                plain::Error::Connect(..) => Reason::ConnectFailed,
                plain::Error::Broken(_) => Reason::BrokenOff,
            });
        }
    };
    inbound.metrics.answered(&client.labels, response.status());
    Ok(clean_answer(response).map(|body| permit.watch(body)))
}

/// A client without a sidecar, and where it wants to go.
pub(super) struct Unmeshed {
    pub(super) labels: BackendLabels,
    pub(super) caller: Caller,
    pub(super) server: SocketAddr,
}

/// Passes on the request of a client without a sidecar, and logs it: nobody
/// vouches for it.
pub(super) async fn answer_unmeshed(
    inbound: Arc<Inbound>,
    client: Arc<Unmeshed>,
    request: Request<Incoming>,
) -> Response<Body> {
    let line = Line::request("inbound", "", &request);
    answered(line, unmeshed(&inbound, &client, request).await)
}

async fn unmeshed(
    inbound: &Arc<Inbound>,
    client: &Unmeshed,
    request: Request<Incoming>,
) -> Response<Body> {
    let server = client.server;
    let permit = inbound.permit_request(&client.caller, server.port(), &request);
    let mut permit = match permit {
        Ok(permit) => permit,
        Err(refusal) => {
            debug!(client = %client.caller.address, %server, %refusal, "refused");
            inbound.metrics.refused("inbound", refusal.as_str());
            return direct::refusal(Reason::NotAllowed);
        }
    };
    let (mut head, body) = request.into_parts();
    let version = head.version;
    if complete(&mut head, server).is_err() || clean(&mut head).is_err() {
        return our_answer(StatusCode::BAD_REQUEST, "the request is malformed");
    }
    head.version = version;
    let request = Request::from_parts(head, Body::Incoming(body));
    let answering = pin!(inbound.application.request(server, request));
    let response = match permit.hold(answering).await {
        Some(Ok(response)) => clean_answer(response).map(|body| permit.watch(body)),
        None => return direct::refusal(Reason::NotAllowed),
        Some(Err(error)) => {
            debug!(%server, %error, "application");
            our_answer(StatusCode::BAD_GATEWAY, "the application does not answer")
        }
    };
    inbound.metrics.answered(&client.labels, response.status());
    response
}

/// Takes out what concerns the last connection, and what only we may say.
fn clean(head: &mut Parts) -> Result<(), Reason> {
    strip_hop_by_hop(&mut head.headers);
    strip_mesh(&mut head.headers);
    head.headers.remove(HOST);
    if head.uri.authority().is_none() {
        return Err(Reason::BadRequest);
    }
    Ok(())
}

/// An HTTP/1 request's target with the authority that `Host` names.
fn complete(head: &mut Parts, server: SocketAddr) -> Result<(), http::Error> {
    if head.uri.authority().is_some() {
        return Ok(());
    }
    let authority = match head.headers.get(HOST) {
        Some(host) => Authority::try_from(host.as_bytes())?,
        None => Authority::try_from(server.to_string())?,
    };
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()?;
    Ok(())
}

fn clean_answer(response: Response<Incoming>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    strip_mesh(&mut head.headers);
    Response::from_parts(head, Body::Incoming(body))
}
