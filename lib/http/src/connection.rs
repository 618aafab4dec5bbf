//! One connection of either version, in either role, or of no HTTP at all.

use std::{sync::Arc, time::Instant};

use crate::{
    event::{Event, Role, StreamId, Taken},
    fault::{Code, Misuse},
    h1, h2,
    head::Head,
    limits::Limits,
    raw,
};

/// The protocol's state of one connection, without its socket.
///
/// A driver does this whenever something has happened:
///
/// 1. Read, if [`wants_read`](Self::wants_read), and pass the bytes to
///    [`poll_event`](Self::poll_event) until there is no event any more. What
///    is left of them is kept and passed again with what comes next, and also
///    when commands have been given or deadlines have passed.
/// 2. Act on events with commands, to this connection or another.
/// 3. Write [`output`](Self::output) with one call, report
///    [`wrote`](Self::wrote), and take the buffer back when it is empty.
/// 4. Sleep until the socket is ready, or [`next_deadline`](Self::next_deadline).
///
/// Commands never fail by what the peer does: a stream that the peer has ended
/// meanwhile is [`Misuse::NoStream`], which a driver may ignore, since an event
/// tells as well.
#[derive(Debug)]
pub struct Connection(Inner);

#[derive(Debug)]
enum Inner {
    Http1(h1::Connection),
    Http2(Box<h2::Connection>),
    Raw(raw::Connection),
}

/// Calls the same method of whichever version it is.
macro_rules! either {
    ($self:expr, $connection:ident => $call:expr) => {
        match $self {
            Inner::Http1($connection) => $call,
            Inner::Http2($connection) => $call,
            Inner::Raw($connection) => $call,
        }
    };
}

impl Connection {
    /// An HTTP/1 connection that has just been opened.
    #[must_use]
    pub fn http1(role: Role, limits: Arc<Limits>, now: Instant) -> Self {
        Self(Inner::Http1(h1::Connection::new(role, limits, now)))
    }

    /// An HTTP/2 connection that has just been opened, with prior knowledge on
    /// both sides (RFC 9113 §3.3). Its preface is in the output.
    #[must_use]
    pub fn http2(role: Role, limits: Arc<Limits>, now: Instant) -> Self {
        Self(Inner::Http2(Box::new(h2::Connection::new(
            role, limits, now,
        ))))
    }

    /// Bytes of any other protocol: one stream, [`RAW`](Self::RAW), that is open
    /// from the beginning and has no head.
    #[must_use]
    pub fn raw(limits: Arc<Limits>) -> Self {
        Self(Inner::Raw(raw::Connection::new(limits)))
    }

    /// The stream of a connection that is [`raw`](Self::raw).
    pub const RAW: StreamId = raw::STREAM;

    /// The limits that it was made with.
    #[must_use]
    pub const fn limits(&self) -> &Arc<Limits> {
        either!(&self.0, it => it.limits())
    }

    /// Whether this is HTTP/2.
    #[must_use]
    pub const fn is_http2(&self) -> bool {
        matches!(self.0, Inner::Http2(_))
    }

    /// Whether the peer gives up much of what it asks for, before it is answered.
    #[must_use]
    pub fn is_wasteful(&self) -> bool {
        match &self.0 {
            Inner::Http2(connection) => connection.is_wasteful(),
            _ => false,
        }
    }

    /// Whether all streams have to wait until readers take what has come of some of them.
    #[must_use]
    pub const fn is_held_up(&self) -> bool {
        match &self.0 {
            Inner::Http2(connection) => connection.is_held_up(),
            _ => false,
        }
    }

