//! Following a server stream of complete states for as long as anybody wants it.

use std::{future::Future, time::Duration};

use mesh_runtime::Backoff;
use tokio::{sync::watch, time::timeout};
use tonic::{Response, Status, Streaming};
use tracing::{debug, info};

/// How long a stream may take to open.
const OPEN: Duration = Duration::from_secs(10);

/// Keeps `into` at the last state of the stream that `open` opens, until every
/// receiver is gone. A stream that ends or fails is opened again after a pause,
/// and the last state is kept meanwhile. Messages that `convert` refuses are
/// logged and skipped.
pub async fn follow<M, T, E, Open, Opening>(
    name: &str,
    into: watch::Sender<Option<T>>,
    mut open: Open,
    convert: impl Fn(M) -> Result<T, E>,
) where
    M: Send + 'static,
    E: std::fmt::Display,
    Open: FnMut() -> Opening,
    Opening: Future<Output = Result<Response<Streaming<M>>, Status>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        tokio::select! {
            end = once(name, &into, &mut open, &convert, &mut backoff) => {
                info!(stream = name, reason = %end, "stream ended; opening it again");
            }
            () = into.closed() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = into.closed() => return,
        }
    }
}

/// One life of the stream; returns why it ended.
async fn once<M, T, E, Opening>(
    name: &str,
    into: &watch::Sender<Option<T>>,
    open: &mut impl FnMut() -> Opening,
    convert: &impl Fn(M) -> Result<T, E>,
    backoff: &mut Backoff,
) -> String
where
    M: Send + 'static,
    E: std::fmt::Display,
    Opening: Future<Output = Result<Response<Streaming<M>>, Status>>,
{
    let mut stream = match timeout(OPEN, open()).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return describe(&status),
        Err(_) => return "not opened in time".to_owned(),
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) => match convert(message) {
                Ok(state) => {
                    backoff.reset();
                    debug!(stream = name, "new state");
                    into.send_replace(Some(state));
                }
                Err(error) => tracing::warn!(stream = name, %error, "state refused"),
            },
            Ok(None) => return "closed by the server".to_owned(),
            Err(status) => return describe(&status),
        }
    }
}

/// The status with the cause that tonic hides in its source.
fn describe(status: &Status) -> String {
    use std::{error::Error as _, fmt::Write as _};
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}
