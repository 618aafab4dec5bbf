//! A stream with a verified peer: what is written goes out sealed, what comes is
//! opened as it is read.
//!
//! Nothing is copied that need not be: records are opened into the reader's
//! buffer, and sealed from the writer's. An idle session holds two keys and no
//! buffer; those for what is under way belong to the thread.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::{self, AlertDescription};

use crate::{
    buffers::{MOST, ROOM, Under, borrow},
    error::TlsError,
    handshake::{Behind, Renewal, Side},
    records::{
        Content, Direction, Flaw, HEADER, MAX_PLAIN, MAX_SEALED, TRAILER, opened_length,
        record_length,
    },
};

/// What is sealed to be written with one call, in sixteen records.
const AT_ONCE: usize = MOST - 16 * (HEADER + TRAILER);
/// Records without a byte of data that a peer may send one after the other.
const IDLE: u32 = 32;

const KEY_UPDATE: u8 = 24;
const NEW_SESSION_TICKET: u8 = 4;
/// The level of alerts that are no errors; of others nobody looks at it (RFC 8446 §6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// A stream over TLS 1.3. Its reader is told of an end that the peer did not say
/// goodbye before, as an error.
pub struct Session<IO> {
    io: IO,
    sending: Direction,
    receiving: Direction,
    renewal: Box<dyn Renewal>,
    /// The peer's certificates, its own first; none if it was asked for none.
    certificates: Option<Arc<[CertificateDer<'static>]>>,
    cipher_suite: &'static str,
    key_exchange: &'static str,
    /// Sealed, and not looked at.
    incoming: Under,
    /// Opened, and not read.
    opened: Under,
    /// Sealed, and not written.
    outgoing: Under,
    /// Records without data since the last with some.
    idle: u32,
    /// The peer asked for a new key of ours.
    owes_update: bool,
    has_said_goodbye: bool,
    end: End,
}

/// Whether anything more comes.
#[derive(Clone, Copy)]
enum End {
    NotYet,
    /// The peer said goodbye.
    Goodbye,
    Failed(AlertDescription),
    /// The peer says so.
    Alerted(AlertDescription),
}

impl<IO> Session<IO> {
    /// A session on `io`, whose handshake on `side` is over.
    pub(crate) fn new(io: IO, side: impl Side, behind: Behind) -> Result<Self, TlsError> {
        let state = side.state();
        let suite = state.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str());
        let group = state.negotiated_key_exchange_group();
        let group = group.and_then(|group| group.name().as_str());
        let certificates = state.peer_certificates().map(|chain| {
            let owned = chain.iter().map(|der| der.clone().into_owned());
            owned.collect()
        });
        let (secrets, renewal) = side.into_secrets()?;
        Ok(Self {
            io,
            sending: Direction::new(secrets.tx)?,
            receiving: Direction::new(secrets.rx)?,
            renewal,
            certificates,
            cipher_suite: suite.unwrap_or_default(),
            key_exchange: group.unwrap_or_default(),
            incoming: Under::of(behind.records),
            opened: Under::of(behind.data),
            outgoing: Under::default(),
            idle: 0,
            owes_update: false,
            has_said_goodbye: false,
            end: if behind.is_over {
                End::Goodbye
            } else {
                End::NotYet
            },
        })
    }

