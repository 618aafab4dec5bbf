//! Connections with a driver each.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use mesh_http::{
    connection::Connection,
    event::{Role, StreamId},
    fault::{Code, Fault, Misuse},
    head::Head,
    limits::Limits,
};

use tokio::task::JoinHandle;

use crate::{
    buffers,
    driver::Driver,
    exchange::{Broken, Exchange},
    growth::{Growth, RoundTrip},
    join::Place,
    slot::{Slot, Slots},
    socket::Socket,
};

/// HTTP's version on a connection: not negotiated here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// As the protocol says.
    #[error("{}", .0.as_str())]
    Fault(Fault),
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(io::ErrorKind),
    /// Its driver was dropped.
    #[error("the connection was dropped")]
    Dropped,
}

impl Ended {
    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.as_str(),
            Self::Io(_) => "io",
            Self::Dropped => "dropped",
        }
    }
}

/// A request that has come.
pub struct Request {
    /// To read its body from and to answer it on.
    pub exchange: Exchange,
    /// Its head.
    pub head: Head,
    /// Whether it has no body.
    pub end: bool,
}

/// What a connection has carried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// In both directions together.
    pub bytes: u64,
    /// The shortest time of a round trip, once a ping has shown one.
    pub round_trip: Option<Duration>,
    /// All of its streams have to wait until readers take what has come.
    pub is_held_up: bool,
}

/// A connection that is driven. Clones are the same connection.
#[derive(Clone)]
pub struct Conduit(Arc<Shared>);

struct Shared {
    role: Role,
    /// The thread that it belongs to.
    home: ThreadId,
    is_http2: bool,
    /// As the driver saw it last, a request can be sent. Those that look for a
    /// connection ask many that are busy.
    may_open: AtomicBool,
    state: Mutex<State>,
}

/// What driver and exchanges share. The lock is held for one step at a time,
/// and never while another connection's is.
pub(crate) struct State {
    pub(crate) core: Connection,
    pub(crate) slots: Slots,
    driver: Option<Waker>,
    /// When the driver was told of something that it has not looked at yet.
    told: Option<Instant>,
    /// Bytes that the socket has taken and given, and how often it was read.
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) reads: u64,
    pub(crate) ended: Option<Ended>,
    /// The peer takes no new stream.
    pub(crate) is_leaving: bool,
    pub(crate) trips: RoundTrip,
    /// How windows of streams may grow, where they do.
    growing: Option<Arc<Limits>>,
    /// Those who wait for the peer's first word.
    pub(crate) curious: Vec<Waker>,
}

/// Serves HTTP on `socket`: `serve` is called with each request and must not
/// block; the future is the connection's life, to be spawned.
pub fn serve<IO: Socket>(
    socket: IO,
    version: Version,
    limits: Arc<Limits>,
    serve: impl FnMut(Request) + Send + Unpin,
) -> (Conduit, impl Future<Output = Ended>) {
    let now = now();
    let growing = (version == Version::Http2).then(|| limits.clone());
    let core = match version {
        Version::Http1 => Connection::http1(Role::Server, limits, now),
        Version::Http2 => Connection::http2(Role::Server, limits, now),
    };
    let conduit = Conduit::new(core, Role::Server);
    conduit.lock().growing = growing;
    (conduit.clone(), Driver::new(socket, conduit, serve))
}

/// A connection to send requests on; the future is its life, to be spawned.
pub fn connect<IO: Socket>(
    socket: IO,
    version: Version,
    limits: Arc<Limits>,
) -> (Conduit, impl Future<Output = Ended>) {
    let now = now();
    let growing = (version == Version::Http2).then(|| limits.clone());
    let core = match version {
        Version::Http1 => Connection::http1(Role::Client, limits, now),
        Version::Http2 => Connection::http2(Role::Client, limits, now),
    };
    let conduit = Conduit::new(core, Role::Client);
    conduit.lock().growing = growing;
    (conduit.clone(), Driver::new(socket, conduit, unasked))
}

