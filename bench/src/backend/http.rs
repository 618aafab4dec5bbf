//! The port of requests. A request's path says how long the answer is to be.

use std::{io, net::TcpStream, sync::LazyLock, time::Instant};

use anyhow::{Context as _, Result, ensure};
use mesh_http::{
    connection::Connection,
    event::{Event, Role, StreamId},
    head::Head,
};
use nix::sys::epoll::Epoll;

use crate::load::{
    carrier::{Carrier, Scratch, Then, Version},
    payload::{PIECE, payload},
    requests::{GRPC_MESSAGE, GRPC_PATH, ID, Kind, grpc_answer, grpc_prefix, grpc_trailers, page},
    session::check_body,
};

/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI ";

/// The heads that are sent without a change.
static GRPC: LazyLock<(Head, Head)> = LazyLock::new(|| {
    let valid = "they are fixed";
    (grpc_answer().expect(valid), grpc_trailers().expect(valid))
});

/// A connection to the port of requests.
pub(crate) enum Http {
    /// It has not said yet what it speaks.
    Unknown(Option<TcpStream>),
    Known(Box<Served>),
}

pub(crate) struct Served {
    carrier: Carrier,
    streams: Vec<Exchange>,
}

/// A request whose answer is not wholly sent.
struct Exchange {
    stream: StreamId,
    kind: Kind,
    id: Vec<u8>,
    received: usize,
    /// How much of the answer was taken; none before its head was sent.
    sent: Option<usize>,
}

impl Http {
    pub(crate) fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Unknown(socket) => socket.as_ref(),
            Self::Known(served) => Some(served.carrier.socket()),
        }
    }

    /// Does what can be done; false once it is over.
    pub(crate) fn act(
        &mut self,
        epoll: &Epoll,
        token: u64,
        scratch: &mut Scratch,
        now: Instant,
    ) -> Result<bool> {
        if let Self::Unknown(unknown) = self
            && let Some(socket) = unknown
        {
            let mut first = [0; PREFACE.len()];
            let version = match socket.peek(&mut first) {
                Ok(0) => return Ok(false),
                Ok(read) if read < PREFACE.len() => return Ok(true),
                Ok(_) if first == PREFACE => Version::Http2,
                Ok(_) => Version::Http1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error.into()),
            };
            let socket = unknown.take().context("it was there")?;
            *self = Self::Known(Box::new(Served {
                carrier: Carrier::new(socket, version, Role::Server, now)?,
                streams: Vec::new(),
            }));
        }
        match self {
            Self::Unknown(_) => Ok(true),
            Self::Known(served) => served.act(epoll, token, scratch, now),
        }
    }
}

impl Served {
    fn act(
        &mut self,
        epoll: &Epoll,
        token: u64,
        scratch: &mut Scratch,
        now: Instant,
    ) -> Result<bool> {
        let Self { carrier, streams } = self;
        let then = carrier.read(scratch, now, |core, event, head| {
            receive(core, streams, event, head, now)
        })?;
        carrier.flush(epoll, token, now)?;
        Ok(then == Then::GoesOn)
    }
}

fn receive(
    core: &mut Connection,
    streams: &mut Vec<Exchange>,
    event: Event<'_>,
    head: &Head,
    now: Instant,
) -> Result<()> {
    let find = |streams: &[Exchange], stream| {
        let found = streams
            .iter()
            .position(|exchange| exchange.stream == stream);
        found.context("bytes of no request")
    };
    let at = match event {
        Event::Head { stream, end } => {
            streams.push(Exchange::begin(stream, head)?);
            if !end {
                return Ok(());
            }
            streams.len() - 1
        }
        Event::Data { stream, bytes, end } => {
            core.consume(now, stream, bytes.len());
            let at = find(streams, stream)?;
            let exchange = &mut streams[at];
            check_body(bytes, exchange.received, exchange.kind).context("in a request")?;
            exchange.received += bytes.len();
            if !end {
                return Ok(());
            }
            at
        }
        Event::Trailers { stream } => find(streams, stream)?,
        Event::Sent { stream, .. } => {
            let Ok(at) = find(streams, stream) else {
                return Ok(());
            };
            if streams[at].sent.is_none() {
                return Ok(());
            }
            at
        }
        Event::Reset { stream, .. } => {
            streams.retain(|exchange| exchange.stream != stream);
            return Ok(());
        }
        Event::Informational { .. }
        | Event::Pong { .. }
        | Event::GoAway { .. }
        | Event::Closed(_) => return Ok(()),
    };
    if streams[at].answer(core, now)? {
        streams.swap_remove(at);
    }
    Ok(())
}

