//! Whether an HTTP/2 peer is still there, and how far away it is.

use std::{future::poll_fn, pin::pin, time::Duration};

use tokio::time::{sleep, timeout};

use crate::conduit::Conduit;

/// The peer gives no sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer gives no sign of life")]
pub struct Silent;

impl Conduit {
    /// Asks an HTTP/2 peer for a sign of life and waits for the answer. It also
    /// tells how long a round trip takes, without which windows do not grow. To
    /// be asked by one at a time.
    ///
    /// # Errors
    /// [`Silent`]: nothing has come `within` such a time, nor anything else.
    pub async fn ping(&self, within: Duration) -> Result<(), Silent> {
        let number = self.command(|state, now| {
            let number = state.trips.ask(now);
            state.core.ping(number);
            number
        });
        let mut answered = pin!(poll_fn(|cx| self.lock().trips.poll_answer(number, cx)));
        loop {
            let reads = self.lock().reads;
            if timeout(within, &mut answered).await.is_ok() {
                return Ok(());
            }
            // Whatever comes is a sign of life: the answer may be behind it.
            if self.lock().reads == reads {
                return Err(Silent);
            }
        }
    }

    /// Waits until the peer gives no sign of life `within` such a time, having
    /// been asked at once and then `every` so often after it has answered.
    pub async fn silence(&self, every: Duration, within: Duration) {
        while self.ping(within).await.is_ok() {
            sleep(every).await;
        }
    }
}