/// A connection of another protocol, as an exchange that has bytes in both
/// directions from its beginning; the future is its life, to be spawned.
pub fn bytes<IO: Socket>(
    socket: IO,
    limits: Arc<Limits>,
) -> (Exchange, impl Future<Output = Ended>) {
    let conduit = Conduit::new(Connection::raw(limits), Role::Client);
    let slot = Slot {
        is_held: true,
        is_tunnel: true,
        ..Slot::default()
    };
    let stream = Connection::RAW;
    conduit.lock().slots.insert(stream, slot);
    let exchange = Exchange::new(conduit.clone(), stream);
    (exchange, Driver::new(socket, conduit, unasked))
}

/// The life of a connection as a task of its own, so that whoever watches over it
/// is not asked at each of its turns. The connection ends when this is dropped.
pub struct Driven(JoinHandle<Ended>);

impl Driven {
    /// Lets it live.
    pub fn spawn(life: impl Future<Output = Ended> + Send + 'static) -> Self {
        Self(tokio::spawn(life))
    }
}

impl Future for Driven {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        // A driver that panicked has dropped its connection.
        let ended = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(ended.unwrap_or(Ended::Dropped))
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

thread_local! {
    /// The standard library counts who holds a thread's handle whenever it is asked.
    static HERE: ThreadId = thread::current().id();
}

fn here() -> ThreadId {
    HERE.with(|id| *id)
}

/// The time, by the clock of the runtime's timers.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A client is asked nothing.
const fn unasked(request: Request) {
    // Not even its drop is of use: it never comes.
    std::mem::forget(request);
}

impl Conduit {
    fn new(core: Connection, role: Role) -> Self {
        Self(Arc::new(Shared {
            role,
            home: here(),
            is_http2: core.is_http2(),
            may_open: AtomicBool::new(true),
            state: Mutex::new(State {
                core,
                slots: Slots::default(),
                driver: None,
                told: None,
                written: 0,
                read: 0,
                reads: 0,
                ended: None,
                is_leaving: false,
                trips: RoundTrip::default(),
                growing: None,
                curious: Vec::new(),
            }),
        }))
    }

    /// Sends a request's head. With `end` there is no body; a CONNECT has none,
    /// but its stream goes on.
    ///
    /// # Errors
    /// [`Misuse::Full`] if no stream can be opened now, or ever again;
    /// [`Misuse::Head`] if it is no request that this connection can carry.
    pub fn open(&self, head: &Head, end: bool) -> Result<Exchange, Misuse> {
        let stream = self.command(|state, now| {
            if state.ended.is_some() {
                return Err(Misuse::Full);
            }
            let stream = state.core.open(now, head, end)?;
            let slot = Slot {
                is_held: true,
                asked_to_connect: head.is_connect(),
                has_sent_all: end && !head.is_connect(),
                opened_at: state.written,
                ..Slot::default()
            };
            state.slots.insert(stream, slot);
            self.sees(state);
            Ok(stream)
        })?;
        Ok(Exchange::new(self.clone(), stream))
    }

    /// Whether a request can be sent now. What has made room for it counts once the
    /// driver has looked at it.
    #[must_use]
    pub fn can_open(&self) -> bool {
        if !self.0.may_open.load(Ordering::Relaxed) {
            return false;
        }
        let state = self.lock();
        state.ended.is_none() && !state.is_leaving && state.core.can_open()
    }

    /// Whether a request may ever be sent again.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let state = self.lock();
        state.ended.is_none() && !state.is_leaving
    }

