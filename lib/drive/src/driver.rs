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
    fault::Code,
    head::Head,
};
use tokio::{
    io::ReadBuf,
    task::yield_now,
    time::{Sleep, sleep_until},
};

use crate::{
    buffers,
    conduit::{Conduit, Ended, Request, now},
    exchange::{Broken, Exchange},
    join::Place,
    slot::{Slot, Tail},
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
    /// A deadline may have passed.
    is_late: bool,
    /// The peer does not take anything any more; what it has said still counts.
    is_deaf: bool,
    /// And will say no more.
    has_read_all: bool,
    has_shut_down: bool,
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
            is_late: false,
            is_deaf: false,
            has_read_all: false,
            has_shut_down: false,
        }
    }

    /// One wake-up: first what others have asked for, then what the peer says,
    /// then everything that is to be written, at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        let now = now();
        let is_news = {
            let mut state = self.conduit.lock();
            state.driver_looks(cx);
            if std::mem::take(&mut self.is_late) {
                state.core.on_deadline(now);
            }
            // Else there is nothing to look at before something has been read.
            state.core.has_event() || !state.core.wants_read()
        };
        (self.requests, self.events) = (REQUESTS, EVENTS);
        if is_news || !self.rest.is_empty() {
            self.look_again(now);
        }
        loop {
            let (read, is_enough) = self.read(cx, now)?;
            let has_written = self.write(cx, now)?;
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            if is_enough {
                // Others take what was read to where it goes, before there is more; and the
                // runtime looks for what still others say, which it would else do after some
                // sixty turns of those that it knows of. It wakes us then: we want no more.
                let _ = pin!(yield_now()).poll(cx);
                return Poll::Pending;
            }
            if read == 0 && has_written.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Reads until there is nothing, nothing more is wanted, or it was enough for
    /// one turn; returns how often, and whether it was enough.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<(usize, bool)> {
        let mut buffer = buffers::reading();
        let (mut times, mut bytes) = (0, 0);
        let result = loop {
            if self.is_enough(bytes) || !self.conduit.lock().core.wants_read() {
                break Ok(());
            }
            match self.read_once(cx, now, &mut buffer) {
                Poll::Pending => break Ok(()),
                Poll::Ready(Ok(read)) => {
                    times += 1;
                    bytes += read;
                }
                Poll::Ready(Err(error)) => break Err(error),
            }
        };
        buffers::give_back_reading(buffer);
        result.map(|()| (times, self.is_enough(bytes)))
    }

    /// Whether others have their turn after so many bytes.
    const fn is_enough(&self, bytes: usize) -> bool {
        bytes >= buffers::READ || self.requests == 0 || self.events == 0
    }

    /// Reads once, and acts on it; returns how much it was.
    fn read_once(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
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
        {
            let mut state = self.conduit.lock();
            state.reads += 1;
            state.read += read as u64;
            if read == 0 {
                state.core.receive_eof(now);
            }
        }
        buffer[..kept].copy_from_slice(&self.rest);
        let all = &buffer[..kept + read];
        let left = self.receive(all, now);
        self.rest.clear();
        self.rest.extend_from_slice(&all[all.len() - left..]);
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = Vec::new();
        }
        Poll::Ready(Ok(read))
    }

    /// Acts on what was read before, and on what has happened since.
    fn look_again(&mut self, now: Instant) {
        let mut bytes = std::mem::take(&mut self.rest);
        let left = self.receive(&bytes, now);
        if left > 0 {
            bytes.drain(..bytes.len() - left);
            self.rest = bytes;
        }
    }

    /// Acts on what `input` says, as far as it is not too much for one turn; returns
    /// how much of it is left.
    fn receive(&mut self, mut input: &[u8], now: Instant) -> usize {
        let mut head = buffers::head();
        let mut crumbs = Crumbs::default();
        while self.requests > 0 && self.events > 0 {
            let event = {
                let mut state = self.conduit.lock();
                state.lend();
                let event = state.core.poll_event(now, &mut input, &mut head);
                if event.is_none() {
                    state.tell_curious();
                }
                event
            };
            let Some(event) = event else { break };
            self.events -= 1;
            if !crumbs.take(&event) {
                self.sweep(&mut crumbs, now);
                self.act(event, &mut head, now);
            }
        }
        self.sweep(&mut crumbs, now);
        buffers::give_back_head(head);
        input.len()
    }

    /// What was gathered goes on as one piece.
    fn sweep(&self, crumbs: &mut Crumbs<'_>, now: Instant) {
        if let Some((stream, bytes)) = crumbs.0.take() {
            self.data(stream, &bytes, false, now);
        }
    }

    fn act(&mut self, event: Event<'_>, head: &mut Head, now: Instant) {
        match event {
            Event::Head { stream, end } if self.conduit.is_server() => {
                let head = std::mem::replace(head, buffers::head());
                self.request(stream, head, end);
            }
            Event::Head { .. } | Event::Informational { .. } => {
                let head = std::mem::replace(head, buffers::head());
                self.conduit.lock().heading(&event, head);
            }
            Event::Data { stream, bytes, end } => self.data(stream, bytes, end, now),
            Event::Trailers { stream } => {
                let head = std::mem::replace(head, buffers::head());
                self.tail(stream, Tail::Trailers(head));
            }
            Event::Reset { stream, reason } => {
                let broken = Broken::Reset(reason);
                let is_server = self.conduit.is_server();
                let mut state = self.conduit.lock();
                let partners = state.break_stream(stream, is_server, broken);
                drop(state);
                partners.tell(broken.code());
            }
            Event::Sent { stream, bytes } => self.sent(stream, bytes),
            Event::Pong { payload } => self.conduit.lock().trips.answer(payload, now),
            Event::GoAway { .. } => self.conduit.lock().is_leaving = true,
            Event::Closed(fault) => {
                self.conduit.end(Ended::Fault(fault));
            }
        }
    }

    fn request(&mut self, stream: StreamId, head: Head, end: bool) {
        let slot = Slot {
            is_held: true,
            asked_to_connect: head.is_connect(),
            has_received_all: end,
            // The end of a tunnel's bytes that there are none of.
            tail: (end && head.is_connect()).then_some(Tail::Bare),
            ..Slot::default()
        };
        let is_wasteful = {
            let mut state = self.conduit.lock();
            state.slots.insert(stream, slot);
            state.core.is_wasteful()
        };
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

    /// Bytes go straight on if the stream is joined to another, else they wait.
    fn data(&self, stream: StreamId, bytes: &[u8], end: bool, now: Instant) {
        let onward = {
            let mut state = self.conduit.lock();
            let Some(slot) = state.slot(stream) else {
                // Nobody wants it.
                return state.core.consume(now, stream, bytes.len());
            };
            slot.has_received_all |= end;
            slot.carried.received += bytes.len() as u64;
            if slot.has_waiting() {
                return slot.take_in(bytes, end);
            }
            let Some(onward) = slot.onward.clone() else {
                return slot.take_in(bytes, end);
            };
            slot.has_passed = true;
            onward
        };
        let taken = onward.send(bytes, end);
        let mut state = self.conduit.lock();
        let wider = state.consume(stream, taken.bytes - taken.queued, now);
        if taken.bytes < bytes.len()
            && let Some(slot) = state.slot(stream)
        {
            slot.take_in(&bytes[taken.bytes..], end);
        } else if end {
            let partners = state.settle(stream, self.conduit.is_server());
            drop(state);
            return partners.tell(Code::Cancel);
        }
        drop(state);
        if wider.is_some() {
            Place::new(self.conduit.clone(), stream).widen(wider);
        }
    }

    /// The end of a body, behind what waits of it.
    fn tail(&self, stream: StreamId, tail: Tail) {
        {
            let mut state = self.conduit.lock();
            let Some(slot) = state.slot(stream) else {
                return;
            };
            slot.has_received_all = true;
            slot.tail = Some(tail);
            slot.wake();
        }
        let place = Place::new(self.conduit.clone(), stream);
        place.pump();
        let partners = self.conduit.lock().settle(stream, self.conduit.is_server());
        partners.tell(Code::Cancel);
    }

    /// There is room again: those who wait for it are told.
    fn sent(&self, stream: StreamId, bytes: usize) {
        let source = {
            let mut state = self.conduit.lock();
            let Some(slot) = state.slot(stream) else {
                return;
            };
            slot.wake();
            slot.source.clone()
        };
        if let Some(source) = source {
            source.consume(bytes);
            source.pump();
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<Poll<()>> {
        let mut progress = Poll::Pending;
        while !self.is_deaf {
            let mut state = self.conduit.lock();
            if !state.core.wants_write() {
                break;
            }
            let output = state.core.output(now);
            match Pin::new(&mut self.socket).poll_write(cx, output) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    state.core.wrote(n, now);
                    state.written += n as u64;
                    progress = Poll::Ready(());
                    if !state.core.wants_write() {
                        break;
                    }
                }
                // Perhaps it has said why before it left.
                Poll::Ready(Err(_)) if state.core.wants_read() => {
                    self.is_deaf = true;
                    progress = Poll::Ready(());
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        let is_flushed = self.flush(cx)?.is_ready();
        let (is_to_shut_down, has_event) = {
            let mut state = self.conduit.lock();
            if is_flushed && let Some(buffer) = state.core.reclaim() {
                buffers::give_back_output(buffer);
            }
            (state.core.wants_shutdown(), state.core.has_event())
        };
        if is_to_shut_down && self.shut_down(cx).is_ready() {
            progress = Poll::Ready(());
        }
        // What has left may be credited to its source; and what waited for room
        // is looked at.
        let waits = progress.is_ready() && !self.rest.is_empty();
        if waits || has_event {
            self.look_again(now);
            progress = Poll::Ready(());
        }
        Ok(progress)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if self.is_deaf {
            return Ok(Poll::Ready(()));
        }
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Closes our half, once.
    fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_shut_down {
            return Poll::Pending;
        }
        // A peer that is gone already needs no end.
        let _ = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
        self.has_shut_down = true;
        Poll::Ready(())
    }

    /// Whether the socket is to be closed, the way it has to be.
    fn is_over(&self) -> bool {
        let state = self.conduit.lock();
        if state.core.is_aborted() {
            self.socket.break_off();
        }
        state.core.is_over() || (self.is_deaf && (self.has_read_all || state.slots.is_empty()))
    }

    fn set_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = self.conduit.lock().core.next_deadline() else {
            return Poll::Pending;
        };
        if self.alarm_at.is_none_or(|at| next < at) {
            self.alarm_at = Some(next);
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(next.into()),
                None => self.alarm = Some(Box::pin(sleep_until(next.into()))),
            }
        }
        let Some(alarm) = &mut self.alarm else {
            return Poll::Pending;
        };
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
            match this.turn(cx) {
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) => {
                    this.conduit.end(Ended::Io(error.kind()));
                    break;
                }
                Poll::Pending => {}
            }
            if this.set_alarm(cx).is_pending() {
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

impl Slot {
    /// Keeps what came for whoever holds the stream.
    fn take_in(&mut self, bytes: &[u8], end: bool) {
        if self.data.capacity() == 0 && !bytes.is_empty() {
            self.data = buffers::output();
        }
        self.data.extend_from_slice(bytes);
        if end {
            self.tail = Some(Tail::Bare);
        }
        self.wake();
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
