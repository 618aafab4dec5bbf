//! `lib/tls`: what comes after a handshake. What the peer has sealed as data is read as it
//! was, whole, once and in order, however it is cut; with anything else the session ends.
//! And it never holds more than two buffers and a record.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use mesh_tls::{
    Session,
    fuzzing::{self, Peer},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::choices::{Choices, bit, first};

// Types of content (RFC 8446 §5.1), and what is in them.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

const MAX_PLAIN: usize = 1 << 14;
/// Of a record's content with its type and padding (§5.2), without the seal.
const MAX_INNER: usize = MAX_PLAIN + 256 - 16;
/// Records without data that are borne one after the other.
const IDLE: u32 = 32;

/// Two of a thread's buffers, and the record that did not fit the reader's.
const MOST: usize = 2 * 64 * 1024 + MAX_INNER;
/// Whoever waits keeps no more than the part of a record that has come, and an answer.
const MOST_WAITING: usize = 5 + MAX_PLAIN + 256 + ANSWER;
/// A new key, or the alert that ends it: the longer one, sealed.
const ANSWER: usize = 5 + 5 + 17;

/// Messages, each behind two bytes that say which and how long.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    let (options, input) = first(input);
    let mut story = Story::default();
    story.tell(input);
    if bit(options, 0) {
        story.say(&[1, CLOSE_NOTIFY], ALERT, 0);
    }
    let mut choices = Choices::of(input);
    let mut session = fuzzing::session(Wire {
        pieces: cut(&story.bytes, &mut choices),
        ..Wire::default()
    });
    let (data, end) = read(&mut session, &mut choices);
    story.check(&data, &end);
    let (more, again) = read(&mut session, &mut choices);
    assert!(more.is_empty() && again.is_ok() == end.is_ok(), "{again:?}");
    let written = session.get_ref().written;
    assert!(written <= ANSWER * (story.asked + 1), "{written} bytes");
}

/// In a few pieces, of any length.
fn cut(bytes: &[u8], choices: &mut Choices) -> VecDeque<Vec<u8>> {
    let (mut pieces, mut rest) = (VecDeque::new(), bytes);
    while !rest.is_empty() {
        let most = [1, 4, 30, 900, 20_000, 70_000][choices.below(6)];
        let (piece, more) = rest.split_at((1 + choices.below(most)).min(rest.len()));
        pieces.push_back(piece.to_vec());
        rest = more;
    }
    pieces
}

/// Reads to an end, into buffers of any length.
fn read(session: &mut Session<Wire>, choices: &mut Choices) -> (Vec<u8>, io::Result<()>) {
    let (mut all, mut room) = (Vec::new(), vec![0; 70_000]);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let length = [1, 20, 1000, 17_000, 70_000][choices.below(5)];
        let mut buffer = ReadBuf::new(&mut room[..length]);
        let polled = Pin::new(&mut *session).poll_read(&mut cx, &mut buffer);
        let held = fuzzing::held(session);
        assert!(held <= MOST, "{held} bytes held");
        match polled {
            Poll::Pending => assert!(held <= MOST_WAITING, "{held} bytes held to wait"),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return (all, Ok(())),
            Poll::Ready(Ok(())) => all.extend_from_slice(buffer.filled()),
            Poll::Ready(Err(error)) => return (all, Err(error)),
        }
    }
}

/// What the peer says, and what has to come of it.
#[derive(Default)]
struct Story {
    peer: Peer,
    bytes: Vec<u8>,
    data: Vec<u8>,
    end: End,
    idle: u32,
    /// How often the session had to answer.
    asked: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// It is cut off: nobody has said that it ends.
    #[default]
    Open,
    Goodbye,
    /// Something was said that ends it, and nothing behind that counts.
    Lost,
}

impl Story {
    fn tell(&mut self, mut input: &[u8]) {
        while let Some(([what, length], rest)) = input.split_first_chunk::<2>() {
            let (bytes, rest) = rest.split_at(usize::from(*length).min(rest.len()));
            self.message(*what, bytes);
            input = rest;
        }
    }

