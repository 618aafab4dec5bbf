//! Serving HTTP on a connection until it ends or the program does.

use std::sync::Arc;

use mesh_dataplane::message::{self, Request, Response};
use mesh_drive::{
    conduit::{Ended, Version},
    socket::Socket,
};
use mesh_http::limits::Limits;
use mesh_runtime::Shutdown;

use crate::protocol::Spoken;

/// Answers every request on `socket` with `answer`. Once `shutdown` is signalled
/// the client is told to go elsewhere, and what is under way is finished.
pub(crate) fn http<IO, Answering>(
    socket: IO,
    spoken: Spoken,
    limits: Arc<Limits>,
    shutdown: &Shutdown,
    answer: impl Fn(Request) -> Answering + Send + Unpin + 'static,
) -> impl Future<Output = Ended>
where
    IO: Socket + Send + 'static,
    Answering: Future<Output = Response> + Send + 'static,
{
    let version = match spoken {
        Spoken::Http1 | Spoken::Tls(_) | Spoken::Opaque => Version::Http1,
        Spoken::Http2 => Version::Http2,
    };
    message::serve(socket, version, limits, shutdown, answer)
}
