//! Header blocks as messages: what may be in one, and in which order
//! (RFC 9113 §8.2, §8.3).

use super::hpack::Entry;
use crate::{
    fault::{Fault, ResetReason},
    head::{Head, Span, name::NameId, syntax},
    limits::Limits,
};

/// What a block has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Trailers,
}

/// Fills a head while its block is decoded. What breaks a rule is noted and the
/// rest thrown away, since the decoder has to go on.
pub(crate) struct Builder<'a> {
    head: &'a mut Head,
    kind: Kind,
    lines: usize,
    weight: usize,
    max_lines: usize,
    max_weight: usize,
    max_target: usize,
    /// Pseudo-headers are over.
    regular: bool,
    cookies: bool,
    host: Option<Span>,
    verdict: Result<(), ResetReason>,
}

/// A block that says so many times what it may ends the connection; up to
/// there the rest is read, and only its message refused.
const HOPELESS: usize = 4;

impl<'a> Builder<'a> {
    /// For a block of so many bytes.
    pub(crate) fn new(head: &'a mut Head, kind: Kind, bytes: usize, limits: &Limits) -> Self {
        head.clear();
        head.make_room(bytes);
        Self {
            head,
            kind,
            lines: 0,
            weight: 0,
            max_lines: limits.head_lines,
            max_weight: limits.head_bytes,
            max_target: limits.target_bytes,
            regular: false,
            cookies: false,
            host: None,
            verdict: Ok(()),
        }
    }

    /// What the decoder writes into.
    pub(crate) fn arena(&mut self) -> &mut Vec<u8> {
        self.head.arena_mut()
    }

    pub(crate) fn mark(&self) -> Result<u32, Fault> {
        self.head.mark().map_err(|_| Fault::FieldsTooLarge)
    }

