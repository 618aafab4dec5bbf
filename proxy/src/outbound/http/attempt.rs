//! One endpoint's turn: the request as it goes out, the answer as it comes back,
//! and what is learnt of the endpoint.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{Request, request::Parts, uri::Authority};
use mesh_dataplane::{
    message::{Body, Incoming, Response, Unanswered, convert, upgrade, without_ours},
    peer::{self, PeerConnection},
};
use mesh_drive::exchange::Broken;
use mesh_http::{
    fault::Code,
    head::{Head, Invalid},
};
use mesh_wire::mesh1::Reason;
use tracing::debug;

use super::{
    super::{
        Outbound, Way,
        balancer::EndpointState,
        route::{Changes, Sending},
    },
    head::Asking,
};
use crate::{
    body::{answer as our_answer, no_protocols},
    plain,
};

/// Why there is no answer.
pub(super) enum Failed {
    /// Nobody has received the request, and the endpoint is marked for it.
    Unsent {
        /// For the application.
        why: String,
    },
    /// Somebody may have, and the endpoint is marked for it.
    Received {
        /// For the application.
        message: &'static str,
        /// The server has reset its stream.
        reset: Option<Code>,
    },
}

/// Sends the request to one endpoint, which was chosen just now.
pub(super) async fn send(
    outbound: &Arc<Outbound>,
    sending: &Sending<'_>,
    asking: &mut Asking,
    body: Body,
    now: Instant,
) -> Result<Response, Failed> {
    let attempt = Attempt {
        outbound,
        endpoint: &sending.endpoint,
    };
    let pending = sending.endpoint.pending();
    let (mut response, start) = match changed(sending, asking) {
        None => attempt.send(asking, body, now).await?,
        // Rare, and large.
        Some(Ok(mut changed)) => Box::pin(attempt.send(&mut changed, body, now)).await?,
        Some(Err(_)) => return Err(attempt.broken("the request cannot be sent")),
    };
    if let Some(reason) = attempt.refusal(&response) {
        if let Body::Incoming(refusal) = &response.body {
            // What its client still sends of the request is for another endpoint.
            refusal.exchange().reset(Code::Cancel);
        }
        return attempt.refused(reason);
    }
    without_ours(&mut response.head);
    let now = Instant::now();
    sending.endpoint.answered(now - start, now);
    Ok(response.map(|body| match body {
        // It is under way for as long as it lasts.
        Body::Tunnel(tunnel) => Body::Tunnel(tunnel.telling(move |_| drop(pending))),
        other => other,
    }))
}

/// The request with what its rule changes, under the name that its Service has
/// where it goes; none if that is the request as it is.
fn changed(sending: &Sending<'_>, asking: &Asking) -> Option<Result<Asking, Invalid>> {
    // What a route says of the authority comes before the name that a mirror's
    // Service has at home.
    let of_route = sending.changes.as_ref().and_then(Changes::authority);
    let of_endpoint = sending.endpoint.endpoint().authority.as_deref();
    let authority = of_route.map(Authority::as_str).or(of_endpoint);
    let mut head = match &sending.changes {
        None if authority.is_none() => return None,
        None => asking.head.clone(),
        // It was looked at when the rule was found.
        Some(changes) => match asking.parts().map(|parts| applied(changes, asking, parts)) {
            Some(Ok(head)) => head,
            Some(Err(invalid)) => return Some(Err(invalid)),
            None => return Some(Err(Invalid::Path)),
        },
    };
    // A plain CONNECT's is what the application is to connect to.
    let is_name = !head.is_connect() || head.protocol().is_some();
    if let Some(authority) = authority.filter(|_| is_name) {
        // One that is none leaves the request's own.
        let _ = head.set_authority(authority.as_bytes());
    }
    let changed = Asking::prepared(head, asking.version);
    Some(changed.map(|changed| changed.of(asking.client.as_ref())))
}

fn applied(changes: &Changes<'_>, asking: &Asking, parts: &Parts) -> Result<Head, Invalid> {
    let mut request = Request::new(());
    request.method_mut().clone_from(&parts.method);
    request.uri_mut().clone_from(&parts.uri);
    request.headers_mut().clone_from(&parts.headers);
    changes.apply(&mut request);
    convert::head_like(&asking.head, &request.into_parts().0)
}

/// Asks for a tunnel, an upgrade in the form in which it travels.
async fn tunnel(
    connection: &PeerConnection,
    port: u16,
    asking: &Asking,
    body: Body,
) -> Result<Response<Incoming>, Unanswered> {
    let mut head = asking.head.clone();
    upgrade::wrap(&mut head).map_err(|_| Unanswered::at_fault())?;
    // One that ends before takes no stream either.
    let _ = connection.takes_protocols().await;
    let asked = connection.ask(port, asking.carried(), &mut head, body)?;
    let mut response = asked.telling(asking.client.clone()).answer().await?;
    if let Some(wished) = asking.head.upgrade() {
        let unwrapped = upgrade::unwrap_answer(&mut response.head, wished);
        unwrapped.map_err(|_| Unanswered::at_fault())?;
    }
    Ok(response)
}

