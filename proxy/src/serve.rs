//! Serving HTTP on a connection until it ends or the program does.

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_dataplane::peer::Body;
use mesh_runtime::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::protocol::Spoken;

/// Streams of one HTTP/2 connection at one time.
const MOST_STREAMS: u32 = 2000;
/// Bytes of a message's head.
const LARGEST_HEAD: usize = 64 * 1024;
/// Bytes on their way per stream and per connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How often a silent HTTP/2 client is asked for a sign of life.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);

/// Answers every request on `io` with `answer`. Once `shutdown` is signalled
/// the client is told to go elsewhere, and what is under way is finished.
pub(crate) async fn http<IO, Answering>(
    io: IO,
    spoken: Spoken,
    shutdown: &Shutdown,
    answer: impl Fn(Request<Incoming>) -> Answering,
) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Answering: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let io = TokioIo::new(io);
    match spoken {
        Spoken::Http1 | Spoken::Opaque => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .half_close(true)
                .max_buf_size(LARGEST_HEAD)
                .serve_connection(io, service);
            let mut connection = std::pin::pin!(connection.with_upgrades());
            tokio::select! {
                result = &mut connection => result,
                () = shutdown.signalled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        Spoken::Http2 => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MOST_STREAMS)
                .max_header_list_size(u32::try_from(LARGEST_HEAD).unwrap_or(u32::MAX))
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(PING)
                .keep_alive_timeout(PONG)
                .serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                result = &mut connection => result,
                () = shutdown.signalled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    }
}
