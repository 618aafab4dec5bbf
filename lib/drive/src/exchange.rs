//! One request and its answer on one connection, or one stream of bytes.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use mesh_http::{
    connection::Connection,
    event::{Event, StreamId},
    fault::{Code, Misuse, ResetReason},
    head::Head,
};

use crate::{
    conduit::{Conduit, Ended, Partners, State, now},
    join::Place,
    slot::{Heading, Slot, Tail},
};

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The stream ended before its time.
    #[error("{}", .0.as_str())]
    Reset(ResetReason),
    /// The connection ended.
    #[error(transparent)]
    Connection(Ended),
    /// The stream that it was joined to ended before its time.
    #[error("the other side broke off")]
    Joined,
    /// We gave it up.
    #[error("given up")]
    GivenUp,
}

impl Broken {
    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Reset(reason) => reason.as_str(),
            Self::Connection(ended) => ended.as_str(),
            Self::Joined => "joined",
            Self::GivenUp => "given_up",
        }
    }

    /// The code to break a stream off with that was to carry on.
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Reset(ResetReason::Peer(code)) => code,
            Self::Reset(_) | Self::Connection(_) => Code::Internal,
            Self::Joined | Self::GivenUp => Code::Cancel,
        }
    }
}

/// What a server says to a request.
#[derive(Debug)]
pub enum Answer {
    /// 1xx; others follow.
    Informational(Head),
    /// The answer's head; with `end` it has no body.
    Final {
        /// Status and fields.
        head: Head,
        /// No body follows.
        end: bool,
    },
}

/// What has come of a body.
#[derive(Debug)]
pub enum Chunk {
    /// Some bytes, never none.
    Data(Vec<u8>),
    /// Its end.
    End,
    /// Its end, with trailers.
    Trailers(Head),
}

/// What is to be expected of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// Its client waits for the answer.
    Good,
    /// Its client gives up most of what it asks for.
    Doubtful,
    /// Its client has given it up.
    Gone,
}

/// Bytes of bodies that a stream has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

/// Leaves trailers as they are.
pub const fn as_they_are(_: &mut Head) {}

/// A stream in somebody's hands. Who lets go of it before both directions have
/// ended, or were joined to another's, breaks it off.
pub struct Exchange {
    pub(crate) place: Place,
}

impl Exchange {
    pub(crate) const fn new(conduit: Conduit, stream: StreamId) -> Self {
        let place = Place::new(conduit, stream);
        Self { place }
    }

    /// The connection that it is on.
    #[must_use]
    pub const fn conduit(&self) -> &Conduit {
        &self.place.conduit
    }