/// An answer, and since when the way was open: the time from then on is the
/// endpoint's.
type Timed = (Response, Instant);

/// One endpoint's turn.
struct Attempt<'a> {
    outbound: &'a Arc<Outbound>,
    endpoint: &'a Arc<EndpointState>,
}

impl Attempt<'_> {
    async fn send(&self, asking: &mut Asking, body: Body, now: Instant) -> Result<Timed, Failed> {
        if let Some(connection) = self.outbound.kept(self.endpoint, now) {
            return self.mesh(&connection, asking, body, now).await;
        }
        match self.outbound.way(self.endpoint.endpoint()) {
            // Rare, and large.
            Way::Plain(address) => Box::pin(self.plain(address, asking, body)).await,
            Way::Mesh(peer) => {
                let connected = self.outbound.connect(self.endpoint, peer);
                match Box::pin(connected).await {
                    Ok(connection) => self.mesh(&connection, asking, body, Instant::now()).await,
                    Err(error) => Err(Failed::Unsent { why: error.told() }),
                }
            }
        }
    }

    async fn plain(
        &self,
        address: SocketAddr,
        asking: &Asking,
        body: Body,
    ) -> Result<Timed, Failed> {
        let start = Instant::now();
        let clients = &self.outbound.plain;
        let (to, client) = ((address, asking.version), asking.client.as_ref());
        let sent = clients.request(to, &asking.head, body, client);
        let response = match sent.await {
            Ok(response) => response.map(Incoming::into_body),
            Err(error) => {
                debug!(%address, %error, "endpoint");
                match error {
                    plain::Error::Connect(_) => return Err(self.unsent("unreachable")),
                    plain::Error::Broken(why) => return Err(self.broken_by(why)),
                    plain::Error::NoProtocols => no_protocols(),
                }
            }
        };
        Ok((response, start))
    }

    async fn mesh(
        &self,
        connection: &PeerConnection,
        asking: &mut Asking,
        body: Body,
        start: Instant,
    ) -> Result<Timed, Failed> {
        let port = self.endpoint.endpoint().address.port();
        let answer = if asking.head.asks_for_tunnel() {
            // Rare, and large.
            Box::pin(tunnel(connection, port, asking, body)).await
        } else {
            let carried = asking.carried();
            match connection.ask(port, carried, &mut asking.head, body) {
                Ok(asked) => asked.telling(asking.client.clone()).answer().await,
                Err(unanswered) => Err(unanswered),
            }
        };
        let response = answer.map_err(|unanswered| {
            debug!(?unanswered, "endpoint");
            match unanswered.unsent {
                Some(_) => self.unsent("closed"),
                None => self.broken_by(unanswered.why),
            }
        })?;
        Ok((response.map(Incoming::into_body), start))
    }

    /// What the endpoint's sidecar says instead of its application.
    fn refusal(&self, response: &Response) -> Option<Reason> {
        let is_meshed = self.endpoint.endpoint().mesh.is_some();
        peer::reason(&response.head).filter(|_| is_meshed)
    }

    /// The peer's sidecar did not let the request through to its application.
    fn refused(&self, reason: Reason) -> Result<Response, Failed> {
        match reason {
            Reason::ConnectFailed
            | Reason::Overloaded
            | Reason::Draining
            | Reason::UnknownEndpoint => Err(self.unsent(reason.as_str())),
            Reason::BrokenOff => Err(self.broken("the application broke off")),
            Reason::NotAllowed | Reason::BadRequest | Reason::TooManyHops => {
                let message = format!("the peer refused: {}", reason.as_str());
                Ok(our_answer(reason.status(), &message))
            }
        }
    }

    fn unsent(&self, reason: &'static str) -> Failed {
        self.failed(reason);
        let why = reason.to_owned();
        Failed::Unsent { why }
    }

    fn broken(&self, message: &'static str) -> Failed {
        self.failed("broken");
        let reset = None;
        Failed::Received { message, reset }
    }

    /// The endpoint broke off. One that gives up a single stream is well otherwise.
    fn broken_by(&self, why: Broken) -> Failed {
        let message = "the endpoint broke off";
        let Some(code) = Unanswered::reset(why) else {
            return self.broken(message);
        };
        self.outbound.metrics.attempt_failed("reset");
        let reset = Some(code);
        Failed::Received { message, reset }
    }

    fn failed(&self, reason: &'static str) {
        self.outbound.metrics.attempt_failed(reason);
        self.endpoint.failed(Instant::now());
    }
}
