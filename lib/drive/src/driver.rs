//! The life of a connection: what is read becomes events, what others have said
//! is written, and deadlines pass.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use mesh_http::{
    event::{Event, StreamId},
    head::Head,
    limits::Granted,
};
use mesh_net::discard::poll_discard;
use tokio::{
    io::ReadBuf,
    task::yield_now,
    time::{Sleep, sleep_until},
};

use crate::{
    buffers,
    conduit::{Conduit, Ended, Request, State, now},
    crumbs::Crumbs,
    exchange::{Broken, Exchange},
    patience::Patience,
    slot::Tail,
    socket::Socket,
};

/// Requests that are taken in one turn. A client that sends a thousand at once is
/// served like one that sends them one by one: others have their turns between.
const REQUESTS: u16 = 128;
/// The same for all that a peer says: what is cheap to say in many small frames may
/// cost more to hear.
const EVENTS: u16 = 256;
/// Requests of a turn for a client that gives up much of what it asks for: what it wastes it
/// takes from nobody.
const REQUESTS_OF_WASTERS: u16 = 2;
/// So many reads have to bring much before more is read at once: of a stream that nobody
/// takes, the first goes into the output, and the second waits.
const HUNGRY: u8 = 2;

/// Drives one connection until its end.
pub(crate) struct Driver<IO, S> {
    socket: IO,
    conduit: Conduit,
    serve: S,
    /// What was read and cannot be looked at yet.
    rest: Vec<u8>,
    /// Reads one after the other that brought much, up to [`HUNGRY`].
    large_reads: u8,
    /// What it has of the budget for that, while it holds more than usual.
    granted: Option<Box<Granted>>,
    /// Requests that may still be taken in this turn.
    requests: u16,
    /// The same of everything that is said.
    events: u16,
    /// Wakes us no later than the next deadline. Deadlines that move away leave
    /// it as it is: it is set again when it goes off.
    alarm: Option<Pin<Box<Sleep>>>,
    alarm_at: Option<Instant>,
    /// The alarm knows whom to wake.
    is_alarm_asked: bool,
    /// A deadline may have passed.
    is_late: bool,
    /// With a peer that was told of the end: what is read is thrown away.
    patience: Option<Patience>,
    /// The peer does not take anything any more; what it has said still counts.
    is_deaf: bool,
    /// And will say no more.
    has_read_all: bool,
    has_shut_down: bool,
}

/// How a wake-up ends.
enum Turn {
    /// The socket is to be closed.
    Over,
    /// There is nothing more to do, before this at the latest.
    Waits(Option<Instant>),
}

/// How reading ended.
struct Heard {
    /// The socket has no more, and wakes us when it has.
    is_pending: bool,
    /// It was as much as one turn may have.
    is_enough: bool,
    /// It was of no use, and there may be more.
    is_waste: bool,
}

/// What was read at once.
struct Read {
    bytes: usize,
    wants_more: bool,
}

/// What is to be done after writing.
struct Said {
    /// There may be more to say, or to hear.
    goes_on: bool,
    /// The socket is to be closed.
    is_over: bool,
    wants_read: bool,
    deadline: Option<Instant>,
}

