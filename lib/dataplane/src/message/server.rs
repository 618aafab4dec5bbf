//! Requests that come, and what is answered.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::{BodyExt as _, combinators::BoxBody};
use mesh_drive::{
    buffers,
    conduit::{self, Conduit, Driven, Ended, Version},
    exchange::{Broken, Exchange, Prospect},
    socket::Socket,
};
use mesh_http::{fault::Code, head::Head, limits::Limits};
use mesh_runtime::Shutdown;
use tokio::task::yield_now;
use tracing::debug;

use super::{Body, BoxError, Incoming, Request, Response, Tunnel, convert, without_ours};

/// Answers every request on `socket` with `answer`, until the connection ends.
/// Once `shutdown` is signalled the client is told to go elsewhere, and what is
/// under way is finished. A client that leaves ends its answers. It begins at once, and
/// is over when the future is dropped.
pub fn serve<IO, Answering>(
    socket: IO,
    version: Version,
    limits: Arc<Limits>,
    shutdown: &Shutdown,
    answer: impl Fn(Request) -> Answering + Send + Unpin + 'static,
) -> impl Future<Output = Ended>
where
    IO: Socket + Send + 'static,
    Answering: Future<Output = Response> + Send + 'static,
{
    let take = move |request: conduit::Request| {
        let exchange = Arc::new(request.exchange);
        let body = Incoming::new(exchange.clone(), &request.head, request.end);
        // Moved only here.
        let answering = Box::pin(answer(Request {
            head: request.head,
            version,
            body,
        }));
        debug_assert!(
            size_of_val(&*answering) <= LARGEST,
            "{}",
            size_of_val(&*answering)
        );
        // It ends with its stream at the latest.
        tokio::spawn(exchanged(exchange, answering));
    };
    let (connection, life) = conduit::serve(socket, version, limits, take);
    // What it was made of is not kept beside it: there may be thousands that are idle.
    watched(connection, Driven::spawn(life), version, shutdown)
}

/// Until the connection ends, or its client gives no sign of life.
async fn watched(
    connection: Conduit,
    mut life: Driven,
    version: Version,
    shutdown: &Shutdown,
) -> Ended {
    tokio::select! {
        ended = &mut life => ended,
        () = shutdown.signalled() => {
            connection.shutdown();
            life.await
        }
        () = silence(&connection, version) => {
            debug!("the client gives no sign of life");
            Ended::Dropped
        }
    }
}

/// Bytes of a request's future. (Whatever is rare in it is a box.)
const LARGEST: usize = 5 * 1024;

/// How often a silent HTTP/2 client is asked for a sign of life, and how long
/// that may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);

async fn silence(connection: &Conduit, version: Version) {
    match version {
        Version::Http1 => std::future::pending().await,
        Version::Http2 => Box::pin(connection.silence(PING, PONG)).await,
    }
}

/// One request's life: an answer, or the client's leaving.
async fn exchanged(exchange: Arc<Exchange>, answering: impl Future<Output = Response>) {
    let mut prospect = exchange.prospect();
    if prospect == Prospect::Doubtful {
        // After the next turn of its connection more is known. That gives way, too, and who
        // did so last comes first.
        yield_now().await;
        yield_now().await;
        prospect = exchange.prospect();
    }
    if prospect == Prospect::Gone {
        // It has cost nobody anything.
        return debug!("the client has given it up at once");
    }
    let response = tokio::select! {
        biased;
        response = answering => response,
        broken = exchange.gone() => return debug!(reason = broken.as_str(), "the client left"),
    };
    let Response { head, body } = response;
    let sent = match body {
        Body::Incoming(incoming) => passed(&exchange, head, &incoming),
        Body::Reset(code, _) if exchange.conduit().is_http2() => {
            exchange.reset(code);
            Ok(())
        }
        // All others are rare.
        Body::Whole(bytes) | Body::Reset(_, bytes) => {
            Box::pin(whole(&exchange, head, &bytes)).await
        }
        Body::Tunnel(tunnel) => Box::pin(tunnelled(&exchange, head, tunnel)).await,
        Body::Other(body) => Box::pin(framed(&exchange, head, body)).await,
    };
    if let Err(broken) = sent {
        debug!(reason = broken.as_str(), "an answer broke off");
    }
}

