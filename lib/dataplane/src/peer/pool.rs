//! The connections to peers that there are, and which of them takes a request.

mod pace;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_core::{endpoint::EndpointId, identities::Identities, link::Gateway};
use mesh_drive::conduit::Conduit;
use tokio::sync::Mutex as AsyncMutex;

use self::pace::Pace;
use super::{Peer, PeerAddress};
use crate::{trust::Leaving, tunnel::Outer};

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// How often the pool looks for idle connections.
const SWEEP: Duration = Duration::from_secs(30);
/// Connections in the pool; of more, the one that was used longest ago goes.
const MOST: usize = 4096;

/// Connections to one peer; one more is opened when all have as many streams as
/// they may.
const MOST_TO_ONE: usize = 8;
/// So many are opened at most because those that there are carry much.
const MOST_FOR_PACE: usize = 4;
/// A connection that carries much takes some time to show what it brings; one that
/// could not be opened is not tried again before that either.
const PAUSE: Duration = Duration::from_secs(10);
/// A connection beside the first that had nothing to do for so long is closed.
const SPARE: Duration = Duration::from_secs(60);

/// The connections to one peer.
pub(super) struct Slot {
    pub(super) connections: AsyncMutex<Connections>,
    began: Instant,
    /// When somebody last asked for one, in milliseconds since it began.
    used: AtomicU64,
    /// The pool has let it go.
    is_forgotten: AtomicBool,
}

impl Slot {
    fn new(now: Instant) -> Self {
        Self {
            connections: AsyncMutex::default(),
            began: now,
            used: AtomicU64::new(0),
            is_forgotten: AtomicBool::new(false),
        }
    }

    fn note_use(&self, now: Instant) {
        let age = now.saturating_duration_since(self.began).as_millis();
        let age = u64::try_from(age).unwrap_or(u64::MAX);
        self.used.store(age, Ordering::Relaxed);
    }

    fn last_use(&self) -> Instant {
        self.began + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    fn forget(&self) {
        self.is_forgotten.store(true, Ordering::Relaxed);
    }
}

/// The connections to one peer, for who asks for one often. It does not keep
/// them open.
#[derive(Clone)]
pub struct PeerSlot {
    pool: Weak<Mutex<Inner>>,
    slot: Arc<Slot>,
}

impl PeerSlot {
    /// Whether it is of this pool.
    pub(super) fn is_of(&self, pool: &Pool) -> bool {
        std::ptr::eq(self.pool.as_ptr(), Arc::as_ptr(&pool.0))
    }

    /// Whether the pool has let it go: another one has to be asked for.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.slot.is_forgotten.load(Ordering::Relaxed)
    }

    /// A connection that takes one more request, if there is one.
    pub(super) fn free(&self, now: Instant) -> Option<Arc<Kept>> {
        if self.is_forgotten() {
            return None;
        }
        self.slot.note_use(now);
        self.slot.connections.try_lock().ok()?.free(now)
    }
}

/// Connections to one peer, in the order in which they were opened.
#[derive(Default)]
pub(super) struct Connections {
    open: Vec<Open>,
    /// When one more was last opened because the others carried much.
    relieved: Option<Instant>,
}

impl Connections {
    /// One that takes one more request: the first that does not carry much, or else the
    /// one that carries least. None also if it is time for [one more](Self::relieve).
    pub(super) fn free(&mut self, now: Instant) -> Option<Arc<Kept>> {
        let mut least: Option<(u64, Arc<Kept>)> = None;
        for open in &mut self.open {
            if !open.takes_requests() || !open.connection.0.can_open() {
                continue;
            }
            let Some(rate) = open.carries_much(now) else {
                return Some(open.connection.clone());
            };
            if least.as_ref().is_none_or(|(least, _)| rate < *least) {
                least = Some((rate, open.connection.clone()));
            }
        }
        let (_, least) = least.filter(|_| !self.may_relieve(now))?;
        Some(least)
    }

    fn may_relieve(&self, now: Instant) -> bool {
        let is_due = |since: Instant| now.saturating_duration_since(since) >= PAUSE;
        self.open.len() < MOST_FOR_PACE && self.relieved.is_none_or(is_due)
    }

    /// One that carries much and takes one more request all the same; another one is
    /// to be opened beside it.
    pub(super) fn relieve(&mut self, now: Instant) -> Option<Arc<Kept>> {
        let takes = |open: &&Open| open.takes_requests() && open.connection.0.can_open();
        let busy = self.open.iter().find(takes)?.connection.clone();
        self.relieved = Some(now);
        Some(busy)
    }

    /// One that would take requests if it had room, when there are so many of
    /// them that another one would not help.
    pub(super) fn crowded(&self) -> Option<Arc<Kept>> {
        let mut open = self.open.iter().filter(|open| open.takes_requests());
        let first = open.next()?;
        (open.count() + 1 >= MOST_TO_ONE).then(|| first.connection.clone())
    }

    /// Adds one. Those that take nothing any more are let go.
    pub(super) fn add(&mut self, open: Open) -> Arc<Kept> {
        self.open.retain(Open::takes_requests);
        let connection = open.connection.clone();
        self.open.push(open);
        connection
    }

    /// Lets those go that were of use only while much was carried.
    fn forget_spare(&mut self, now: Instant) {
        let mut is_first = true;
        self.open.retain_mut(|open| {
            let is_spare = open.is_spare(now);
            std::mem::take(&mut is_first) || !is_spare
        });
    }
}

