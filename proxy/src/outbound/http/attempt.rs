//! One endpoint's turn: the request as it goes out, the answer as it comes back,
//! and what is learnt of the endpoint.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response, Uri, Version, request::Parts, uri::Authority};
use mesh_dataplane::{
    message::{self, Body, Incoming},
    peer::Peer,
};
use mesh_wire::{
    forward::{strip_hop_by_hop, strip_mesh},
    mesh1::Reason,
};
use tracing::debug;

use super::super::{
    Outbound, Way,
    balancer::EndpointState,
    route::{Changes, Sending},
};
use crate::{
    body::{answer as our_answer, clone_head},
    plain,
};

/// Why there is no answer.
pub(super) enum Failed {
    /// Nobody has received the request, and the endpoint is marked for it.
    Unsent {
        /// If it is still whole.
        body: Option<Body>,
        /// For the application.
        why: String,
    },
    /// Somebody may have, and the endpoint is marked for it.
    Received(&'static str),
}

/// Sends the request to one endpoint.
pub(super) async fn send(
    outbound: &Arc<Outbound>,
    sending: &Sending<'_>,
    head: &Parts,
    body: Body,
) -> Result<Response<Body>, Failed> {
    let attempt = Attempt {
        outbound,
        endpoint: &sending.endpoint,
    };
    let _pending = sending.endpoint.pending();
    let request = outgoing(sending, head, body);
    let (response, latency) = match outbound.peer(sending.endpoint.endpoint()) {
        // Rare, and large.
        Way::Plain(address) => Box::pin(attempt.plain(address, request)).await?,
        Way::Mesh(peer) => attempt.mesh(peer, request).await?,
    };
    if let Some(reason) = attempt.refusal(&response) {
        return attempt.refused(reason);
    }
    sending.endpoint.answered(latency, Instant::now());
    Ok(incoming(response))
}

/// The request with what its rule changes, under the name that its Service has
/// where it goes.
fn outgoing(sending: &Sending<'_>, head: &Parts, body: Body) -> Request<Body> {
    let mut request = clone_head(head).map(|()| body);
    if let Some(changes) = &sending.changes {
        changes.apply(&mut request);
    }
    // What a route says of the authority comes before the name that a mirror's
    // Service has at home.
    let of_route = sending.changes.as_ref().and_then(Changes::authority);
    let of_endpoint = sending.endpoint.endpoint().authority.as_deref();
    if let Some(authority) = of_route.map(Authority::as_str).or(of_endpoint) {
        set_authority(&mut request, authority);
    }
    request
}

/// The answer without what concerned the connection to the endpoint.
fn incoming(response: Response<Incoming>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    strip_mesh(&mut head.headers);
    head.version = Version::HTTP_11;
    Response::from_parts(head, Body::Incoming(body))
}

/// An answer, and how long it took once the way was open: latency is the
/// endpoint's.
type Timed = (Response<Incoming>, Duration);

/// One endpoint's turn.
struct Attempt<'a> {
    outbound: &'a Arc<Outbound>,
    endpoint: &'a Arc<EndpointState>,
}

impl Attempt<'_> {
    async fn plain(
        &self,
        address: SocketAddr,
        mut request: Request<Body>,
    ) -> Result<Timed, Failed> {
        strip_mesh(request.headers_mut());
        let start = Instant::now();
        let sent = self.outbound.plain.request(address, request).await;
        let response = sent.map_err(|error| {
            debug!(%address, %error, "endpoint");
            match error {
                plain::Error::Connect(_, body) => self.unsent("unreachable", Some(*body)),
                plain::Error::Broken(_) => self.broken("the endpoint broke off"),
            }
        })?;
        Ok((response, start.elapsed()))
    }

    async fn mesh(&self, peer: Peer, request: Request<Body>) -> Result<Timed, Failed> {
        let (parts, body) = request.into_parts();
        let Ok(head) = message::head(&parts) else {
            return Err(self.broken("the request cannot be sent"));
        };
        drop(parts);
        let connection = match self.outbound.connect(self.endpoint, peer).await {
            Ok(connection) => connection,
            Err(error) => {
                return Err(Failed::Unsent {
                    body: Some(body),
                    why: error.told(),
                });
            }
        };
        let start = Instant::now();
        let port = self.endpoint.endpoint().address.port();
        let sent = connection.send(port, head, body).await;
        let response = sent.map_err(|unanswered| {
            debug!(?unanswered, "endpoint");
            match unanswered.unsent {
                Some(body) => self.unsent("closed", Some(body)),
                None => self.broken("the endpoint broke off"),
            }
        })?;
        Ok((response, start.elapsed()))
    }

    /// What the endpoint's sidecar says instead of its application.
    fn refusal(&self, response: &Response<Incoming>) -> Option<Reason> {
        let is_meshed = self.endpoint.endpoint().mesh.is_some();
        Reason::from_headers(response.headers()).filter(|_| is_meshed)
    }

    /// The peer's sidecar did not let the request through to its application.
    fn refused(&self, reason: Reason) -> Result<Response<Body>, Failed> {
        match reason {
            Reason::ConnectFailed
            | Reason::Overloaded
            | Reason::Draining
            | Reason::UnknownEndpoint => Err(self.unsent(reason.as_str(), None)),
            Reason::BrokenOff => Err(self.broken("the application broke off")),
            Reason::NotAllowed | Reason::BadRequest | Reason::TooManyHops => {
                let message = format!("the peer refused: {}", reason.as_str());
                Ok(our_answer(reason.status(), &message))
            }
        }
    }

    fn unsent(&self, reason: &'static str, body: Option<Body>) -> Failed {
        self.failed(reason);
        let why = reason.to_owned();
        Failed::Unsent { body, why }
    }

    fn broken(&self, message: &'static str) -> Failed {
        self.failed("broken");
        Failed::Received(message)
    }

    fn failed(&self, reason: &'static str) {
        self.outbound.metrics.attempt_failed(reason);
        self.endpoint.failed(Instant::now());
    }
}

/// A mirror's requests carry the name of the remote Service.
fn set_authority(request: &mut Request<Body>, authority: &str) {
    let mut parts = request.uri().clone().into_parts();
    if let Ok(authority) = authority.parse() {
        parts.authority = Some(authority);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}
