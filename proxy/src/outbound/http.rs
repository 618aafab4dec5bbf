//! The life of a request: endpoint, attempt, answer, and another endpoint when
//! nobody has received it.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::HOST,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::body::Incoming;
use mesh_dataplane::peer::Body;
use mesh_wire::{
    forward::{strip_hop_by_hop, strip_mesh},
    mesh1::{Carried, PROTO, Reason},
};
use tokio::time::timeout;
use tracing::debug;

use super::{
    Outbound, Way,
    balancer::EndpointState,
    route::{self, Changes},
    target::Target,
};
use crate::{
    access::Went,
    body::{RequestBody, answer as our_answer, clone_head, pass},
};

/// Endpoints tried for one request, and the time in which they are.
const ATTEMPTS: usize = 6;
const DEADLINE: Duration = Duration::from_secs(10);
/// The pause before the next attempt when every endpoint has just failed.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers one request of the application.
pub(crate) async fn answer(
    outbound: Arc<Outbound>,
    target: Target,
    request: Request<Incoming>,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    if head.method == Method::CONNECT {
        return our_answer(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not carried");
    }
    if let Err(problem) = prepare(&mut head) {
        return our_answer(StatusCode::BAD_REQUEST, problem);
    }
    let limit = route::time_limit(&target.current(), &head);
    let answering = pin!(attempts(&outbound, &target, &head, body));
    match limit {
        None => answering.await,
        Some(limit) => timeout(limit, answering).await.unwrap_or_else(|_| {
            outbound.metrics.refused("outbound", "timeout");
            our_answer(
                StatusCode::GATEWAY_TIMEOUT,
                "there was no answer within the route's time-out",
            )
        }),
    }
}

async fn attempts(
    outbound: &Arc<Outbound>,
    target: &Target,
    head: &Parts,
    body: Incoming,
) -> Response<Body> {
    let Ok(mut body) = RequestBody::of(body).await else {
        return our_answer(StatusCode::BAD_REQUEST, "the request's body broke off");
    };
    let start = Instant::now();
    let (mut repeated, mut last) = (false, None);
    for attempt in 0..ATTEMPTS {
        let state = target.current();
        let route::Sending {
            backend,
            endpoint,
            changes,
        } = match route::decide(&state, head, Instant::now()) {
            Ok(sending) => sending,
            Err(instead) => return instead.answer(&outbound.metrics),
        };
        let (this, next) = body.attempt();
        let _pending = endpoint.pending();
        match send(outbound, &endpoint, head, this, changes).await {
            Ok(mut response) => {
                let status = response.status();
                outbound.metrics.answered(&backend.labels, status);
                if let Some(changes) = changes {
                    changes.apply_to_answer(&mut response);
                }
                if let Some(went) = Went::out(&backend.labels, endpoint.endpoint()) {
                    response.extensions_mut().insert(went);
                }
                return response;
            }
            Err(Failed::Received(message)) => {
                outbound.metrics.attempt_failed("broken");
                endpoint.failed(Instant::now());
                // Doing it twice is as good as once (RFC 9110 §9.2.2); a third
                // time would be a storm.
                let may_repeat = head.method.is_idempotent() && !repeated;
                match next.filter(|_| may_repeat) {
                    Some(kept) => body = kept,
                    None => return our_answer(StatusCode::BAD_GATEWAY, message),
                }
                repeated = true;
            }
            Err(Failed::Unsent { body: back, why }) => {
                last = Some(why);
                body = match (next, back) {
                    (Some(kept), _) => kept,
                    (None, Some(back)) => RequestBody::Streaming(back),
                    (None, None) => {
                        return our_answer(StatusCode::BAD_GATEWAY, "the endpoint is gone");
                    }
                };
            }
        }
        if start.elapsed() > DEADLINE {
            break;
        }
        if attempt > 0 {
            tokio::time::sleep(PAUSE * u32::try_from(attempt).unwrap_or(1)).await;
        }
    }
    let message = "no endpoint could be reached";
    match last {
        Some(why) => our_answer(StatusCode::BAD_GATEWAY, &format!("{message}: {why}")),
        None => our_answer(StatusCode::BAD_GATEWAY, message),
    }
}

/// Why there is no answer.
enum Failed {
    /// Nobody has received the request, and the endpoint is marked for it.
    Unsent {
        /// If it is still whole.
        body: Option<Body>,
        /// For the application.
        why: String,
    },
    /// Somebody may have.
    Received(&'static str),
}

/// Sends the request to one endpoint.
async fn send(
    outbound: &Arc<Outbound>,
    state: &Arc<EndpointState>,
    head: &Parts,
    body: Body,
    changes: Option<Changes<'_>>,
) -> Result<Response<Body>, Failed> {
    let endpoint = state.endpoint();
    let mut request = clone_head(head).map(|()| body);
    if let Some(changes) = &changes {
        changes.apply(&mut request);
    }
    // What a route says of the authority comes before the name that a mirror's
    // Service has at home.
    let authority = changes.as_ref().and_then(Changes::authority);
    let authority = authority.map(Authority::as_str);
    if let Some(authority) = authority.or(endpoint.authority.as_deref()) {
        set_authority(&mut request, authority);
    }
    let unsent = |reason: &'static str, body| {
        outbound.metrics.attempt_failed(reason);
        state.failed(Instant::now());
        let why = reason.to_owned();
        Failed::Unsent { body, why }
    };
    // Latency is the endpoint's, not that of the way being opened.
    let mut start = Instant::now();
    let response = match outbound.peer(endpoint) {
        Way::Plain(address) => {
            strip_mesh(request.headers_mut());
            let sent = outbound.plain.request(address, request).await;
            sent.map_err(|error| {
                debug!(%address, %error, "endpoint");
                if error.is_connect() {
                    unsent("unreachable", None)
                } else {
                    Failed::Received("the endpoint broke off")
                }
            })?
        }
        Way::Mesh(peer) => {
            address_as_mesh(&mut request);
            let mut connection = match outbound.connect(state, peer).await {
                Ok(connection) => connection,
                Err(error) => {
                    return Err(Failed::Unsent {
                        body: Some(request.into_body()),
                        why: error.told(),
                    });
                }
            };
            start = Instant::now();
            let sent = connection.request(endpoint.address.port(), request).await;
            sent.map_err(|error| {
                debug!(%error, "endpoint");
                match error.unsent {
                    Some(request) => unsent("closed", Some(request.into_body())),
                    None => Failed::Received("the endpoint broke off"),
                }
            })?
        }
    };
    if let Some(reason) = Reason::from_headers(response.headers())
        && endpoint.mesh.is_some()
    {
        return refused(reason, unsent);
    }
    let now = Instant::now();
    state.answered(now.saturating_duration_since(start), now);
    let (mut head, body) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    strip_mesh(&mut head.headers);
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, pass(body)))
}

