//! A client's connection with its requests under way, each answer of which is
//! checked.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use mesh_http::{
    connection::Connection,
    event::{Event, StreamId},
    head::Head,
};
use nix::sys::epoll::Epoll;

use super::{
    carrier::{Carrier, Scratch, Then, Version},
    payload::{is_payload, payload},
    requests::{GRPC_PREFIX, ID, Kind, digits, grpc_prefix},
};

/// What all connections of a client ask for.
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    head: Head,
    next_id: u64,
    request: Vec<u8>,
}

impl Asked {
    pub(crate) fn new(kind: Kind, authority: &str) -> Result<Self> {
        let mut request = match kind {
            Kind::Grpc(size) => grpc_prefix(size).to_vec(),
            Kind::Get(_) | Kind::Post(_) => Vec::new(),
        };
        while request.len() < kind.sent() {
            let at = request.len();
            request.extend_from_slice(payload(at, kind.sent() - at));
        }
        Ok(Self {
            kind,
            head: kind.head(authority)?,
            next_id: 1,
            request,
        })
    }
}

/// A request under way.
struct Flight {
    stream: StreamId,
    id: u64,
    /// When it was due to be sent.
    due: Instant,
    sent: usize,
    received: usize,
    is_answered: bool,
}

/// One connection of a client.
pub(crate) struct Session {
    carrier: Carrier,
    flights: Vec<Flight>,
    token: u64,
    received: u64,
}

impl Session {
    pub(crate) fn open(
        address: SocketAddr,
        version: Version,
        epoll: &Epoll,
        token: u64,
    ) -> Result<Self> {
        let carrier = Carrier::connect(address, version, Instant::now())?;
        carrier.watch(epoll, token)?;
        Ok(Self {
            carrier,
            flights: Vec::new(),
            token,
            received: 0,
        })
    }

    /// How many bytes of bodies have come.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// How many requests are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// Whether one more can be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.carrier.core.can_open()
    }

    /// Sends one more request, with the next flush.
    pub(crate) fn ask(&mut self, asked: &mut Asked, due: Instant, now: Instant) -> Result<()> {
        let id = asked.next_id;
        asked.next_id += 1;
        let mut head = asked.head.clone();
        head.push(ID, &digits(id))?;
        let core = &mut self.carrier.core;
        let stream = core.open(now, &head, asked.request.is_empty());
        let mut flight = Flight {
            stream: stream.context("a request cannot be sent")?,
            id,
            due,
            sent: 0,
            received: 0,
            is_answered: false,
        };
        flight.send(core, &asked.request, now)?;
        self.flights.push(flight);
        Ok(())
    }

    /// Writes what there is to write.
    pub(crate) fn flush(&mut self, epoll: &Epoll, now: Instant) -> Result<()> {
        self.carrier.flush(epoll, self.token, now)
    }

    /// Reads answers, and tells `done` when each that is whole was due.
    ///
    /// # Errors
    /// If an answer is wrong, or the connection ends with one outstanding.
    pub(crate) fn read(
        &mut self,
        scratch: &mut Scratch,
        asked: &Asked,
        now: Instant,
        mut done: impl FnMut(Instant) -> Result<()>,
    ) -> Result<Then> {
        let Self {
            carrier,
            flights,
            received,
            ..
        } = self;
        let then = carrier.read(scratch, now, |core, event, head| {
            if let Event::Data { bytes, .. } = event {
                *received += bytes.len() as u64;
            }
            let Some(at) = receive(core, flights, asked, event, head, now)? else {
                return Ok(());
            };
            done(flights.swap_remove(at).due)
        })?;
        ensure!(
            then == Then::GoesOn || flights.is_empty(),
            "a connection was closed with {} requests under way",
            flights.len()
        );
        Ok(then)
    }
}

