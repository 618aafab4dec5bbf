//! What comes in.

use std::time::Instant;

use super::{
    Connection, Exchange, Receiving, Sending,
    chunked::{Chunked, Step},
    parse,
    scan::Scan,
};
use crate::{
    event::{Event, Role},
    fault::Fault,
    head::Head,
};

impl Connection {
    pub(super) fn receive<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Fault> {
        let is_body = matches!(self.receiving, Receiving::Length(_) | Receiving::Chunked(_));
        if is_body && !input.is_empty() {
            self.exchange.expects = false;
        }
        let event = match self.receiving {
            Receiving::Head { begun } => self.head(begun, now, input, head)?,
            Receiving::Length(left) => self.length(left, input)?,
            Receiving::Chunked(chunked) => self.chunked(chunked, input, head)?,
            Receiving::UntilClose | Receiving::Tunnel => self.raw(input),
            Receiving::Done => None,
            Receiving::Closed => {
                *input = &[];
                None
            }
        };
        if event.is_some() {
            self.settle(now);
        }
        Ok(event)
    }

    fn head<'a>(
        &mut self,
        begun: bool,
        now: Instant,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Fault> {
        if input.is_empty() {
            return if self.peer_closed {
                Err(Fault::PeerClosed)
            } else {
                Ok(None)
            };
        }
        if self.role == Role::Client && self.sending == Sending::Idle {
            return Err(Fault::Excess);
        }
        if !self.awaits_input() {
            return Ok(None);
        }
        let Some(len) = self.scan.find(input, &self.limits)? else {
            if !begun {
                self.receiving = Receiving::Head { begun: true };
                self.progress = now;
            }
            return if self.peer_closed {
                Err(Fault::Truncated)
            } else {
                Ok(None)
            };
        };
        self.scan = Scan::default();
        let (this, rest) = input.split_at(len);
        let event = match self.role {
            Role::Server => self.request(this, head)?,
            Role::Client => self.response(this, rest, head)?,
        };
        *input = rest;
        Ok(Some(event))
    }

    fn request<'a>(&mut self, input: &[u8], head: &mut Head) -> Result<Event<'a>, Fault> {
        let meta = parse::request(input, &self.limits, head)?;
        let connect = head.is_connect();
        if connect && (meta.chunked || head.content_length().is_some()) {
            return Err(Fault::ForbiddenBody);
        }
        self.receiving = match head.content_length() {
            _ if meta.chunked => Receiving::Chunked(Chunked::new()),
            Some(length) if length > 0 => Receiving::Length(length),
            _ => Receiving::Done,
        };
        let done = matches!(self.receiving, Receiving::Done);
        self.sending = Sending::Head;
        self.exchange = Exchange {
            head_only: head.method() == b"HEAD",
            connect,
            upgrade: head.upgrade().is_some(),
            early: false,
            http11: meta.http11,
            keep_alive: meta.keep_alive,
            expects: head.expects_continue() && meta.http11 && !done,
            informational: 0,
        };
        let (stream, end) = (self.stream, done && !connect);
        Ok(Event::Head { stream, end })
    }