fn begin(exchange: &Exchange, head: Head, end: bool) -> Result<(), Broken> {
    let sent = exchange.send_head(&head, end);
    buffers::give_back_head(head);
    sent.map_err(|misuse| {
        debug!(%misuse, "no answer can be sent");
        Broken::GivenUp
    })
}

async fn whole(exchange: &Exchange, head: Head, bytes: &Bytes) -> Result<(), Broken> {
    begin(exchange, head, bytes.is_empty())?;
    if bytes.is_empty() {
        return Ok(());
    }
    exchange.send(bytes, true).await
}

/// The body goes from one connection to the other without us.
fn passed(exchange: &Exchange, head: Head, incoming: &Incoming) -> Result<(), Broken> {
    begin(exchange, head, incoming.is_over)?;
    if !incoming.is_over {
        incoming.exchange.join(exchange, without_ours);
    }
    Ok(())
}

async fn tunnelled(exchange: &Exchange, head: Head, tunnel: Tunnel) -> Result<(), Broken> {
    begin(exchange, head, false)?;
    exchange.join(&tunnel.server, without_ours);
    tunnel.server.join(exchange, without_ours);
    exchange.over().await?;
    (tunnel.over)(exchange.carried());
    Ok(())
}

async fn framed(
    exchange: &Exchange,
    head: Head,
    body: BoxBody<Bytes, BoxError>,
) -> Result<(), Broken> {
    let is_over = body.is_end_stream();
    begin(exchange, head, is_over)?;
    if is_over {
        return Ok(());
    }
    // A server that says nothing does not keep a client that left.
    let copied = tokio::select! {
        copied = copied(exchange, body) => copied,
        broken = exchange.gone() => Err(broken),
    };
    if copied.is_err() {
        // Half an answer must not look like a whole one.
        exchange.reset(Code::Internal);
    }
    copied
}

/// Sends a body frame by frame.
pub(super) async fn copied(
    exchange: &Exchange,
    mut body: BoxBody<Bytes, BoxError>,
) -> Result<(), Broken> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Broken::Joined)?;
        match frame.into_data() {
            Ok(data) => exchange.send(&data, false).await?,
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_else(|_| HeaderMap::new());
                let trailers = convert::head_of_trailers(&trailers);
                exchange.send_trailers(&trailers.map_err(|_| Broken::GivenUp)?);
                return Ok(());
            }
        }
    }
    exchange.send(&[], true).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// How many requests of so many, each given up at once, are looked at before an
    /// honest one is answered.
    async fn looked_at(given_up: usize) -> usize {
        let (near, far) = tokio::io::duplex(1 << 20);
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        tokio::spawn(async move {
            let answer = move |request: Request| {
                let (counted, is_last) = (counted.clone(), request.head.path() == b"/last");
                async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    if !is_last {
                        std::future::pending::<()>().await;
                    }
                    let head = Head::response(204).unwrap();
                    let body = Body::empty();
                    Response { head, body }
                }
            };
            let limits = Arc::new(Limits::default());
            serve(far, Version::Http2, limits, &Shutdown::new(), answer).await
        });
        let limits = Arc::new(Limits::default());
        let (client, life) = conduit::connect(near, Version::Http2, limits);
        tokio::spawn(life);
        for _ in 0..given_up {
            let head = Head::request("GET", "web", "/").unwrap();
            drop(client.open(&head, true).unwrap());
        }
        let last = Head::request("GET", "web", "/last").unwrap();
        client.open(&last, true).unwrap().answer().await.unwrap();
        count.load(Ordering::SeqCst) - 1
    }

    #[tokio::test]
    async fn h13_what_is_given_up_at_once_is_not_looked_at() {
        // Fewer than make a client a wasteful one, and then more: of those some are heard
        // in one turn and given up in the next.
        for given_up in [20, 500] {
            assert_eq!(looked_at(given_up).await, 0, "of {given_up}");
        }
    }
}