/// A connection for as long as anybody may send requests on it; then it finishes
/// what it has, and ends.
pub(super) struct Kept(pub(super) Conduit);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// A connection that was opened.
pub(super) struct Open {
    connection: Arc<Kept>,
    /// Set when the peer is not trusted as it was.
    leaving: Leaving,
    /// The connection to a gateway that carries it, if any does.
    outer: Option<Outer>,
    pace: Pace,
    /// It has had nothing to do since then.
    unused: Option<Instant>,
}

impl Open {
    pub(super) fn new(connection: Conduit, leaving: Leaving, outer: Option<Outer>) -> Self {
        Self {
            connection: Arc::new(Kept(connection)),
            leaving,
            outer,
            pace: Pace::new(Instant::now()),
            unused: None,
        }
    }

    /// How much it carries, if that is so much that others would wait behind it.
    fn carries_much(&mut self, now: Instant) -> Option<u64> {
        if self.pace.is_due(now) {
            self.pace.look(self.connection.0.traffic(), now);
        }
        self.pace.much()
    }

    fn is_spare(&mut self, now: Instant) -> bool {
        let is_unused = self.connection.0.streams() == 0;
        self.unused = is_unused.then(|| self.unused.unwrap_or(now));
        self.unused
            .is_some_and(|since| now.saturating_duration_since(since) >= SPARE)
    }

    /// Whether new requests may go here. One that was sent away, or whose
    /// gateway is going, finishes what it has.
    fn takes_requests(&self) -> bool {
        let leaves = !self.connection.0.is_open() || self.leaving.is_set();
        !leaves && !self.outer.as_ref().is_some_and(Outer::is_closing)
    }
}

/// What tells connections apart. An endpoint whose expected identities change
/// gets another connection; the old one takes no new stream and is closed when
/// it is idle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    place: Place,
    identity: Identities,
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
    entries: HashMap<Key, Arc<Slot>>,
}

impl Pool {
    /// An empty pool, and a task that looks for idle connections for as long
    /// as the pool lives.
    pub(super) fn swept() -> Self {
        let pool = Self::default();
        tokio::spawn(sweep(Arc::downgrade(&pool.0)));
        pool
    }

    /// The slot of `key`, marked as used at `now`.
    pub(super) fn slot(&self, key: Key, now: Instant) -> Arc<Slot> {
        let mut inner = lock(&self.0);
        inner.make_room(&key);
        let fresh = || Arc::new(Slot::new(now));
        let slot = inner.entries.entry(key).or_insert_with(fresh);
        slot.note_use(now);
        slot.clone()
    }

    /// The same, for who asks often.
    pub(super) fn peer_slot(&self, key: Key, now: Instant) -> PeerSlot {
        PeerSlot {
            pool: Arc::downgrade(&self.0),
            slot: self.slot(key, now),
        }
    }
}

impl Inner {
    fn make_room(&mut self, key: &Key) {
        if self.entries.len() < MOST || self.entries.contains_key(key) {
            return;
        }
        let oldest = self.entries.iter().min_by_key(|(_, slot)| slot.last_use());
        let oldest = oldest.map(|(key, _)| key.clone());
        if let Some(slot) = oldest.and_then(|oldest| self.entries.remove(&oldest)) {
            slot.forget();
        }
    }

    fn forget_idle(&mut self, now: Instant) {
        self.entries.retain(|_, slot| {
            let is_used = now.saturating_duration_since(slot.last_use()) < IDLE;
            if !is_used {
                slot.forget();
            } else if let Ok(mut connections) = slot.connections.try_lock() {
                connections.forget_spare(now);
            }
            is_used
        });
    }
}

async fn sweep(pool: Weak<Mutex<Inner>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        lock(&pool).forget_idle(Instant::now());
    }
}

fn lock(pool: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use mesh_core::identity::SpiffeId;

    use super::*;

    fn key(port: u16, identity: &str) -> Key {
        Key {
            place: Place::Direct(([10, 42, 0, 1], port).into()),
            identity: identity.parse::<SpiffeId>().unwrap().into(),
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
        let used = pool.slot(key(2, "spiffe://west/ns/shop/sa/web"), now + IDLE / 2);
        lock(&pool.0).forget_idle(now + IDLE);
        assert_eq!(Arc::strong_count(&old), 1);
        assert_eq!(Arc::strong_count(&used), 2);
    }

    #[test]
    fn who_asks_often_keeps_them_and_is_told_when_they_are_let_go() {
        let (pool, now) = (Pool::default(), Instant::now());
        let web = || key(1, "spiffe://west/ns/shop/sa/web");
        let slot = pool.peer_slot(web(), now);
        assert!(slot.is_of(&pool) && !slot.is_of(&Pool::default()));
        assert!(slot.free(now + IDLE / 2).is_none(), "nothing is open");
        lock(&pool.0).forget_idle(now + IDLE);
        assert!(!slot.is_forgotten());
        lock(&pool.0).forget_idle(now + 2 * IDLE);
        assert!(slot.is_forgotten());
        assert!(!pool.peer_slot(web(), now).is_forgotten());
    }

    #[test]
    fn the_pool_is_bounded() {
        let (pool, now) = (Pool::default(), Instant::now());
        let web = |port| key(port, "spiffe://west/ns/shop/sa/web");
        let ports = 1..=u16::try_from(MOST).unwrap() + 1;
        for port in ports {
            pool.slot(web(port), now + Duration::from_millis(port.into()));
        }
        let inner = lock(&pool.0);
        assert_eq!(inner.entries.len(), MOST);
        assert!(!inner.entries.contains_key(&web(1)));
    }
}
