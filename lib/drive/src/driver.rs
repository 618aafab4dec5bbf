//! The life of a connection: what is read becomes events, what others have said
//! is written, and deadlines pass.

use std::{
    borrow::Cow,
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use mesh_http::{
    event::{Event, StreamId},
    head::Head,
};
use tokio::{
    io::ReadBuf,
    task::yield_now,
    time::{Sleep, sleep_until},
};

use crate::{
    buffers,
    conduit::{Conduit, Ended, Request, State, now},
    exchange::{Broken, Exchange},
    slot::Tail,
    socket::Socket,
};

/// Requests that are taken in one turn. A client that sends a thousand at once is
/// served like one that sends them one by one: others have their turns between.
const REQUESTS: usize = 128;
/// The same for all that a peer says: what is cheap to say in many small frames may
/// cost more to hear.
const EVENTS: usize = 256;
/// Bytes of a piece of a body that is worth waiting for the next one.
const CRUMB: usize = 256;
/// Requests of a turn for a client that gives up much of what it asks for: what it wastes it
/// takes from nobody.
const REQUESTS_OF_WASTERS: usize = 2;

/// Drives one connection until its end.
pub(crate) struct Driver<IO, S> {
    socket: IO,
    conduit: Conduit,
    serve: S,
    /// What was read and cannot be looked at yet.
    rest: Vec<u8>,
    /// Requests that may still be taken in this turn.
    requests: usize,
    /// The same of everything that is said.
    events: usize,
    /// Wakes us no later than the next deadline. Deadlines that move away leave
    /// it as it is: it is set again when it goes off.
    alarm: Option<Pin<Box<Sleep>>>,
    alarm_at: Option<Instant>,
    /// The alarm knows whom to wake.
    is_alarm_asked: bool,
    /// A deadline may have passed.
    is_late: bool,
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
            requests: REQUESTS,
            events: EVENTS,
            alarm: None,
            alarm_at: None,
            is_alarm_asked: false,
            is_late: false,
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
            if self.is_enough(bytes) || !wants_read {
                break Ok(());
            }
            match self.read_once(cx, now, &mut buffer) {
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
        })
    }

    /// Whether others have their turn after so many bytes.
    const fn is_enough(&self, bytes: usize) -> bool {
        bytes >= buffers::READ || self.requests == 0 || self.events == 0
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
        let wanted = kept + buffers::READ + IO::SLACK;
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let mut space = ReadBuf::new(&mut buffer[kept..]);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut space))?;
        let read = space.filled().len();
        self.has_read_all |= read == 0;
        buffer[..kept].copy_from_slice(&self.rest);
        let all = &buffer[..kept + read];
        let (left, wants_more) = self.receive(all, Some(read), now);
        self.rest.clear();
        self.rest.extend_from_slice(&all[all.len() - left..]);
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = Vec::new();
        }
        Poll::Ready(Ok(Read {
            bytes: read,
            wants_more,
        }))
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
    fn act(&self, event: &Event<'_>, head: &mut Head) {
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
                Poll::Pending => break,
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
                Poll::Pending => false,
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

/// Small pieces of one stream's body that have come one behind the other: passing them on
/// costs more than they do.
#[derive(Default)]
struct Crumbs<'a>(Option<(StreamId, Cow<'a, [u8]>)>);

impl<'a> Crumbs<'a> {
    /// Takes a small piece, if it can be put behind those that are there.
    fn take(&mut self, event: &Event<'a>) -> bool {
        let Event::Data { stream, bytes, end } = *event else {
            return false;
        };
        match &mut self.0 {
            _ if end || bytes.len() > CRUMB => return false,
            None => self.0 = Some((stream, Cow::Borrowed(bytes))),
            Some((first, _)) if *first != stream => return false,
            Some((_, all)) => all.to_mut().extend_from_slice(bytes),
        }
        true
    }
}

/// Whoever waits for the connection is told, whatever ended it.
impl<IO, S> Drop for Driver<IO, S> {
    fn drop(&mut self) {
        self.conduit.end(Ended::Dropped);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_http::{connection::Connection, event::Role, limits::Limits};

    use super::*;

    #[test]
    fn h14_only_small_pieces_of_one_stream_are_gathered() {
        let mut client = Connection::http2(Role::Client, Arc::new(Limits::default()), now());
        let head = Head::request("POST", "web", "/").unwrap();
        let [first, second] = [(); 2].map(|()| client.open(now(), &head, false).unwrap());
        let data = |stream, bytes, end| Event::Data { stream, bytes, end };
        let mut crumbs = Crumbs::default();
        assert!(crumbs.take(&data(first, b"a", false)));
        assert!(crumbs.take(&data(first, b"bc", false)));
        for other in [
            data(second, b"d", false),
            data(first, b"d", true),
            data(first, &[b'd'; CRUMB + 1], false),
            Event::Pong { payload: 0 },
        ] {
            assert!(!crumbs.take(&other), "{other:?}");
        }
        assert_eq!(crumbs.0, Some((first, Cow::Borrowed(&b"abc"[..]))));
    }
}
