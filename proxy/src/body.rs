//! Bodies of requests and answers on their way through.

use bytes::Bytes;
use http::StatusCode;
use mesh_dataplane::message::{Body, Incoming, Response};
use mesh_drive::exchange::Broken;
use mesh_http::{
    fault::Code,
    head::{Head, Invalid},
};

/// A request body of a declared length up to this is kept, so that the request
/// can be sent again when nobody has received it.
const KEPT: u64 = 64 * 1024;

/// The answer of the sidecar itself.
pub(crate) fn answer(status: StatusCode, message: &str) -> Response {
    Response {
        // Our own words are valid ones.
        head: plain_text(status).unwrap_or_default(),
        body: Body::from(format!("mesh-proxy: {message}\n")),
    }
}

/// The answer to an extended CONNECT where the server takes none.
pub(crate) fn no_protocols() -> Response {
    let message = "the server takes no extended CONNECT";
    answer(StatusCode::NOT_IMPLEMENTED, message)
}

/// No answer: the stream is reset with `code`. Where there are no streams, the
/// answer is the sidecar's own.
pub(crate) fn reset(code: Code, message: &str) -> Response {
    let response = answer(StatusCode::BAD_GATEWAY, message);
    response.map(|body| match body {
        Body::Whole(text) => Body::Reset(code, text),
        other => other,
    })
}

fn plain_text(status: StatusCode) -> Result<Head, Invalid> {
    let mut head = Head::response(status.as_u16())?;
    head.push(b"content-type", b"text/plain; charset=utf-8")?;
    Ok(head)
}

/// A request's body, whole if it is small enough to be sent twice.
pub(crate) enum RequestBody {
    Kept(Bytes),
    Streaming(Incoming),
}

impl RequestBody {
    /// No body.
    pub(crate) const fn none() -> Self {
        Self::Kept(Bytes::new())
    }

    /// Whether a body of this length is read before anything is sent.
    pub(crate) const fn is_kept(length: u64) -> bool {
        length <= KEPT
    }

    /// Reads the body if it is small and of a declared length. (A body of a
    /// declared length has no trailers in HTTP/1; in HTTP/2 they are dropped.) One
    /// that its client keeps until it is wanted is for the server to ask for.
    pub(crate) async fn of(body: Incoming) -> Result<Self, Broken> {
        if body.is_over() {
            return Ok(Self::none());
        }
        match body.length() {
            Some(length) if Self::is_kept(length) && !body.is_awaited() => {
                body.whole().await.map(Self::Kept)
            }
            _ => Ok(Self::Streaming(body)),
        }
    }

    /// The body for one attempt.
    pub(crate) fn attempt(&self) -> Body {
        match self {
            Self::Kept(bytes) => Body::Whole(bytes.clone()),
            Self::Streaming(body) => Body::Incoming(body.again()),
        }
    }

    /// Whether all of it is here for another attempt, whoever has received it.
    pub(crate) const fn is_repeatable(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// Whether nothing of it is gone.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Kept(_) => true,
            Self::Streaming(body) => !body.has_passed(),
        }
    }
}