impl Exchange {
    fn begin(stream: StreamId, head: &Head) -> Result<Self> {
        let kind = asked(head).with_context(|| {
            let path = String::from_utf8_lossy(head.path()).into_owned();
            format!("a request for {path:?}")
        })?;
        Ok(Self {
            stream,
            kind,
            id: head.get(ID).context("a request without an id")?.to_vec(),
            received: 0,
            sent: None,
        })
    }

    /// Sends as much of the answer as there is room for; true once it is whole.
    fn answer(&mut self, core: &mut Connection, now: Instant) -> Result<bool> {
        if self.sent.is_none() {
            ensure!(
                self.received == self.kind.sent(),
                "a request of {} bytes instead of {}",
                self.received,
                self.kind.sent()
            );
            self.begin_answer(core, now)?;
        }
        let total = self.kind.received();
        let mut sent = self.sent.unwrap_or_default();
        while sent < total {
            let room = core.capacity(self.stream).min(PIECE);
            let piece = payload(sent, room.min(total - sent));
            if piece.is_empty() {
                break;
            }
            let end = sent + piece.len() == total && !self.kind.has_trailers();
            let taken = core.send_data(now, self.stream, piece, end)?.bytes;
            sent += taken;
            if taken == 0 {
                break;
            }
        }
        self.sent = Some(sent);
        if sent == total && self.kind.has_trailers() {
            core.send_trailers(now, self.stream, &GRPC.1)?;
        }
        Ok(sent == total)
    }

    fn begin_answer(&mut self, core: &mut Connection, now: Instant) -> Result<()> {
        let total = self.kind.received();
        let mut head = match self.kind {
            Kind::Get(size) | Kind::Post(size) => page(size)?,
            Kind::Grpc(_) => GRPC.0.clone(),
        };
        head.push(ID, &self.id)?;
        core.send_head(now, self.stream, &head, total == 0)?;
        self.sent = Some(0);
        if let Kind::Grpc(size) = self.kind {
            let mut message = grpc_prefix(size).to_vec();
            let start = message.len();
            message.extend_from_slice(payload(start, size));
            self.sent = Some(core.send_data(now, self.stream, &message, false)?.bytes);
        }
        Ok(())
    }
}

/// What a request asks for.
fn asked(head: &Head) -> Option<Kind> {
    if head.path() == GRPC_PATH.as_bytes() {
        return Some(Kind::Grpc(GRPC_MESSAGE));
    }
    let path = head.path().strip_prefix(b"/bytes/")?;
    let size = path.split(|byte| *byte == b'?').next()?;
    let size = std::str::from_utf8(size).ok()?.parse().ok()?;
    match head.method() {
        b"GET" => Some(Kind::Get(size)),
        b"POST" => Some(Kind::Post(size)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asks_for_is_understood() {
        for kind in [
            Kind::Get(0),
            Kind::Get(1024),
            Kind::Post(10 << 20),
            Kind::Grpc(GRPC_MESSAGE),
        ] {
            let head = kind.head("web:80").unwrap();
            assert_eq!(asked(&head), Some(kind));
        }
    }

    #[test]
    fn anything_else_is_not() {
        for path in ["/", "/bytes/", "/bytes/x", "/other/1"] {
            let head = Head::request("GET", "web:80", path).unwrap();
            assert_eq!(asked(&head), None, "{path}");
        }
    }
}