    /// The stream below.
    #[must_use]
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    /// The cipher suite, by its name in RFC 8446.
    #[must_use]
    pub const fn cipher_suite(&self) -> &'static str {
        self.cipher_suite
    }

    /// The group of the key exchange, by its registered name.
    #[must_use]
    pub const fn key_exchange(&self) -> &'static str {
        self.key_exchange
    }

    pub(crate) const fn certificates(&self) -> Option<&Arc<[CertificateDer<'static>]>> {
        self.certificates.as_ref()
    }

    /// Opens one whole record that has come, straight into `buffer` if it fits;
    /// whether there was one.
    fn open_next(&mut self, buffer: &mut ReadBuf<'_>) -> Result<bool, Flaw> {
        let Some(length) = record_length(self.incoming.bytes())? else {
            return Ok(false);
        };
        let Some(record) = self.incoming.bytes().get(..length) else {
            return Ok(false);
        };
        let room = opened_length(length);
        let data = if buffer.remaining() >= room {
            let into = buffer.initialize_unfilled_to(room);
            let (content, end) = self.receiving.open(record, into)?;
            if content == Content::Data {
                buffer.advance(end);
                Ok(end)
            } else {
                Err((content, into[..end].to_vec()))
            }
        } else {
            let mut opened = vec![0; room];
            let (content, end) = self.receiving.open(record, &mut opened)?;
            opened.truncate(end);
            if content == Content::Data {
                let given = end.min(buffer.remaining());
                buffer.put_slice(&opened[..given]);
                if given < end {
                    self.opened = Under::of(opened);
                    self.opened.at = given;
                }
                Ok(end)
            } else {
                Err((content, opened))
            }
        };
        self.incoming.at += length;
        match data {
            Ok(1..) => self.idle = 0,
            Ok(0) => self.count_idle()?,
            Err((content, message)) => {
                self.count_idle()?;
                match content {
                    Content::Handshake => self.told(&message)?,
                    Content::Alert | Content::Data => self.alerted(&message)?,
                }
            }
        }
        Ok(true)
    }

    /// What costs us something and brings nothing is bounded.
    fn count_idle(&mut self) -> Result<(), Flaw> {
        self.idle += 1;
        if self.idle > IDLE {
            return Err(Flaw(AlertDescription::UnexpectedMessage));
        }
        Ok(())
    }

    /// Messages of the handshake that may come after it (RFC 8446 §4.6). Ours have
    /// to be whole: they are short.
    fn told(&mut self, mut messages: &[u8]) -> Result<(), Flaw> {
        while let Some(([kind, lengths @ ..], rest)) = messages.split_first_chunk::<4>() {
            let [high, middle, low] = *lengths;
            let length = u32::from_be_bytes([0, high, middle, low]);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let message = rest.get(..length).ok_or(UNEXPECTED)?;
            messages = &rest[length..];
            match (*kind, message) {
                // Sessions are not resumed.
                (NEW_SESSION_TICKET, _) => {}
                // The last one with that key.
                (KEY_UPDATE, [wants @ 0..=1]) if messages.is_empty() => {
                    self.owes_update |= *wants == 1;
                    let secrets = self.renewal.receiving().map_err(|_| INTERNAL)?;
                    self.receiving = Direction::new(secrets).map_err(|_| INTERNAL)?;
                }
                (KEY_UPDATE, _) => return Err(Flaw(AlertDescription::IllegalParameter)),
                _ => return Err(UNEXPECTED),
            }
        }
        if messages.is_empty() {
            Ok(())
        } else {
            Err(UNEXPECTED)
        }
    }

    fn alerted(&mut self, message: &[u8]) -> Result<(), Flaw> {
        let [_, description] = message else {
            return Err(Flaw(AlertDescription::DecodeError));
        };
        match AlertDescription::from(*description) {
            AlertDescription::CloseNotify => self.end = End::Goodbye,
            // Goodbye comes behind it.
            AlertDescription::UserCanceled => {}
            other => self.end = End::Alerted(other),
        }
        Ok(())
    }

    /// Seals one record behind what waits already.
    fn seal(&mut self, content: Content, plain: &[u8]) -> io::Result<()> {
        let into = self.outgoing.room(HEADER + plain.len() + TRAILER);
        let sealed = self.sending.seal(content, plain, into).map_err(failed)?;
        self.outgoing.end += sealed;
        Ok(())
    }

    /// The next record is sealed with a new key, if it has to be.
    fn renew(&mut self) -> io::Result<()> {
        if !self.owes_update && !self.sending.is_worn() {
            return Ok(());
        }
        self.owes_update = false;
        self.seal(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0])?;
        let secrets = self.renewal.sending().map_err(io::Error::other)?;
        self.sending = Direction::new(secrets).map_err(io::Error::other)?;
        Ok(())
    }

    /// Seals no more than goes out with one call; how much that was.
    fn seal_data(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(AT_ONCE)];
        let records = bytes.len().div_ceil(MAX_PLAIN);
        self.outgoing
            .begin(bytes.len() + records * (HEADER + TRAILER));
        for plain in bytes.chunks(MAX_PLAIN) {
            self.renew()?;
            self.seal(Content::Data, plain)?;
        }
        Ok(bytes.len())
    }

    /// The error that ends it, of which the peer is told.
    fn fail(&mut self, flaw: Flaw) -> io::Error {
        self.end = End::Failed(flaw.0);
        if !self.has_said_goodbye {
            self.has_said_goodbye = true;
            // If there is no room for it, it is late anyway.
            let _ = self.seal(Content::Alert, &[FATAL, flaw.0.into()]);
        }
        failed(flaw)
    }
}