    /// How many exchanges are under way.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.lock().core.streams()
    }

    /// Whether it is HTTP/2, so that one stream's end is not the connection's.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.0.is_http2
    }

    /// Whether anything of a stream is still to come or to go.
    #[must_use]
    pub fn has(&self, stream: StreamId) -> bool {
        self.lock().slot(stream).is_some()
    }

    /// Gives a stream up in both directions, whoever holds it.
    pub fn give_up(&self, stream: StreamId, code: Code) {
        self.reset(stream, code, Broken::GivenUp);
    }

    /// Takes nothing new, and ends when what is under way has ended.
    pub fn shutdown(&self) {
        self.command(|state, now| {
            state.is_leaving = true;
            state.core.shutdown(now);
        });
    }

    /// Whether all of its streams have to wait until readers take what has come.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        self.is_http2() && self.lock().core.is_held_up()
    }

    /// What it has carried so far, and how far away the peer is.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let state = self.lock();
        Traffic {
            bytes: state.written + state.read,
            round_trip: state.trips.shortest(),
            is_held_up: state.core.is_held_up(),
        }
    }

    /// Bytes that have gone to the peer, of whatever kind.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    /// Takes note of whether a request can be sent.
    pub(crate) fn sees(&self, state: &State) {
        let can_open = state.core.can_open();
        self.0.may_open.store(can_open, Ordering::Relaxed);
    }

    pub(crate) fn is_server(&self) -> bool {
        self.0.role == Role::Server
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that the driver has to know of. Until it looks, all that others
    /// do is of one time: asking the clock costs more than most of it.
    pub(crate) fn command<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.lock();
        state.lend();
        let now = state.told.unwrap_or_else(now);
        let done = act(&mut state, now);
        state.tell_driver(now);
        done
    }

    /// Gives a stream up in both directions.
    pub(crate) fn reset(&self, stream: StreamId, code: Code, why: Broken) {
        let partners = self.command(|state, now| {
            state.core.reset(now, stream, code);
            state.break_stream(stream, self.is_server(), why)
        });
        partners.tell(code);
    }

    /// Notes why the connection has ended, if nobody has before, and lets all
    /// know that wait for anything on it; says why.
    pub(crate) fn end(&self, why: Ended) -> Ended {
        let (why, partners) = {
            let mut state = self.lock();
            let why = *state.ended.get_or_insert(why);
            state.tell_curious();
            let streams: Vec<StreamId> = state.slots.streams().collect();
            let broken = Broken::Connection(why);
            let is_server = self.is_server();
            let told = |stream| state.break_stream(stream, is_server, broken);
            let partners: Vec<Partners> = streams.into_iter().map(told).collect();
            (why, partners)
        };
        for partner in partners {
            partner.tell(Broken::Connection(why).code());
        }
        why
    }

    /// Whether it belongs to the thread that asks.
    pub(crate) fn is_home(&self) -> bool {
        self.0.home == here()
    }

    /// Whether both are the same connection.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl State {
    /// Lends the core a buffer for output, if it has none.
    pub(crate) fn lend(&mut self) {
        self.core.lend(buffers::output);
    }

    /// The driver looks at everything now; `cx` is to be told of what comes then.
    /// Says whether it is another one than before.
    pub(crate) fn driver_looks(&mut self, cx: &Context<'_>) -> bool {
        self.told = None;
        let known = self.driver.as_ref();
        let is_new = !known.is_some_and(|driver| driver.will_wake(cx.waker()));
        if is_new {
            self.driver = Some(cx.waker().clone());
        }
        is_new
    }

    /// Once is enough.
    fn tell_driver(&mut self, now: Instant) {
        if self.told.is_none()
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
            self.told = Some(now);
        }
    }

    pub(crate) fn slot(&mut self, stream: StreamId) -> Option<&mut Slot> {
        self.slots.get_mut(stream)
    }

    /// So many bytes of a stream are held by nobody any more. If its window has
    /// to grow, where its data goes has to make room first.
    pub(crate) fn consume(
        &mut self,
        stream: StreamId,
        bytes: usize,
        now: Instant,
    ) -> Option<Wider> {
        self.core.consume(now, stream, bytes);
        let (limits, rtt) = (self.growing.as_ref()?, self.trips.known()?);
        let slot = self.slots.get_mut(stream)?;
        let growth = slot.growth.get_or_insert_with(|| Growth::new(limits, now));
        let window = growth.consumed(limits, bytes, now, rtt)?;
        let onward = slot.onward.clone();
        Some(Wider { onward, window })
    }

    /// Opens a stream's window wide, now that there is room.
    pub(crate) fn widen(&mut self, stream: StreamId, window: u32) {
        self.core.grow_window(stream, window);
        // Of which one stream must not take everything.
        self.core.grow_connection_window(window.saturating_mul(2));
    }

    /// Looks whether a stream is over. If it is, it is forgotten once nobody
    /// holds it, and where the rest of its request goes has to be told that
    /// there is none.
    pub(crate) fn settle(&mut self, stream: StreamId, is_server: bool) -> Partners {
        let Some(slot) = self.slot(stream).filter(|slot| slot.is_over(is_server)) else {
            return Partners::default();
        };
        slot.wake();
        let partners = Partners {
            onward: slot.onward.take().filter(|_| !slot.has_received_all),
            source: None,
        };
        slot.source = None;
        if !slot.is_held {
            self.slots.remove(stream);
        }
        partners
    }

    /// Nothing more comes or goes on a stream. The streams that it was joined
    /// to have to be told. What has come before is whole if its end has come, and
    /// still goes where it was to go.
    pub(crate) fn break_stream(
        &mut self,
        stream: StreamId,
        is_server: bool,
        why: Broken,
    ) -> Partners {
        let Some(slot) = self.slot(stream) else {
            return Partners::default();
        };
        if !slot.is_over(is_server) {
            slot.broken = Some(why);
        }
        slot.wake();
        let is_awaited = !is_server && slot.has_received_all && slot.has_waiting();
        let partners = Partners {
            onward: slot.onward.take_if(|_| !is_awaited),
            source: slot.source.take(),
        };
        if !slot.is_held && !is_awaited {
            self.slots.remove(stream);
        }
        partners
    }
}