    /// Its number there.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.place.stream
    }

    /// Sends an answer's head, informational or final; with `end` there is no
    /// body.
    ///
    /// # Errors
    /// [`Misuse`]: nothing was sent. That the client is gone is `NoStream`.
    pub fn send_head(&self, head: &Head, end: bool) -> Result<(), Misuse> {
        let partners = self.conduit().command(|state, now| {
            state.core.send_head(now, self.stream(), head, end)?;
            let is_http2 = state.core.is_http2();
            let Some(slot) = state.slot(self.stream()) else {
                return Ok(Partners::default());
            };
            if slot.becomes_tunnel(head) {
                slot.open_both(head);
            }
            // A tunnel over HTTP/1 does not end with a head.
            if !end || (slot.is_tunnel && !is_http2) {
                return Ok(Partners::default());
            }
            slot.has_sent_all = true;
            Ok(state.settle(self.stream(), self.conduit().is_server()))
        })?;
        partners.tell(Code::Cancel);
        Ok(())
    }

    /// Sends all of `bytes`, as fast as the peer takes them; with `end` nothing
    /// follows.
    ///
    /// # Errors
    /// If the stream breaks before.
    pub async fn send(&self, bytes: &[u8], end: bool) -> Result<(), Broken> {
        let mut rest = bytes;
        loop {
            if let Some(broken) = self.with_slot(|slot| slot.broken).flatten() {
                return Err(broken);
            }
            let taken = self.try_send(rest, end);
            rest = &rest[taken..];
            if rest.is_empty() {
                return Ok(());
            }
            poll_fn(|cx| self.poll_room(cx)).await?;
        }
    }

    /// Sends as much of `bytes` as the peer takes now, with `end` the last ones;
    /// says how many that were. A stream that is no more takes all.
    #[must_use]
    pub fn try_send(&self, bytes: &[u8], end: bool) -> usize {
        self.place.send(bytes, end).bytes
    }

    /// Ends what we send with trailers.
    pub fn send_trailers(&self, trailers: &Head) {
        self.place.finish(trailers);
    }

    /// What the server says next.
    ///
    /// # Errors
    /// If the stream breaks before the final head.
    pub async fn answer(&self) -> Result<Answer, Broken> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// The same for a hand-written future.
    ///
    /// # Errors
    /// If the stream breaks before the final head.
    pub fn poll_answer(&self, cx: &Context<'_>) -> Poll<Result<Answer, Broken>> {
        self.poll_slot(cx, |_, slot| {
            if slot.heads.is_empty() {
                return None;
            }
            Some(match slot.heads.remove(0) {
                Heading::Informational(head) => Answer::Informational(head),
                Heading::Final { head, end } => Answer::Final { head, end },
            })
        })
    }

    /// What has come of the body since the last call, which is taken as read.
    ///
    /// # Errors
    /// If the stream breaks before its end.
    pub async fn chunk(&self) -> Result<Chunk, Broken> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The same for a hand-written future.
    ///
    /// # Errors
    /// If the stream breaks before its end.
    pub fn poll_chunk(&self, cx: &Context<'_>) -> Poll<Result<Chunk, Broken>> {
        let chunk = ready!(self.poll_slot(cx, |_, slot| slot.next_chunk()))?;
        if let Chunk::Data(data) = &chunk {
            self.place.consume(data.len());
        }
        Poll::Ready(Ok(chunk))
    }

    /// From now on what comes here goes to `onward`, with nobody's help, its
    /// trailers as `clean` leaves them, and one that breaks breaks the other; but
    /// a request that has no answer yet stays with whoever holds it.
    ///
    /// # Panics
    /// If one of the two connections was not made on this thread: between threads
    /// nobody keeps bytes in their order.
    pub fn join(&self, onward: &Self, clean: fn(&mut Head)) {
        assert!(
            self.conduit().is_home() && onward.conduit().is_home(),
            "connections of different threads are joined"
        );
        onward.with_slot(|slot| slot.source = Some(self.place.clone()));
        let place = onward.place.clone();
        let is_there = self.with_slot(|slot| {
            slot.onward = Some(place);
            slot.clean = Some(clean);
            // What is whole can be passed on, whatever happened since.
            slot.broken.filter(|_| !slot.has_received_all)
        });
        match is_there {
            Some(None) => self.place.pump(),
            Some(Some(broken)) => onward.place.lost(broken.code()),
            None => onward.place.lost(Code::Cancel),
        }
    }

    /// Waits until both directions have ended.
    ///
    /// # Errors
    /// If one breaks.
    pub async fn over(&self) -> Result<(), Broken> {
        let is_server = self.conduit().is_server();
        poll_fn(|cx| {
            self.poll_slot(cx, |_, slot| {
                let is_whole = slot.broken.is_none();
                (is_whole && slot.is_over(is_server)).then_some(())
            })
        })
        .await
    }

    /// Waits until it breaks, if it ever does.
    pub async fn gone(&self) -> Broken {
        let broken = poll_fn(|cx| self.poll_slot(cx, |_, _| None::<()>)).await;
        broken.err().unwrap_or(Broken::GivenUp)
    }

    /// Whether it is worth while to begin with a request that has just come.
    #[must_use]
    pub fn prospect(&self) -> Prospect {
        let mut state = self.conduit().lock();
        let is_doubtful = state.core.is_wasteful();
        match state.slot(self.stream()).map(|slot| slot.broken) {
            Some(None) if is_doubtful => Prospect::Doubtful,
            Some(None) => Prospect::Good,
            Some(Some(_)) | None => Prospect::Gone,
        }
    }

    /// Whether something of the body that comes here has gone on to the stream
    /// that it is or was joined to.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.with_slot(|slot| slot.has_passed).unwrap_or(true)
    }

    /// Whether both directions are bytes of another protocol now, each with an end
    /// of its own.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.with_slot(|slot| slot.is_tunnel).unwrap_or(false)
    }

    /// Bytes of bodies so far.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.with_slot(|slot| slot.carried).unwrap_or_default()
    }

    /// Gives it up in both directions.
    pub fn reset(&self, code: Code) {
        self.conduit().reset(self.stream(), code, Broken::GivenUp);
    }

    /// Whether no byte has left since the request was opened: whatever became
    /// of the connection, nobody has received it.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        let mut state = self.conduit().lock();
        let written = state.written;
        state
            .slot(self.stream())
            .is_some_and(|slot| slot.opened_at == written)
    }

    /// Takes back what was taken of its bytes, and not read.
    pub(crate) fn put_back(&self, mut bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.with_slot(|slot| {
            bytes.append(&mut slot.data);
            slot.data = bytes;
        });
    }

    fn with_slot<T>(&self, act: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.conduit().lock().slot(self.stream()).map(act)
    }

    /// What `take` finds, or why there will be nothing; else the task is woken
    /// when there is something new.
    pub(crate) fn poll_slot<T>(
        &self,
        cx: &Context<'_>,
        take: impl FnOnce(&Connection, &mut Slot) -> Option<T>,
    ) -> Poll<Result<T, Broken>> {
        let state = &mut *self.conduit().lock();
        let Some(slot) = state.slots.get_mut(self.stream()) else {
            return Poll::Ready(Err(Broken::GivenUp));
        };
        if let Some(found) = take(&state.core, slot) {
            return Poll::Ready(Ok(found));
        }
        if let Some(broken) = slot.broken {
            return Poll::Ready(Err(broken));
        }
        slot.waits(cx);
        Poll::Pending
    }

    /// Waits until something can be sent. There is no room in what has ended, as
    /// a CONNECT that was declined has.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<(), Broken>> {
        let room = self.poll_slot(cx, |core, slot| {
            if slot.has_sent_all {
                return Some(Err(Broken::GivenUp));
            }
            (core.capacity(self.stream()) > 0).then_some(Ok(()))
        });
        room.map(|room| room.flatten())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let is_server = self.conduit().is_server();
        let (goes_on, is_answered) = {
            let mut state = self.conduit().lock();
            let Some(slot) = state.slot(self.stream()) else {
                return;
            };
            slot.is_held = false;
            if slot.is_over(is_server) {
                state.slots.remove(self.stream());
                return;
            }
            (slot.goes_on_by_itself(), slot.has_sent_all)
        };
        if !goes_on {
            // A server that does not answer is at fault, a client is not.
            let code = match (is_server, is_answered) {
                (true, false) => Code::Internal,
                (true, true) => Code::NoError,
                (false, _) => Code::Cancel,
            };
            self.conduit().reset(self.stream(), code, Broken::GivenUp);
        }
    }
}