impl<IO, S> Driver<IO, S>
where
    IO: Socket,
    S: FnMut(Request) + Unpin,
{
    pub(crate) const fn new(socket: IO, conduit: Conduit, serve: S) -> Self {
        Self {
            socket,
            conduit,
            serve,
            rest: Vec::new(),
            large_reads: 0,
            granted: None,
            requests: REQUESTS,
            events: EVENTS,
            alarm: None,
            alarm_at: None,
            is_alarm_asked: false,
            is_late: false,
            patience: None,
            is_deaf: false,
            has_read_all: false,
            has_shut_down: false,
        }
    }

    /// One wake-up: first what others have asked for, then what the peer says,
    /// then everything that is to be written, at once.
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<Turn> {
        let (is_news, mut wants_read) = {
            let mut state = self.conduit.lock();
            self.is_alarm_asked &= !state.driver_looks(cx);
            if std::mem::take(&mut self.is_late) {
                state.core.on_deadline(now);
            }
            let wants_read = state.core.wants_read();
            // Else there is nothing to look at before something has been read.
            (state.core.has_event() || !wants_read, wants_read)
        };
        (self.requests, self.events) = (REQUESTS, EVENTS);
        if is_news || !self.rest.is_empty() {
            wants_read = self.look_again(now);
        }
        loop {
            let heard = self.read(cx, now, wants_read)?;
            let said = self.write(cx, now)?;
            if said.is_over {
                return Ok(Turn::Over);
            }
            if heard.is_waste
                && !said.goes_on
                && let Some(patience) = &mut self.patience
            {
                return Ok(patience.wears().map_or(Turn::Over, |pause| {
                    let next = now + pause;
                    Turn::Waits(Some(said.deadline.map_or(next, |due| due.min(next))))
                }));
            }
            if heard.is_enough {
                // Others take what was read to where it goes, before there is more; and the
                // runtime looks for what still others say, which it would else do after some
                // sixty turns of those that it knows of. It wakes us then: we want no more.
                let _ = pin!(yield_now()).poll(cx);
                return Ok(Turn::Waits(said.deadline));
            }
            // The socket wakes us, or whoever makes room.
            let has_heard_all = heard.is_pending || !said.wants_read;
            if has_heard_all && !said.goes_on {
                return Ok(Turn::Waits(said.deadline));
            }
            wants_read = said.wants_read;
        }
    }

    /// Reads until there is nothing, nothing more is wanted, or it was enough for
    /// one turn.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        mut wants_read: bool,
    ) -> io::Result<Heard> {
        let mut buffer = buffers::reading();
        let (mut bytes, mut is_pending) = (0, false);
        let result = loop {
            if self.is_enough(bytes) || self.is_waste(bytes) || !wants_read {
                break Ok(());
            }
            let read = match self.poll_discard(cx, now, &mut buffer) {
                Some(read) => read,
                None => self.read_once(cx, now, &mut buffer),
            };
            match read {
                Poll::Pending => {
                    is_pending = true;
                    break Ok(());
                }
                Poll::Ready(Ok(read)) => {
                    (bytes, wants_read) = (bytes + read.bytes, read.wants_more);
                }
                Poll::Ready(Err(error)) => break Err(error),
            }
        };
        buffers::give_back_reading(buffer);
        result.map(|()| Heard {
            is_pending,
            is_enough: self.is_enough(bytes),
            is_waste: self.is_waste(bytes),
        })
    }

    /// Whether others have their turn after so many bytes.
    const fn is_enough(&self, bytes: usize) -> bool {
        bytes >= buffers::READ || self.requests == 0 || self.events == 0
    }

    /// Whether so many bytes have only been thrown away.
    const fn is_waste(&self, bytes: usize) -> bool {
        self.patience.is_some() && bytes > 0
    }

    /// Throws away what there is, if nothing of it is looked at any more.
    fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Option<Poll<io::Result<Read>>> {
        let socket = self.socket.plain().filter(|_| self.patience.is_some())?;
        if buffer.len() < buffers::READ_MOST {
            buffer.resize(buffers::READ_MOST, 0);
        }
        let discarded = poll_discard(socket, cx, buffer);
        Some(discarded.map_ok(|bytes| {
            self.has_read_all |= bytes == 0;
            // So many came, whatever they were: nobody looks at it.
            let (_, wants_more) = self.receive(&buffer[..bytes], Some(bytes), now);
            Read { bytes, wants_more }
        }))
    }

    /// Reads once, and acts on it.
    fn read_once(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<Read>> {
        // Behind what is left of the last one, so that both are one piece.
        let kept = self.rest.len();
        let wanted = kept + self.appetite() + IO::SLACK;
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let mut space = ReadBuf::new(&mut buffer[kept..wanted]);
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut space);
        if polled.is_pending() {
            self.give_back();
        }
        ready!(polled)?;
        let read = space.filled().len();
        self.has_read_all |= read == 0;
        self.large_reads = if read > buffers::READ / 2 {
            HUNGRY.min(self.large_reads + 1)
        } else {
            0
        };
        buffer[..kept].copy_from_slice(&self.rest);
        let all = &buffer[..kept + read];
        let (left, wants_more) = self.receive(all, Some(read), now);
        self.rest.clear();
        self.rest.extend_from_slice(&all[all.len() - left..]);
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = Vec::new();
        }
        self.give_back();
        Poll::Ready(Ok(Read {
            bytes: read,
            wants_more,
        }))
    }

    /// How much is read at once: more than usual if there is much.
    fn appetite(&mut self) -> usize {
        if self.large_reads < HUNGRY || self.patience.is_some() {
            return buffers::READ;
        }
        if self.granted.is_none() {
            let budget = self.conduit.lock().core.limits().budget.clone();
            self.granted = budget.lend_spare(buffers::READ_MOST).map(Box::new);
        }
        match self.granted {
            Some(_) => buffers::READ_MOST,
            None => buffers::READ,
        }
    }

    /// Gives back what it has of the budget, unless it still holds more than usual.
    fn give_back(&mut self) {
        if self.rest.len() <= buffers::READ {
            self.granted = None;
        }
    }

    /// Acts on what was read before, and on what has happened since; returns whether
    /// more is wanted.
    fn look_again(&mut self, now: Instant) -> bool {
        let mut bytes = std::mem::take(&mut self.rest);
        let (left, wants_more) = self.receive(&bytes, None, now);
        if left > 0 {
            bytes.drain(..bytes.len() - left);
            self.rest = bytes;
        }
        self.give_back();
        wants_more
    }

    /// Acts on what `input` says, of which the last bytes were `read` now, as far as it
    /// is not too much for one turn; returns how much of it is left, and whether more is
    /// wanted.
    fn receive(
        &mut self,
        mut input: &[u8],
        mut read: Option<usize>,
        now: Instant,
    ) -> (usize, bool) {
        let mut head = buffers::head();
        let mut crumbs = Crumbs::default();
        let mut wants_more = false;
        while self.requests > 0 && self.events > 0 {
            let mut state = self.conduit.lock();
            if let Some(read) = read.take() {
                state.has_read(read, now);
            }
            state.lend();
            let Some(event) = state.core.poll_event(now, &mut input, &mut head) else {
                state.tell_curious();
                wants_more = state.core.wants_read();
                break;
            };
            self.events -= 1;
            if crumbs.take(&event) {
                continue;
            }
            if let Some((stream, bytes)) = crumbs.0.take() {
                drop(state);
                self.conduit.data(stream, &bytes, false, now);
                state = self.conduit.lock();
            }
            match event {
                Event::Head { stream, end } if self.conduit.is_server() => {
                    let head = std::mem::replace(&mut head, buffers::head());
                    let is_wasteful = state.asked(stream, &head, end);
                    drop(state);
                    self.serve(stream, head, end, is_wasteful);
                }
                Event::Head { .. } | Event::Informational { .. } => {
                    let head = std::mem::replace(&mut head, buffers::head());
                    state.heading(&event, head);
                }
                Event::Data { stream, bytes, end } => {
                    let onward = state.arrives(stream, bytes, end, now);
                    drop(state);
                    if let Some(onward) = onward {
                        self.conduit.pass(stream, &onward, bytes, end, now);
                    }
                }
                Event::Pong { payload } => state.trips.answer(payload, now),
                Event::GoAway { .. } => state.is_leaving = true,
                Event::Trailers { .. }
                | Event::Reset { .. }
                | Event::Sent { .. }
                | Event::Closed(_) => {
                    drop(state);
                    self.act(&event, &mut head);
                }
            }
        }
        if let Some((stream, bytes)) = crumbs.0.take() {
            self.conduit.data(stream, &bytes, false, now);
            wants_more = self.conduit.lock().core.wants_read();
        }
        buffers::give_back_head(head);
        (input.len(), wants_more)
    }

    /// Acts on what concerns other connections, too.
    fn act(&mut self, event: &Event<'_>, head: &mut Head) {
        match *event {
            Event::Trailers { stream } => {
                let head = std::mem::replace(head, buffers::head());
                self.conduit.tail(stream, Tail::Trailers(head));
            }
            Event::Reset { stream, reason } => {
                let broken = Broken::Reset(reason);
                let is_server = self.conduit.is_server();
                let mut state = self.conduit.lock();
                let partners = state.break_stream(stream, is_server, broken);
                drop(state);
                partners.tell(broken.code());
            }
            Event::Sent { stream, bytes } => self.conduit.sent(stream, bytes),
            Event::Closed(fault) => {
                self.patience = Some(Patience::of(fault, self.conduit.is_http2()));
                self.conduit.end(Ended::Fault(fault));
            }
            _ => {}
        }
    }

    fn serve(&mut self, stream: StreamId, head: Head, end: bool, is_wasteful: bool) {
        if is_wasteful {
            self.requests = self.requests.min(REQUESTS_OF_WASTERS);
        }
        self.requests = self.requests.saturating_sub(1);
        let exchange = Exchange::new(self.conduit.clone(), stream);
        (self.serve)(Request {
            exchange,
            head,
            end,
        });
    }

    /// Writes what there is to say, as far as the socket takes it.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<Said> {
        let mut goes_on = false;
        let mut has_written = false;
        let mut state = self.conduit.lock();
        while !self.is_deaf && state.core.wants_write() {
            let output = state.core.output(now);
            match Pin::new(&mut self.socket).poll_write(cx, output) {
                Poll::Pending => {
                    state.core.waits();
                    break;
                }
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    state.core.wrote(n, now);
                    state.written += n as u64;
                    has_written = true;
                }
                // Perhaps it has said why before it left.
                Poll::Ready(Err(_)) if state.core.wants_read() => {
                    self.is_deaf = true;
                    goes_on = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        let is_flushed = self.is_deaf
            || match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(flushed) => flushed.map(|()| true)?,
                Poll::Pending => {
                    state.core.waits();
                    false
                }
            };
        if is_flushed && let Some(buffer) = state.core.reclaim() {
            buffers::give_back_output(buffer);
        }
        let is_to_shut_down = state.core.wants_shutdown() && !self.has_shut_down;
        // What has left may be credited to its source; and what waits for room is
        // looked at.
        let has_moved = has_written || goes_on;
        let is_news = state.core.has_event() || (has_moved && !self.rest.is_empty());
        if !is_to_shut_down && !is_news {
            return Ok(self.said(&state, goes_on));
        }
        drop(state);
        if is_to_shut_down && self.shut_down(cx).is_ready() {
            goes_on = true;
        }
        if is_news {
            self.look_again(now);
            goes_on = true;
        }
        Ok(self.said(&self.conduit.lock(), goes_on))
    }

    /// What is to be done after all that was said.
    fn said(&self, state: &State, goes_on: bool) -> Said {
        if state.core.is_aborted() {
            self.socket.break_off();
        }
        self.conduit.sees(state);
        let is_cut_off = self.is_deaf && (self.has_read_all || state.slots.is_empty());
        Said {
            goes_on,
            is_over: is_cut_off || state.core.is_over(),
            wants_read: state.core.wants_read(),
            deadline: state.core.next_deadline(),
        }
    }

    /// Closes our half.
    fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A peer that is gone already needs no end.
        let _ = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
        self.has_shut_down = true;
        Poll::Ready(())
    }

    fn set_alarm(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Poll<()> {
        let Some(next) = deadline else {
            return Poll::Pending;
        };
        if self.alarm_at.is_none_or(|at| next < at) {
            self.alarm_at = Some(next);
            self.is_alarm_asked = false;
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(next.into()),
                None => self.alarm = Some(Box::pin(sleep_until(next.into()))),
            }
        }
        // It wakes us: until it is due there is nothing to ask it.
        let is_due = self.alarm_at.is_some_and(|at| at <= now);
        if self.is_alarm_asked && !is_due {
            return Poll::Pending;
        }
        let Some(alarm) = &mut self.alarm else {
            return Poll::Pending;
        };
        self.is_alarm_asked = true;
        ready!(alarm.as_mut().poll(cx));
        self.alarm_at = None;
        self.is_late = true;
        Poll::Ready(())
    }
}

impl<IO, S> Future for Driver<IO, S>
where
    IO: Socket,
    S: FnMut(Request) + Unpin,
{
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = self.get_mut();
        loop {
            let now = now();
            let deadline = match this.turn(cx, now) {
                Ok(Turn::Waits(deadline)) => deadline,
                Ok(Turn::Over) => break,
                Err(error) => {
                    this.conduit.end(Ended::Io(error.kind()));
                    break;
                }
            };
            if this.set_alarm(cx, now, deadline).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(this.conduit.end(Ended::Dropped))
    }
}

/// Whoever waits for the connection is told, whatever ended it.
impl<IO, S> Drop for Driver<IO, S> {
    fn drop(&mut self) {
        self.conduit.end(Ended::Dropped);
    }
}