/// A stream's window is to be wider.
pub(crate) struct Wider {
    /// Where its data goes.
    pub(crate) onward: Option<Place>,
    pub(crate) window: u32,
}

/// The streams that a stream was joined to.
#[derive(Default)]
pub(crate) struct Partners {
    onward: Option<Place>,
    source: Option<Place>,
}

impl Partners {
    /// Lets them know that the stream is no more.
    pub(crate) fn tell(self, code: Code) {
        if let Some(onward) = self.onward {
            onward.lost(code);
        }
        if let Some(source) = self.source {
            source.lost(Code::Cancel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
        time::Duration,
    };

    use tokio::{io::duplex, time::advance};

    use super::*;

    /// Counts how often a driver is told.
    #[derive(Default)]
    struct Told(AtomicUsize);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The time that a command has.
    fn time(conduit: &Conduit) -> Instant {
        conduit.command(|_, now| now)
    }

    #[tokio::test(start_paused = true)]
    async fn until_the_driver_looks_all_that_is_done_is_of_one_time_and_it_is_told_once() {
        let (socket, _peer) = duplex(4096);
        let (conduit, life) = connect(socket, Version::Http2, Arc::default());
        let (mut life, told) = (pin!(life), Arc::new(Told::default()));
        let waker = Waker::from(told.clone());
        let mut cx = Context::from_waker(&waker);
        for round in 1..=3 {
            assert!(life.as_mut().poll(&mut cx).is_pending());
            advance(Duration::from_secs(1)).await;
            let first = time(&conduit);
            assert_eq!(first, now());
            advance(Duration::from_secs(1)).await;
            assert_eq!(time(&conduit), first);
            assert_eq!(told.0.load(Ordering::SeqCst), round);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn before_there_is_a_driver_every_command_has_its_own_time() {
        let (socket, _peer) = duplex(4096);
        let (conduit, _life) = connect(socket, Version::Http2, Arc::default());
        for _ in 0..2 {
            advance(Duration::from_secs(1)).await;
            assert_eq!(time(&conduit), now());
        }
    }
}