    pub(crate) fn since(&self, start: u32) -> Result<Span, Fault> {
        self.head.since(start).map_err(|_| Fault::FieldsTooLarge)
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Result<Span, Fault> {
        self.head.append(bytes).map_err(|_| Fault::FieldsTooLarge)
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        self.head.bytes(span)
    }

    /// A field from a table.
    pub(crate) fn indexed(&mut self, entry: Entry<'_>) {
        self.weigh(entry.id, entry.name.len() + entry.value.len());
        if self.verdict.is_err() {
            return;
        }
        let name = self.head.append(entry.name);
        let value = self.head.append(entry.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return self.refuse(ResetReason::FieldsTooLarge);
        };
        self.accept(name, value, entry.id, false);
    }

    /// A field that was written into the arena, from `start` on.
    pub(crate) fn literal(
        &mut self,
        start: u32,
        name: Span,
        value: Span,
        id: NameId,
        never_indexed: bool,
    ) {
        let bytes = self.bytes(name).len() + self.bytes(value).len();
        self.weigh(id, bytes);
        if self.verdict.is_ok() {
            self.accept(name, value, id, never_indexed);
        }
        if self.verdict.is_err() {
            self.arena().truncate(start as usize);
        }
    }

    /// What the block says so far, as RFC 9113 §6.5.2 counts.
    pub(crate) const fn weight(&self) -> usize {
        self.weight
    }

    /// Whether it says so much more than it may that nothing is worth going on
    /// for.
    pub(crate) const fn is_hopeless(&self) -> bool {
        self.weight > self.max_weight.saturating_mul(HOPELESS)
    }

    /// Whether the message is one.
    pub(crate) fn finish(mut self) -> Result<(), ResetReason> {
        self.verdict?;
        let good = match self.kind {
            Kind::Request => self.is_request(),
            Kind::Response => self.head.status().is_some_and(|status| status != 101),
            Kind::Trailers => true,
        };
        if good {
            Ok(())
        } else {
            Err(ResetReason::Malformed)
        }
    }

    fn refuse(&mut self, reason: ResetReason) {
        if self.verdict.is_ok() {
            self.verdict = Err(reason);
        }
    }

    fn weigh(&mut self, id: NameId, bytes: usize) {
        // Crumbs are one line (RFC 9113 §8.2.3), but weigh what they weigh.
        let crumb = id == NameId::COOKIE && std::mem::replace(&mut self.cookies, true);
        if !crumb && !id.is_pseudo() {
            self.lines += 1;
        }
        self.weight = self.weight.saturating_add(bytes).saturating_add(32);
        if self.lines > self.max_lines {
            self.refuse(ResetReason::TooManyFields);
        } else if self.weight > self.max_weight {
            self.refuse(ResetReason::FieldsTooLarge);
        }
    }

    fn accept(&mut self, name: Span, value: Span, id: NameId, never_indexed: bool) {
        let good = if id.is_pseudo() {
            self.pseudo(id, value)
        } else {
            self.field(name, value, id, never_indexed)
        };
        if !good {
            self.refuse(ResetReason::Malformed);
        }
    }

    fn field(&mut self, name: Span, value: Span, id: NameId, never_indexed: bool) -> bool {
        self.regular = true;
        let known = id != NameId::OTHER || syntax::is_lower_token(self.bytes(name));
        if !known || !syntax::is_value(self.bytes(value)) {
            return false;
        }
        if self.kind == Kind::Trailers && id.is_forbidden_in_trailers() {
            return false;
        }
        if self.kind == Kind::Request && id == NameId::HOST {
            return self.host.replace(value).is_none();
        }
        self.head.admit(name, value, id, never_indexed).is_ok()
    }

    fn pseudo(&mut self, id: NameId, span: Span) -> bool {
        if self.regular {
            return false;
        }
        match self.kind {
            Kind::Request => self.request_pseudo(id, span),
            Kind::Response => id == NameId::STATUS && self.status(span),
            Kind::Trailers => false,
        }
    }

    fn request_pseudo(&mut self, id: NameId, span: Span) -> bool {
        let (head, value) = (&*self.head, self.head.bytes(span));
        let is_too_long = value.len() > self.max_target;
        match id {
            NameId::PATH | NameId::AUTHORITY if is_too_long => {
                self.refuse(ResetReason::TargetTooLong);
            }
            NameId::METHOD if head.method().is_empty() && syntax::is_token(value) => {
                self.head.set_method_span(span);
            }
            NameId::SCHEME if head.scheme().is_none() && syntax::is_scheme(value) => {
                self.head.set_scheme_span(span);
            }
            NameId::AUTHORITY if head.authority().is_none() && syntax::is_authority(value) => {
                self.head.set_authority_span(span);
            }
            NameId::PATH if head.path().is_empty() && (value == b"*" || syntax::is_path(value)) => {
                self.head.set_path_span(span);
            }
            NameId::PROTOCOL if head.protocol().is_none() && syntax::is_token(value) => {
                self.head.set_protocol_span(span);
            }
            _ => return false,
        }
        true
    }

    fn status(&mut self, span: Span) -> bool {
        let [
            hundreds @ b'1'..=b'5',
            tens @ b'0'..=b'9',
            ones @ b'0'..=b'9',
        ] = self.bytes(span)
        else {
            return false;
        };
        let digit = |byte: &u8| u16::from(byte - b'0');
        let status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
        self.head.status().is_none() && self.head.set_status(status).is_ok()
    }

    /// RFC 9113 §8.3.1, §8.5; RFC 8441 §4.
    fn is_request(&mut self) -> bool {
        if !self.host_agrees() {
            return false;
        }
        let head = &*self.head;
        let (scheme, path) = (head.scheme().is_some(), !head.path().is_empty());
        let authority = head.authority().is_some();
        if head.path() == b"*" && head.method() != b"OPTIONS" {
            return false;
        }
        match (head.is_connect(), head.protocol().is_some()) {
            (true, false) => authority && !scheme && !path,
            (true, true) => authority && scheme && path,
            (false, false) => !head.method().is_empty() && scheme && path,
            (false, true) => false,
        }
    }

    /// `host` may repeat the authority, or stand for it; one that says something
    /// else is a second way to route the request.
    fn host_agrees(&mut self) -> bool {
        let Some(host) = self.host else {
            return true;
        };
        let value = self.bytes(host);
        match self.head.authority() {
            Some(authority) => authority.eq_ignore_ascii_case(value),
            None if self.head.is_connect() => false,
            None if value.is_empty() => true,
            None if syntax::is_authority(value) => {
                self.head.set_authority_span(host);
                true
            }
            None => false,
        }
    }
}
