//! Serving HTTP on a connection until it ends or the program does.

use http::{Request, Response};
use mesh_dataplane::message::{self, Body, Incoming};
use mesh_drive::{
    conduit::{Ended, Version},
    socket::Socket,
};
use mesh_runtime::Shutdown;

use crate::protocol::Spoken;

/// Answers every request on `socket` with `answer`. Once `shutdown` is signalled
/// the client is told to go elsewhere, and what is under way is finished.
pub(crate) async fn http<IO, Answering>(
    socket: IO,
    spoken: Spoken,
    shutdown: &Shutdown,
    answer: impl Fn(Request<Incoming>) -> Answering + Send + Unpin,
) -> Ended
where
    IO: Socket,
    Answering: Future<Output = Response<Body>> + Send + 'static,
{
    let version = match spoken {
        Spoken::Http1 | Spoken::Opaque => Version::Http1,
        Spoken::Http2 => Version::Http2,
    };
    message::serve(socket, version, shutdown, answer).await
}