    /// The next thing that has happened. What of `input` it needed is taken off
    /// it; a head or trailers are in `head`, until the next call. Data is
    /// borrowed from `input`, so that commands can be given while it is held.
    ///
    /// With none, all was looked at that can be. What is left of `input` must
    /// come again; that is never more than one head or frame, or what waits for
    /// [`consume`](Self::consume) or for an answer.
    pub fn poll_event<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Option<Event<'a>> {
        either!(&mut self.0, it => it.poll_event(now, input, head))
    }

    /// The peer has closed its half of the connection. What it sent before may
    /// still be passed to [`poll_event`](Self::poll_event), which tells what
    /// this means.
    pub fn receive_eof(&mut self, now: Instant) {
        either!(&mut self.0, it => it.receive_eof(now));
    }

    /// Whether there may be an event without new input.
    #[must_use]
    pub fn has_event(&self) -> bool {
        either!(&self.0, it => it.has_event())
    }

    /// Whether input is of use now. If not, what the peer sends stays in the
    /// socket, so that it has to stop.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        either!(&self.0, it => it.wants_read())
    }

    /// Whether there is output to write.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        either!(&self.0, it => it.wants_write())
    }

    /// What is to be written now, as one piece, up to about
    /// [`Limits::output_bytes`] and one frame, or [`Limits::output_bytes_most`] to who
    /// takes as much.
    pub fn output(&mut self, now: Instant) -> &[u8] {
        either!(&mut self.0, it => it.output(now))
    }

    /// The first `n` bytes of the output were written.
    pub fn wrote(&mut self, n: usize, now: Instant) {
        either!(&mut self.0, it => it.wrote(n, now));
    }

    /// The socket does not take all of the output now.
    pub const fn waits(&mut self) {
        either!(&mut self.0, it => it.waits());
    }

    /// Gives the buffer `lent` for output, if the connection has none. Without
    /// one it allocates its own.
    pub fn lend(&mut self, lent: impl FnOnce() -> Vec<u8>) {
        either!(&mut self.0, it => it.lend(lent));
    }

    /// Takes the buffer for output back, if it is empty; to be called when nothing that
    /// was in it is on its way to the socket any more.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        either!(&mut self.0, it => it.reclaim())
    }

    /// Whether our half of the socket is to be closed now.
    #[must_use]
    pub fn wants_shutdown(&self) -> bool {
        either!(&self.0, it => it.wants_shutdown())
    }

    /// Whether the socket is to be closed now.
    #[must_use]
    pub fn is_over(&self) -> bool {
        either!(&self.0, it => it.is_over())
    }

    /// Whether the socket is to be closed by a reset, so that the peer does not
    /// take what it has for a whole message.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        either!(&self.0, it => it.is_aborted())
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        either!(&self.0, it => it.next_deadline())
    }

    /// Acts on what is due; early calls do no harm.
    pub fn on_deadline(&mut self, now: Instant) {
        either!(&mut self.0, it => it.on_deadline(now));
    }

    /// How many streams are under way.
    #[must_use]
    pub fn streams(&self) -> usize {
        either!(&self.0, it => it.streams())
    }

    /// Whether [`open`](Self::open) would find room.
    #[must_use]
    pub fn can_open(&self) -> bool {
        either!(&self.0, it => it.can_open())
    }

    /// Whether the peer takes extended CONNECTs (RFC 8441 §3), which only HTTP/2
    /// has; none until it has said so.
    #[must_use]
    pub const fn takes_protocols(&self) -> Option<bool> {
        match &self.0 {
            Inner::Http1(_) | Inner::Raw(_) => Some(false),
            Inner::Http2(it) => it.takes_protocols(),
        }
    }

    /// Sends a request's head. With `end` there is no body; a CONNECT has none,
    /// but its stream goes on.
    ///
    /// # Errors
    /// [`Misuse::Full`] if no stream can be opened now, [`Misuse::Head`] if it
    /// is no request or of a kind that this version or this peer does not know.
    pub fn open(&mut self, now: Instant, head: &Head, end: bool) -> Result<StreamId, Misuse> {
        either!(&mut self.0, it => it.open(now, head, end))
    }

    /// Sends an answer's head, informational or final. How the body is framed
    /// follows from the head's length, `end`, and the version.
    ///
    /// With the end of an answer the stream is over on a server: what is left
    /// of the request is thrown away, and in HTTP/1 the connection ends.
    ///
    /// # Errors
    /// [`Misuse`]; nothing was sent.
    pub fn send_head(
        &mut self,
        now: Instant,
        stream: StreamId,
        head: &Head,
        end: bool,
    ) -> Result<(), Misuse> {
        either!(&mut self.0, it => it.send_head(now, stream, head, end))
    }

    /// How many bytes [`send_data`](Self::send_data) would take.
    #[must_use]
    pub fn capacity(&self, stream: StreamId) -> usize {
        either!(&self.0, it => it.capacity(stream))
    }

    /// Sends bytes of a body, with `end` its last ones. All of them are taken
    /// if the source's window is no larger than the stream's queue and is
    /// opened as [`Taken`] says; but none before an HTTP/1 server has agreed to
    /// a tunnel.
    ///
    /// # Errors
    /// [`Misuse`].
    pub fn send_data(
        &mut self,
        now: Instant,
        stream: StreamId,
        bytes: &[u8],
        end: bool,
    ) -> Result<Taken, Misuse> {
        either!(&mut self.0, it => it.send_data(now, stream, bytes, end))
    }

    /// Ends a body with trailers. They are dropped where HTTP/1 has no place
    /// for them.
    ///
    /// # Errors
    /// [`Misuse`].
    pub fn send_trailers(
        &mut self,
        now: Instant,
        stream: StreamId,
        trailers: &Head,
    ) -> Result<(), Misuse> {
        either!(&mut self.0, it => it.send_trailers(now, stream, trailers))
    }

    /// Gives a stream up in both directions; in HTTP/1 the connection with it.
    /// There is no event.
    pub fn reset(&mut self, now: Instant, stream: StreamId, code: Code) {
        match &mut self.0 {
            Inner::Http1(it) => it.reset(now, stream),
            Inner::Http2(it) => it.reset(now, stream, code),
            Inner::Raw(it) => it.reset(now, stream),
        }
    }

    /// So many bytes of the stream's data are no longer held by anybody: the
    /// peer may send as many again.
    pub fn consume(&mut self, now: Instant, stream: StreamId, bytes: usize) {
        either!(&mut self.0, it => it.consume(now, stream, bytes));
    }

    /// Lets the peer send up to `window` bytes on a stream before they are
    /// consumed. Windows never shrink.
    pub fn grow_window(&mut self, stream: StreamId, window: u32) {
        match &mut self.0 {
            Inner::Http1(it) => it.grow_window(stream, window as usize),
            Inner::Http2(it) => it.grow_window(stream, window),
            Inner::Raw(it) => it.grow_window(stream, window as usize),
        }
    }

    /// The same for all streams of an HTTP/2 connection together, counted until
    /// we have read it.
    pub fn grow_connection_window(&mut self, window: u32) {
        match &mut self.0 {
            Inner::Http1(_) | Inner::Raw(_) => {}
            Inner::Http2(it) => it.grow_connection_window(window),
        }
    }

    /// Lets a stream's queue hold more; to be called before its source's window
    /// grows.
    pub fn grow_queue(&mut self, stream: StreamId, bytes: usize) {
        either!(&mut self.0, it => it.grow_queue(stream, bytes));
    }

    /// Asks an HTTP/2 peer for a sign of life, which comes as
    /// [`Event::Pong`].
    pub fn ping(&mut self, payload: u64) {
        match &mut self.0 {
            Inner::Http1(_) | Inner::Raw(_) => {}
            Inner::Http2(it) => it.ping(payload),
        }
    }

    /// Takes nothing new, and ends when what is under way has ended.
    pub fn shutdown(&mut self, now: Instant) {
        either!(&mut self.0, it => it.shutdown(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h18_an_idle_connection_is_small() {
        assert!(
            size_of::<Connection>() <= 336,
            "{}",
            size_of::<Connection>()
        );
        assert!(
            size_of::<h2::Connection>() <= 1024,
            "{}",
            size_of::<h2::Connection>()
        );
    }
}