impl Slot {
    fn next_chunk(&mut self) -> Option<Chunk> {
        if !self.data.is_empty() {
            return Some(Chunk::Data(std::mem::take(&mut self.data)));
        }
        match self.tail.take() {
            Some(Tail::Trailers(head)) => Some(Chunk::Trailers(head)),
            Some(Tail::Bare) => Some(Chunk::End),
            None => self.has_received_all.then_some(Chunk::End),
        }
    }

    /// Whether this answer makes two streams of bytes of the exchange.
    pub(crate) fn becomes_tunnel(&self, answer: &Head) -> bool {
        let status = answer.status().unwrap_or_default();
        status == 101 || (self.asked_to_connect && (200..300).contains(&status))
    }

    /// From now on both directions are for themselves. Those of a switched
    /// protocol begin anew; that of a CONNECT may have ended before its answer.
    pub(crate) fn open_both(&mut self, answer: &Head) {
        self.is_tunnel = true;
        if answer.status() == Some(101) {
            self.has_received_all = false;
            self.has_sent_all = false;
        }
    }

    const fn goes_on_by_itself(&self) -> bool {
        // Nothing is wanted any more of who was told no.
        let is_declined = self.asked_to_connect && !self.is_tunnel && self.source.is_some();
        let comes = self.has_received_all || self.onward.is_some() || is_declined;
        let goes = self.has_sent_all || self.source.is_some();
        comes && goes
    }
}

impl State {
    /// Lets whoever holds a stream know what has happened on it; true if it was
    /// one of its heads, which is theirs now.
    pub(crate) fn heading(&mut self, event: &Event<'_>, head: Head) {
        let (stream, heading) = match *event {
            Event::Head { stream, end } => (stream, Heading::Final { head, end }),
            Event::Informational { stream } => (stream, Heading::Informational(head)),
            _ => return,
        };
        let Some(slot) = self.slot(stream) else {
            return;
        };
        if let Heading::Final { head, end } = &heading {
            let is_tunnel = slot.becomes_tunnel(head);
            if is_tunnel {
                slot.open_both(head);
            }
            if *end {
                slot.has_received_all = true;
                if is_tunnel {
                    // The end of its bytes, of which there are none.
                    slot.tail = Some(Tail::Bare);
                }
            }
        }
        // A CONNECT that is declined has nothing more to say; its answer may.
        let is_declined = matches!(heading, Heading::Final { .. })
            && slot.asked_to_connect
            && !slot.is_tunnel
            && !slot.has_sent_all;
        slot.heads.push(heading);
        slot.wake();
        if is_declined && self.core.is_http2() {
            // One that is reset already says nothing either.
            let _ = self.core.send_data(now(), stream, &[], true);
            if let Some(slot) = self.slot(stream) {
                slot.has_sent_all = true;
            }
        }
    }
}
