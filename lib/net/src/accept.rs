//! Accepting connections for as long as a program lives.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::{debug, warn};

use crate::{original::canonical, spread::Share};

/// The pause when the kernel has nothing to accept into (`EMFILE` and such):
/// connections wait in the backlog meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener with a cap on the connections that live at one time.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, with the options of its listener.
    pub stream: TcpStream,
    /// Who dialled.
    pub peer: SocketAddr,
    /// Its place under the cap; to be kept as long as the connection.
    pub slot: Slot,
}

/// A place under an [`Acceptor`]'s cap, and among the connections of a worker;
/// free again when dropped.
#[derive(Debug)]
#[allow(dead_code, reason = "held for its drop")]
pub struct Slot(OwnedSemaphorePermit, Option<Share>);

/// An accepted connection on its way from one thread's runtime to another's.
#[derive(Debug)]
pub(crate) struct Moving {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    slot: Slot,
}

impl Accepted {
    /// The same, counted as a worker's.
    pub(crate) fn counted(self, share: Share) -> Self {
        let slot = Slot(self.slot.0, Some(share));
        Self { slot, ..self }
    }

    /// Takes it off this runtime.
    pub(crate) fn leave(self) -> io::Result<Moving> {
        Ok(Moving {
            stream: self.stream.into_std()?,
            peer: self.peer,
            slot: self.slot,
        })
    }
}

impl Moving {
    /// Gives it to this runtime.
    pub(crate) fn arrive(self) -> io::Result<Accepted> {
        Ok(Accepted {
            stream: TcpStream::from_std(self.stream)?,
            peer: self.peer,
            slot: self.slot,
        })
    }
}

impl Acceptor {
    /// Accepts from `listener`, at most `cap` connections at one time.
    #[must_use]
    pub fn new(listener: TcpListener, cap: usize) -> Self {
        Self {
            listener,
            slots: Arc::new(Semaphore::new(cap.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// The address listened on.
    ///
    /// # Errors
    /// If the kernel does not know, which it does.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr().map(canonical)
    }

    /// Whether the next connection has to wait for a place under the cap.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// The next connection. Waits while the cap is reached; errors are logged
    /// and outlived. Cancel safe.
    pub async fn accept(&self) -> Accepted {
        let slot = self.slot().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let peer = canonical(peer);
                    return Accepted { stream, peer, slot };
                }
                Err(error) if concerns_one_connection(&error) => {
                    debug!(%error, "connection gone before it was accepted");
                }
                Err(error) => {
                    warn!(%error, "cannot accept");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn slot(&self) -> Slot {
        match self.slots.clone().acquire_owned().await {
            Ok(permit) => Slot(permit, None),
            // Never closed; if it were, nothing more would be accepted.
            Err(_) => std::future::pending().await,
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::{select, task::yield_now};

    use super::*;
    use crate::listen::listen;

    #[tokio::test]
    async fn the_cap_holds_until_a_connection_ends() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let acceptor = Acceptor::new(listener, 1);
        let address = acceptor.local_addr().unwrap();
        let _clients = (
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        );

        assert!(!acceptor.is_full());
        let first = acceptor.accept().await;
        assert!(acceptor.is_full());
        let mut second = pin!(acceptor.accept());
        select! {
            biased; // the accept must have had its turn
            _ = &mut second => panic!("accepted beyond the cap"),
            () = async { for _ in 0..100 { yield_now().await } } => {}
        }
        drop(first);
        second.await;
    }
}
