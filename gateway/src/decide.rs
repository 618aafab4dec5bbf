//! Who is let through, and to where: decided from what the client proved and
//! asked for, without I/O.

use std::sync::Arc;

use http::StatusCode;
use mesh_core::{
    endpoint::EndpointId,
    identity::SpiffeId,
    link::{Link, Links},
};
use mesh_dataplane::tunnel::Target;
use mesh_http::head::Head;
use mesh_wire::mesh1::{self, Reason};

use crate::table::{Route, Table};

/// Gateways that a stream may have passed, this one included. A stream that
/// came back is cut at its second pass.
const MOST_HOPS: u16 = 2;

/// Where a stream leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// Nowhere: the answer is all.
    Probe,
    /// To mesh-control's export streams.
    Exports,
    /// To a sidecar.
    Endpoint(EndpointId, Arc<Route>),
}

/// Why a stream is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no `CONNECT`.
    Method,
    /// It is one.
    Connect(Reason),
}

impl Refusal {
    /// The status of the answer.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Connect(reason) => reason.status(),
        }
    }

    /// What the answer says.
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Method => Reason::BadRequest,
            Self::Connect(reason) => reason,
        }
    }

    /// The label it is counted under.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Connect(reason) => reason.as_str(),
        }
    }
}

/// What the client asks for.
///
/// # Errors
/// If it is not exactly one of the three `CONNECT`s that there are, or has
/// passed too many gateways.
pub(crate) fn asked(request: &Head) -> Result<Target, Refusal> {
    if !request.is_connect() {
        return Err(Refusal::Method);
    }
    let refuse = |reason| Err(Refusal::Connect(reason));
    let hops = request.get_single(mesh1::HOPS.as_bytes());
    match hops.and_then(mesh1::hops) {
        None | Some(0) => return refuse(Reason::BadRequest),
        Some(hops) if hops > MOST_HOPS => return refuse(Reason::TooManyHops),
        Some(_) => {}
    }
    let Some(target) = target(request) else {
        return refuse(Reason::BadRequest);
    };
    Ok(target)
}

fn target(request: &Head) -> Option<Target> {
    // An extended one asks for something else (RFC 8441 §4).
    if request.protocol().is_some() || request.scheme().is_some() || !request.path().is_empty() {
        return None;
    }
    let has_id = request.get(mesh1::ENDPOINT.as_bytes()).is_some();
    match str::from_utf8(request.authority()?).ok()? {
        mesh1::AUTHORITY_ENDPOINT => {
            let id = request.get_single(mesh1::ENDPOINT.as_bytes())?;
            Some(Target::Endpoint(str::from_utf8(id).ok()?.parse().ok()?))
        }
        mesh1::AUTHORITY_PROBE if !has_id => Some(Target::Probe),
        mesh1::AUTHORITY_EXPORTS if !has_id => Some(Target::Exports),
        _ => None,
    }
}

/// Whether `client` gets what it asks for.
///
/// # Errors
/// An endpoint that is not there and one that is not for the client are the
/// same refusal.
pub(crate) fn decide(
    table: &Table,
    links: &Links,
    client: &SpiffeId,
    target: Target,
) -> Result<Upstream, Reason> {
    let link = links.by_trust_domain(client.trust_domain());
    let link = link.filter(|link| link.export);
    match target {
        Target::Probe if is_known(links, client) => Ok(Upstream::Probe),
        Target::Exports if link.is_some_and(|link| may_read_feed(link, client)) => {
            Ok(Upstream::Exports)
        }
        Target::Probe | Target::Exports => Err(Reason::NotAllowed),
        Target::Endpoint(id) => {
            let route = table.route(id);
            route
                .filter(|route| link.is_some_and(|link| route.trust_domain == link.trust_domain))
                .map(|route| Upstream::Endpoint(id, route.clone()))
                .ok_or(Reason::UnknownEndpoint)
        }
    }
}

/// Whether the client's trust domain is linked, or our own: then it may ask
/// whether the gateway lives.
pub(crate) fn is_known(links: &Links, client: &SpiffeId) -> bool {
    let trust_domain = client.trust_domain();
    *trust_domain == links.trust_domain || links.by_trust_domain(trust_domain).is_some()
}

fn may_read_feed(link: &Link, client: &SpiffeId) -> bool {
    *client == link.control || *client == link.mirror
}

#[cfg(test)]
mod tests;
