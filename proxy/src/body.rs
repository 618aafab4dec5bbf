//! Bodies of requests and answers on their way through.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use mesh_dataplane::message::{Body, BoxError, Incoming};

/// A request body of a declared length up to this is kept, so that the request
/// can be sent again when nobody has received it.
const KEPT: u64 = 64 * 1024;

/// The answer of the sidecar itself.
pub(crate) fn answer(status: StatusCode, message: &str) -> http::Response<Body> {
    let mut response = http::Response::new(Body::from(format!("mesh-proxy: {message}\n")));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, plain);
    response
}

/// A request's body, whole if it is small enough to be sent twice.
pub(crate) enum RequestBody {
    Kept(Bytes),
    Streaming(Body),
}

impl RequestBody {
    /// Reads the body if it is small and of a declared length. (A body of a
    /// declared length has no trailers in HTTP/1; in HTTP/2 they are dropped.)
    pub(crate) async fn of(body: Incoming) -> Result<Self, BoxError> {
        if body.is_end_stream() {
            return Ok(Self::Kept(Bytes::new()));
        }
        match body.size_hint().exact() {
            Some(length) if length <= KEPT => {
                let limit = usize::try_from(KEPT).unwrap_or(usize::MAX);
                // Large, and most requests have no body.
                let whole = Box::pin(Limited::new(body, limit).collect()).await?;
                Ok(Self::Kept(whole.to_bytes()))
            }
            _ => Ok(Self::Streaming(Body::Incoming(body))),
        }
    }

    /// The body for one attempt, and for the next, if it can be sent again.
    pub(crate) fn attempt(self) -> (Body, Option<Self>) {
        match self {
            Self::Kept(bytes) => (Body::Whole(bytes.clone()), Some(Self::Kept(bytes))),
            Self::Streaming(body) => (body, None),
        }
    }
}

/// `head` again, for another attempt. Extensions are the old connection's and
/// stay behind.
pub(crate) fn clone_head(head: &http::request::Parts) -> Request<()> {
    let mut request = Request::new(());
    request.method_mut().clone_from(&head.method);
    request.uri_mut().clone_from(&head.uri);
    request.headers_mut().clone_from(&head.headers);
    *request.version_mut() = head.version;
    request
}