impl Flight {
    /// Sends as much of the body as there is room for.
    fn send(&mut self, core: &mut Connection, body: &[u8], now: Instant) -> Result<()> {
        while self.sent < body.len() {
            let room = core.capacity(self.stream);
            if room == 0 {
                break;
            }
            let end = body.len().min(self.sent + room);
            let piece = &body[self.sent..end];
            let taken = core.send_data(now, self.stream, piece, end == body.len())?;
            self.sent += taken.bytes;
            if taken.bytes == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Takes one event; the position of the request whose answer is whole by it.
fn receive(
    core: &mut Connection,
    flights: &mut [Flight],
    asked: &Asked,
    event: Event<'_>,
    head: &Head,
    now: Instant,
) -> Result<Option<usize>> {
    let kind = asked.kind;
    let find = |stream: StreamId| flights.iter().position(|flight| flight.stream == stream);
    let known = |stream| find(stream).ok_or_else(|| anyhow!("an answer that nobody asked for"));
    let (at, is_end) = match event {
        Event::Head { stream, end } => {
            let at = known(stream)?;
            check_head(head, &flights[at], kind)?;
            flights[at].is_answered = true;
            (at, end)
        }
        Event::Data { stream, bytes, end } => {
            core.consume(now, stream, bytes.len());
            let at = known(stream)?;
            check_body(bytes, flights[at].received, kind)?;
            flights[at].received += bytes.len();
            (at, end)
        }
        Event::Trailers { stream } => {
            let at = known(stream)?;
            ensure!(
                !kind.has_trailers() || head.get(b"grpc-status") == Some(b"0"),
                "a call failed: {:?}",
                head.get(b"grpc-status").map(String::from_utf8_lossy)
            );
            return whole(flights, at, kind).map(Some);
        }
        Event::Sent { stream, .. } => {
            if let Some(at) = find(stream) {
                flights[at].send(core, &asked.request, now)?;
            }
            return Ok(None);
        }
        Event::Reset { reason, .. } => bail!("a request was reset: {reason:?}"),
        Event::Closed(fault) if !flights.is_empty() => bail!("the connection broke: {fault:?}"),
        Event::GoAway { .. }
        | Event::Informational { .. }
        | Event::Pong { .. }
        | Event::Closed(_) => return Ok(None),
    };
    if !is_end {
        return Ok(None);
    }
    ensure!(!kind.has_trailers(), "an answer ended without a status");
    whole(flights, at, kind).map(Some)
}

/// The answer of a request is over; it must be whole.
fn whole(flights: &[Flight], at: usize, kind: Kind) -> Result<usize> {
    let flight = &flights[at];
    ensure!(flight.is_answered, "an answer without a head");
    ensure!(
        flight.received == kind.received(),
        "an answer of {} bytes instead of {}",
        flight.received,
        kind.received()
    );
    Ok(at)
}

fn check_head(head: &Head, flight: &Flight, kind: Kind) -> Result<()> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        head.status() == Some(200),
        "answered {:?}: {:?}",
        head.status(),
        head.get(b"mesh-error").map(text)
    );
    ensure!(
        head.get(ID) == Some(&digits(flight.id)[..]),
        "the answer to another request: {:?}",
        head.get(ID).map(text)
    );
    let length = head.content_length();
    ensure!(
        length.is_none_or(|length| length == kind.received() as u64),
        "an answer that says it has {length:?} bytes"
    );
    Ok(())
}

/// Checks bytes of an answer that begin at `offset`.
pub(crate) fn check_body(bytes: &[u8], offset: usize, kind: Kind) -> Result<()> {
    let mut rest = bytes;
    if let Kind::Grpc(size) = kind
        && offset < GRPC_PREFIX
    {
        let prefix = grpc_prefix(size);
        let expected = &prefix[offset..GRPC_PREFIX.min(offset + bytes.len())];
        let (found, behind) = bytes.split_at(expected.len());
        ensure!(found == expected, "a gRPC message that is framed wrongly");
        rest = behind;
    }
    let offset = offset + (bytes.len() - rest.len());
    ensure!(is_payload(offset, rest), "a wrong byte in a body");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_right_however_it_is_cut() {
        let asked = Asked::new(Kind::Grpc(100), "web:80").unwrap();
        let body = asked.request;
        assert_eq!(body.len(), 105);
        for cut in 0..body.len() {
            let (first, second) = body.split_at(cut);
            check_body(first, 0, Kind::Grpc(100)).unwrap();
            check_body(second, cut, Kind::Grpc(100)).unwrap();
        }
    }

    #[test]
    fn a_wrong_byte_is_found_wherever_it_is() {
        let body = Asked::new(Kind::Grpc(100), "web:80").unwrap().request;
        for wrong in 0..body.len() {
            let mut body = body.clone();
            body[wrong] ^= 4;
            assert!(check_body(&body, 0, Kind::Grpc(100)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_names_its_request() {
        let stream_of = |id| {
            let mut core = Connection::http1(
                mesh_http::event::Role::Client,
                std::sync::Arc::default(),
                Instant::now(),
            );
            let head = Kind::Get(10).head("web:80").unwrap();
            let now = Instant::now();
            Flight {
                stream: core.open(now, &head, true).unwrap(),
                id,
                due: now,
                sent: 0,
                received: 0,
                is_answered: false,
            }
        };
        let mut head = super::super::requests::page(10).unwrap();
        head.push(ID, &digits(7)).unwrap();
        assert!(check_head(&head, &stream_of(7), Kind::Get(10)).is_ok());
        assert!(check_head(&head, &stream_of(8), Kind::Get(10)).is_err());
        assert!(check_head(&head, &stream_of(7), Kind::Get(11)).is_err());
    }
}
