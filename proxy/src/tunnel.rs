//! Requests of applications that ask for a tunnel: an upgrade of HTTP/1, a CONNECT
//! of either version.

use mesh_dataplane::message::{Body, Incoming};
use mesh_drive::exchange::Broken;
use mesh_http::head::{Head, Invalid};

use crate::body::RequestBody;

/// Makes of a request one that can be carried: an upgrade whose body may be without
/// an end or is still to be asked for, or whose answer has none, is served without
/// (RFC 9110 §7.8), and a CONNECT has no body (§9.3.6).
pub(crate) fn prepare(head: &mut Head, body: &Incoming) -> Result<(), Invalid> {
    if !head.asks_for_tunnel() {
        return Ok(());
    }
    if head.is_connect() {
        head.remove(b"content-length");
    }
    let is_kept = body.length().is_some_and(RequestBody::is_kept) && !body.is_awaited();
    let is_short = body.is_over() || is_kept;
    if head.is_connect() || head.method() == b"HEAD" || !is_short {
        head.set_upgrade(None)?;
    }
    Ok(())
}

/// All of a request's body, to be sent with its head. What goes through a tunnel is
/// none, and comes later.
pub(crate) async fn body(head: &Head, body: Incoming) -> Result<Body, Broken> {
    if head.is_connect() {
        return Ok(Body::empty());
    }
    body.whole().await.map(Body::Whole)
}

/// The same, of an upgrade that has come on a CONNECT's stream.
pub(crate) async fn wrapped_body(head: &Head, body: Incoming) -> Result<Body, Broken> {
    let length = head.content_length().unwrap_or_default();
    match usize::try_from(length) {
        Ok(0) => Ok(Body::empty()),
        Ok(bytes) if RequestBody::is_kept(length) => body.beginning(bytes).await.map(Body::Whole),
        _ => Err(Broken::GivenUp),
    }
}
