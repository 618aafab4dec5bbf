//! The connections of a load.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::client::{Answer, Call, Connection, Protocol, exchange};
use crate::dial::Dialer;
use crate::failure::Failure;

/// Sends calls to one place over a bounded number of connections,
/// which are opened when first needed and again after they have ended.
pub(super) struct Pool {
    dialer: Dialer,
    connections: Connections,
}

enum Connections {
    /// HTTP/1: a request has a connection for itself.
    Exclusive {
        permits: Semaphore,
        idle: Mutex<Vec<Connection>>,
    },
    /// HTTP/2: requests take turns over connections and share them. The lock
    /// is held while a connection is opened, so that one is opened and not
    /// one per waiting request.
    Shared {
        slots: Vec<AsyncMutex<Option<Connection>>>,
        next: AtomicUsize,
    },
}

impl Pool {
    pub(super) fn new(dialer: Dialer, protocol: Protocol, connections: usize) -> Self {
        let connections = match protocol {
            Protocol::Http1 => Connections::Exclusive {
                permits: Semaphore::new(connections),
                idle: Mutex::default(),
            },
            Protocol::Http2 => Connections::Shared {
                slots: (0..connections).map(|_| AsyncMutex::default()).collect(),
                next: AtomicUsize::new(0),
            },
        };
        Self {
            dialer,
            connections,
        }
    }

    /// One request, from the wait for a connection to the end of the answer.
    pub(super) async fn send(&self, call: &Call, deadline: Instant) -> Result<Answer, Failure> {
        match &self.connections {
            Connections::Exclusive { permits, idle } => {
                let _permit = timeout_at(deadline, permits.acquire())
                    .await
                    .map_err(|_| Failure::Timeout)?;
                let mut slot = lock(idle).pop();
                let outcome = exchange(&mut slot, &self.dialer, call, deadline).await;
                lock(idle).extend(slot);
                outcome
            }
            Connections::Shared { slots, next } => {
                let turn = next.fetch_add(1, Ordering::Relaxed) % slots.len();
                let mut connection = self.shared(&slots[turn], call, deadline).await?;
                exchange(&mut connection, &self.dialer, call, deadline).await
            }
        }
    }

    async fn shared(
        &self,
        slot: &AsyncMutex<Option<Connection>>,
        call: &Call,
        deadline: Instant,
    ) -> Result<Option<Connection>, Failure> {
        let mut slot = timeout_at(deadline, slot.lock())
            .await
            .map_err(|_| Failure::Timeout)?;
        if !slot.as_ref().is_some_and(Connection::is_open) {
            *slot = Some(Connection::open(&self.dialer, call, deadline).await?);
        }
        Ok(slot.as_ref().and_then(Connection::share))
    }
}

fn lock(idle: &Mutex<Vec<Connection>>) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    idle.lock().expect("no one panics while holding it")
}