/// The peer's sidecar did not let the request through to its application.
fn refused(
    reason: Reason,
    unsent: impl FnOnce(&'static str, Option<Body>) -> Failed,
) -> Result<Response<Body>, Failed> {
    match reason {
        Reason::ConnectFailed | Reason::Overloaded | Reason::Draining | Reason::UnknownEndpoint => {
            Err(unsent(reason.as_str(), None))
        }
        Reason::BrokenOff => Err(Failed::Received("the application broke off")),
        Reason::NotAllowed | Reason::BadRequest | Reason::TooManyHops => {
            let message = format!("the peer refused: {}", reason.as_str());
            Ok(our_answer(reason.status(), &message))
        }
    }
}

/// Makes the head one that can travel: absolute, without what concerns the
/// client's connection, and without what only our programs may say.
fn prepare(head: &mut Parts) -> Result<(), &'static str> {
    let spoken = if head.version == Version::HTTP_2 {
        Carried::Http2
    } else {
        Carried::Http1
    };
    let authority = authority(head)?;
    strip_hop_by_hop(&mut head.headers);
    strip_mesh(&mut head.headers);
    head.headers.remove(HOST);
    head.headers.insert(PROTO, spoken.header());
    head.version = match spoken {
        Carried::Http2 => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let path = match head.uri.path_and_query() {
        Some(path) => path.clone(),
        None => PathAndQuery::from_static("/"),
    };
    head.uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| "the request's target is not a URI")?;
    Ok(())
}

/// The one authority of the request: of the target if it has one, else `Host`
/// (RFC 9112 §3.2).
fn authority(head: &Parts) -> Result<Authority, &'static str> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host: Option<&HeaderValue> = hosts.next();
    if hosts.next().is_some() {
        return Err("the request has two Host headers");
    }
    if let Some(authority) = head.uri.authority() {
        return Ok(authority.clone());
    }
    match host {
        Some(host) if !host.is_empty() => {
            Authority::try_from(host.as_bytes()).map_err(|_| "the Host header is malformed")
        }
        _ if head.version == Version::HTTP_10 => Ok(Authority::from_static("unknown")),
        Some(_) => Ok(Authority::from_static("unknown")),
        None => Err("the request has no Host header"),
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

/// On `mesh/1` every request is an HTTP/2 request.
fn address_as_mesh(request: &mut Request<Body>) {
    *request.version_mut() = Version::HTTP_2;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, hosts: &[&'static str], version: Version) -> Parts {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse().unwrap();
        *request.version_mut() = version;
        for host in hosts {
            request
                .headers_mut()
                .append(HOST, HeaderValue::from_static(host));
        }
        request.into_parts().0
    }

    #[test]
    fn h4_a_request_has_one_authority() {
        let mut plain = head("/a?b", &["web:80"], Version::HTTP_11);
        prepare(&mut plain).unwrap();
        assert_eq!(plain.uri, "http://web:80/a?b");
        assert!(!plain.headers.contains_key(HOST));

        let mut absolute = head("http://web/a", &["other"], Version::HTTP_11);
        prepare(&mut absolute).unwrap();
        assert_eq!(absolute.uri, "http://web/a");

        for hosts in [&[][..], &["a", "b"], &["a b"]] {
            assert!(
                prepare(&mut head("/", hosts, Version::HTTP_11)).is_err(),
                "{hosts:?}"
            );
        }
    }

    #[test]
    fn h7_h8_what_an_application_says_in_our_headers_goes_nowhere() {
        let mut sent = head("/", &["web"], Version::HTTP_11);
        for name in ["l5d-client-id", "mesh-port", "mesh-hops", "mesh-endpoint"] {
            sent.headers
                .insert(name, HeaderValue::from_static("forged"));
        }
        prepare(&mut sent).unwrap();
        let left: Vec<_> = sent
            .headers
            .keys()
            .map(|name| name.as_str().to_owned())
            .collect();
        assert_eq!(left, [PROTO]);
    }
}