const UNEXPECTED: Flaw = Flaw(AlertDescription::UnexpectedMessage);
const INTERNAL: Flaw = Flaw(AlertDescription::InternalError);

fn failed(flaw: Flaw) -> io::Error {
    let what = format!("TLS: {:?}", flaw.0);
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<IO: AsyncWrite + Unpin> Session<IO> {
    /// Writes what waits.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, self.outgoing.bytes()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.outgoing.at += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // It may take a while.
                    if self.outgoing.bytes().len() < self.outgoing.buffer.len() / 2 {
                        self.outgoing.rest();
                    }
                    return Poll::Pending;
                }
            }
        }
        self.outgoing.rest();
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Session<IO> {
    /// Reads until there is something for `buffer`, or an end.
    fn poll_in(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        loop {
            match self.end {
                End::NotYet => {}
                _ if buffer.filled().len() > start => return Poll::Ready(Ok(())),
                End::Goodbye => return Poll::Ready(Ok(())),
                End::Failed(alert) => return Poll::Ready(Err(failed(Flaw(alert)))),
                End::Alerted(alert) => {
                    let error = rustls::Error::AlertReceived(alert);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
            match self.open_next(buffer) {
                Ok(true) if buffer.remaining() > 0 => {}
                Ok(false) if buffer.filled().len() == start => {
                    if !ready!(self.poll_more(cx, buffer.remaining()))? {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
                Ok(_) => return Poll::Ready(Ok(())),
                Err(flaw) => {
                    let error = self.fail(flaw);
                    // It is told if that is possible at once.
                    let _ = self.poll_out(cx);
                    if buffer.filled().len() == start {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    /// Reads from below as much as fits `wanted` bytes, or as usual; false at its end.
    fn poll_more(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<bool>> {
        let held = self.incoming.end - self.incoming.at;
        // A record's end is looked at when it is there.
        if self.incoming.buffer.len() < ROOM {
            let wanted = if wanted < MOST / 2 { ROOM } else { MOST };
            let mut buffer = borrow(wanted);
            buffer[..held].copy_from_slice(self.incoming.bytes());
            self.incoming.buffer = buffer;
        } else {
            let held = self.incoming.at..self.incoming.end;
            self.incoming.buffer.copy_within(held, 0);
        }
        (self.incoming.at, self.incoming.end) = (0, held);
        let mut space = ReadBuf::new(&mut self.incoming.buffer[held..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut space))?;
        let read = space.filled().len();
        self.incoming.end += read;
        Poll::Ready(Ok(read > 0))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Session<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !this.opened.is_empty() {
            let waiting = this.opened.bytes();
            let given = waiting.len().min(buffer.remaining());
            buffer.put_slice(&waiting[..given]);
            this.opened.at += given;
            if this.opened.is_empty() {
                this.opened = Under::default();
            }
            return Poll::Ready(Ok(()));
        }
        let read = this.poll_in(cx, buffer);
        // Whole records are for the next call, which comes at once.
        let is_whole = record_length(this.incoming.bytes())
            .is_ok_and(|length| length.is_some_and(|length| length <= this.incoming.bytes().len()));
        if !is_whole {
            this.incoming.rest();
        }
        if this.owes_update && this.outgoing.is_empty() && this.renew().is_ok() {
            // If it cannot be written now, whoever writes next does it, or is told.
            let _ = this.poll_out(cx);
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Session<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.has_said_goodbye {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_out(cx))?;
        let taken = this.seal_data(bytes)?;
        // They are taken, whether or not they go at once.
        if let Poll::Ready(Err(error)) = this.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_said_goodbye {
            this.has_said_goodbye = true;
            this.seal(
                Content::Alert,
                &[WARNING, AlertDescription::CloseNotify.into()],
            )?;
        }
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<IO> fmt::Debug for Session<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Room for the longest record that may come.
const _: () = assert!(ROOM >= HEADER + MAX_SEALED && AT_ONCE <= 16 * MAX_PLAIN);

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod known;
#[cfg(test)]
mod tests;