    fn response<'a>(
        &mut self,
        input: &[u8],
        rest: &[u8],
        head: &mut Head,
    ) -> Result<Event<'a>, Fault> {
        let meta = parse::response(input, head)?;
        let status = head.status().unwrap_or_default();
        let stream = self.stream;
        let declares_body = meta.chunked || head.content_length().is_some_and(|n| n > 0);
        if matches!(status, 100..=199 | 204) && declares_body {
            return Err(Fault::ForbiddenBody);
        }
        if head.is_informational() {
            self.informational()?;
            return Ok(Event::Informational { stream });
        }
        self.exchange.keep_alive = meta.keep_alive && self.exchange.keep_alive;
        if status == 101 || (self.exchange.connect && (200..300).contains(&status)) {
            self.switch(status, head)?;
            return Ok(Event::Head { stream, end: false });
        }
        if self.sending == Sending::Asked {
            self.sending = Sending::Done;
        }
        let bodiless = self.exchange.head_only || matches!(status, 204 | 304);
        self.receiving = match head.content_length() {
            _ if bodiless => Receiving::Done,
            _ if meta.chunked => Receiving::Chunked(Chunked::new()),
            Some(0) => Receiving::Done,
            Some(length) => Receiving::Length(length),
            None => Receiving::UntilClose,
        };
        if matches!(self.receiving, Receiving::UntilClose) {
            self.exchange.keep_alive = false;
        }
        let end = matches!(self.receiving, Receiving::Done);
        if self.is_excess(rest) {
            return Err(Fault::Excess);
        }
        Ok(Event::Head { stream, end })
    }

    /// More came with an answer than belongs to it: whose that is nobody knows,
    /// so that the answer is not believed either.
    fn is_excess(&self, rest: &[u8]) -> bool {
        match self.receiving {
            _ if self.role == Role::Server => false,
            Receiving::Done => !rest.is_empty(),
            Receiving::Length(left) => rest.len() as u64 > left,
            _ => false,
        }
    }

    fn informational(&mut self) -> Result<(), Fault> {
        self.exchange.informational = self.exchange.informational.saturating_add(1);
        if self.exchange.informational > self.limits.informational {
            return Err(Fault::Informational);
        }
        Ok(())
    }

    /// The server agrees to something that is not HTTP.
    fn switch(&mut self, status: u16, head: &mut Head) -> Result<(), Fault> {
        let asked = match status {
            101 => self.exchange.upgrade && self.sending == Sending::Done,
            _ => self.sending == Sending::Asked,
        };
        if !asked {
            return Err(Fault::Upgrade);
        }
        head.remove(b"content-length");
        self.become_tunnel();
        Ok(())
    }

    pub(super) fn become_tunnel(&mut self) {
        self.exchange.keep_alive = false;
        self.receiving = Receiving::Tunnel;
        self.sending = Sending::Tunnel;
        self.blocked = false;
    }

    fn length<'a>(&mut self, left: u64, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Fault> {
        let Some(bytes) = self.take(left, input)? else {
            return Ok(None);
        };
        let left = left - bytes.len() as u64;
        self.receiving = Receiving::Length(left);
        if left == 0 {
            self.receiving = Receiving::Done;
        }
        self.data(bytes, left == 0, input)
    }

    fn chunked<'a>(
        &mut self,
        mut chunked: Chunked,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Fault> {
        let step = chunked.step(input, &self.limits)?;
        self.receiving = Receiving::Chunked(chunked);
        match step {
            Step::NeedMore if self.peer_closed => Err(Fault::Truncated),
            Step::NeedMore => Ok(None),
            Step::End => self.data(&[], true, input),
            Step::Data(left) => {
                let Some(bytes) = self.take(left, input)? else {
                    return Ok(None);
                };
                let end = chunked.took(bytes.len() as u64, input);
                self.receiving = Receiving::Chunked(chunked);
                self.data(bytes, end, input)
            }
            Step::Trailers(len) => {
                let (this, rest) = input.split_at(len);
                parse::trailers(this, head)?;
                *input = rest;
                self.receiving = Receiving::Done;
                if self.is_excess(rest) {
                    return Err(Fault::Excess);
                }
                let stream = self.stream;
                Ok(Some(Event::Trailers { stream }))
            }
        }
    }

    fn data<'a>(
        &mut self,
        bytes: &'a [u8],
        end: bool,
        rest: &[u8],
    ) -> Result<Option<Event<'a>>, Fault> {
        if end {
            self.receiving = Receiving::Done;
            if self.is_excess(rest) {
                return Err(Fault::Excess);
            }
        }
        let stream = self.stream;
        Ok(Some(Event::Data { stream, bytes, end }))
    }

    fn raw<'a>(&mut self, input: &mut &'a [u8]) -> Option<Event<'a>> {
        let stream = self.stream;
        if input.is_empty() && self.peer_closed {
            self.receiving = Receiving::Done;
            let bytes = &[];
            return Some(Event::Data {
                stream,
                bytes,
                end: true,
            });
        }
        let bytes = self.take_any(u64::MAX, input);
        let end = false;
        (!bytes.is_empty()).then_some(Event::Data { stream, bytes, end })
    }

    /// Takes data off `input`; none if there is nothing to take.
    fn take<'a>(&mut self, most: u64, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        if input.is_empty() && self.peer_closed {
            return Err(Fault::Truncated);
        }
        let bytes = self.take_any(most, input);
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    fn take_any<'a>(&mut self, most: u64, input: &mut &'a [u8]) -> &'a [u8] {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let n = input.len().min(most).min(self.window_left());
        let (bytes, rest) = input.split_at(n);
        *input = rest;
        self.unconsumed += n;
        bytes
    }
}