    fn message(&mut self, what: u8, bytes: &[u8]) {
        // Long ones are as long as a record may be, and longer.
        let content = bytes.repeat(if bit(what, 3) { 65 } else { 1 });
        let padding = if bit(what, 4) { 40 } else { 0 };
        let is_proper = bit(what, 5);
        match what & 7 {
            0 | 1 => self.say(&content, DATA, padding),
            2 if is_proper => {
                let [_, _, high, low] = (content.len() as u32).to_be_bytes();
                let ticket = [&[NEW_SESSION_TICKET, 0, high, low][..], &content[..]].concat();
                self.say(&ticket, HANDSHAKE, padding);
            }
            2 => self.say(&content, HANDSHAKE, padding),
            3 => {
                let wants_one_too = u8::from(is_proper);
                self.say(&[KEY_UPDATE, 0, 0, 1, wants_one_too], HANDSHAKE, padding);
            }
            4 => self.say(&content, ALERT, padding),
            5 => self.shout(&content),
            6 => {
                let (kind, content) = first(&content);
                self.say(content, kind, padding);
            }
            _ => self.be_misheard(&content),
        }
    }

    /// Something that is not sealed.
    fn shout(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if !bytes.is_empty() {
            self.lose();
        }
    }

    /// Something of which a bit is changed on the way.
    fn be_misheard(&mut self, content: &[u8]) {
        let mut record = self.peer.seal(&[content, &[DATA][..]].concat());
        let (at, _) = first(content);
        let at = usize::from(at) % record.len();
        record[at] ^= 1_u8 << (at % 8);
        self.bytes.extend(record);
        self.lose();
    }

    fn say(&mut self, content: &[u8], kind: u8, padding: usize) {
        let mut inner = content.to_vec();
        inner.push(kind);
        inner.resize(inner.len() + padding, 0);
        self.bytes.extend(self.peer.seal(&inner));
        if self.end == End::Open {
            self.mean(&inner);
        }
    }

    /// What is behind the last byte that is not 0 is padding, and that byte the type.
    fn mean(&mut self, inner: &[u8]) {
        let kind_at = inner.iter().rposition(|byte| *byte != 0);
        let fits = |at: &usize| *at <= MAX_PLAIN && inner.len() <= MAX_INNER;
        let Some(kind_at) = kind_at.filter(fits) else {
            return self.lose();
        };
        let (kind, content) = (inner[kind_at], &inner[..kind_at]);
        if kind == DATA && !content.is_empty() {
            self.idle = 0;
            return self.data.extend_from_slice(content);
        }
        self.idle += 1;
        match (kind, content) {
            _ if self.idle > IDLE => self.lose(),
            (DATA, _) | (ALERT, [_, USER_CANCELED]) => {}
            (ALERT, [_, CLOSE_NOTIFY]) => self.end = End::Goodbye,
            (HANDSHAKE, messages) => self.after_the_handshake(messages),
            _ => self.lose(),
        }
    }

    fn after_the_handshake(&mut self, mut messages: &[u8]) {
        while let Some(([kind, length @ ..], rest)) = messages.split_first_chunk::<4>() {
            let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
            let length = length.iter().fold(0, add);
            let Some((message, behind)) = rest.split_at_checked(length) else {
                return self.lose();
            };
            match (*kind, message) {
                (NEW_SESSION_TICKET, _) => {}
                (KEY_UPDATE, [wants_one_too @ 0..=1]) if behind.is_empty() => {
                    self.asked += usize::from(*wants_one_too);
                    self.peer.renew();
                }
                _ => return self.lose(),
            }
            messages = behind;
        }
        if !messages.is_empty() {
            self.lose();
        }
    }

    fn lose(&mut self) {
        if self.end == End::Open {
            self.end = End::Lost;
        }
    }

    /// Compares with what was read, and with how that ended.
    fn check(&self, data: &[u8], end: &io::Result<()>) {
        let (came, sent) = (data.len(), self.data.len());
        assert!(
            data == self.data,
            "{came} bytes came of {sent}, then {end:?}"
        );
        let kind = end.as_ref().err().map(io::Error::kind);
        let is_right = match self.end {
            End::Open => kind == Some(io::ErrorKind::UnexpectedEof),
            End::Goodbye => kind.is_none(),
            End::Lost => kind.is_some(),
        };
        assert!(is_right, "{:?}, and it is {end:?}", self.end);
    }
}

/// What has come from the peer; it makes everybody wait now and then. What goes to the
/// peer is counted.
#[derive(Default)]
struct Wire {
    pieces: VecDeque<Vec<u8>>,
    was_asked: bool,
    was_told: bool,
    written: usize,
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.was_asked = !this.was_asked;
        if this.was_asked {
            return Poll::Pending;
        }
        if let Some(mut piece) = this.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                this.pieces.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.was_told = !this.was_told;
        if this.was_told {
            return Poll::Pending;
        }
        let taken = bytes.len().min(10);
        this.written += taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
