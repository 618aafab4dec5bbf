use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::client::conn::http2::SendRequest;
use mesh_core::{endpoint::EndpointId, identity::SpiffeId, link::Gateway};
use tokio::sync::Mutex as AsyncMutex;

use super::{Body, Peer, PeerAddress};

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// How often the pool looks for idle connections, at most.
const SWEEP: Duration = Duration::from_secs(30);

/// The connection to one peer, if there is one.
pub(super) type Slot = Arc<AsyncMutex<Option<SendRequest<Body>>>>;

/// What tells connections apart. An endpoint whose expected identity changes
/// gets another connection; the old one takes no new stream and is closed when
/// it is idle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    place: Place,
    identity: SpiffeId,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Direct(SocketAddr),
    Linked(Gateway, EndpointId),
}

impl Key {
    pub(super) fn of(peer: &Peer) -> Self {
        let place = match &peer.address {
            PeerAddress::Direct(address) => Place::Direct(*address),
            PeerAddress::Linked(link, id) => Place::Linked(link.gateway.clone(), *id),
        };
        Self {
            place,
            identity: peer.identity.clone(),
        }
    }
}

/// All connections, by key. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    swept: Option<Instant>,
}

struct Entry {
    slot: Slot,
    used: Instant,
}

impl Pool {
    /// The slot of `key`, marked as used at `now`.
    pub(super) fn slot(&self, key: Key, now: Instant) -> Slot {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sweep(now);
        let entry = inner.entries.entry(key).or_insert_with(|| Entry {
            slot: Slot::default(),
            used: now,
        });
        entry.used = now;
        entry.slot.clone()
    }
}

impl Inner {
    fn sweep(&mut self, now: Instant) {
        let due = self
            .swept
            .is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP);
        if due {
            self.swept = Some(now);
            self.entries
                .retain(|_, entry| now.saturating_duration_since(entry.used) < IDLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16, identity: &str) -> Key {
        Key {
            place: Place::Direct(([10, 42, 0, 1], port).into()),
            identity: identity.parse().unwrap(),
        }
    }

    #[test]
    fn an_endpoint_with_another_identity_gets_another_connection() {
        let (pool, now) = (Pool::default(), Instant::now());
        let web = pool.slot(key(4143, "spiffe://west/ns/shop/sa/web"), now);
        let same = pool.slot(key(4143, "spiffe://west/ns/shop/sa/web"), now);
        let other = pool.slot(key(4143, "spiffe://west/ns/shop/sa/other"), now);
        assert!(Arc::ptr_eq(&web, &same));
        assert!(!Arc::ptr_eq(&web, &other));
    }

    #[test]
    fn connections_that_nobody_uses_are_let_go() {
        let (pool, now) = (Pool::default(), Instant::now());
        let old = pool.slot(key(1, "spiffe://west/ns/shop/sa/web"), now);
        let later = now + IDLE + SWEEP;
        pool.slot(key(2, "spiffe://west/ns/shop/sa/web"), later);
        assert_eq!(Arc::strong_count(&old), 1);
    }
}
