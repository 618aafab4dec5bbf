//! The head of one message: request line or status, and fields in their order.
//!
//! Everything lies in one arena that is cleared and filled again, so that a
//! head costs no allocation once its arena has grown. Names are in lower case;
//! fields that came twice stay two.
//!
//! A head holds no field that concerns one connection only: the cores take
//! those out, act on them, and write their own. What is left can be passed on
//! as it is.

pub(crate) mod name;
pub(crate) mod syntax;

use self::{name::NameId, syntax::number};

/// A request, an answer, or trailers (fields alone).
#[derive(Clone, Debug, Default)]
pub struct Head {
    arena: Vec<u8>,
    fields: Vec<Field>,
    method: Option<Span>,
    scheme: Option<Span>,
    authority: Option<Span>,
    path: Option<Span>,
    protocol: Option<Span>,
    upgrade: Option<Span>,
    status: Option<u16>,
    content_length: Option<u64>,
    expects_continue: bool,
}

/// Why something cannot be part of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Invalid {
    /// Not a token, or not in lower case (RFC 9110 §5.1, RFC 9113 §8.2.1).
    #[error("not a field name")]
    Name,
    /// A control character, or white space at an end (RFC 9110 §5.5).
    #[error("not a field value")]
    Value,
    /// It is for the connection's core to say (RFC 9110 §7.6.1).
    #[error("the field belongs to the connection")]
    ConnectionSpecific,
    /// Not a number, or there are two (RFC 9110 §8.6).
    #[error("not a length")]
    ContentLength,
    /// A host that is not what the request's authority says, or not one
    /// (RFC 9110 §7.2).
    #[error("not an authority")]
    Authority,
    /// Not a token (RFC 9110 §9.1).
    #[error("not a method")]
    Method,
    /// Neither an absolute path nor `*` (RFC 9112 §3.2).
    #[error("not a path")]
    Path,
    /// RFC 3986 §3.1.
    #[error("not a scheme")]
    Scheme,
    /// Not between 100 and 599 (RFC 9110 §15).
    #[error("not a status")]
    Status,
    /// More than 4 GiB.
    #[error("too large")]
    Size,
}

/// Where in the arena something lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    start: u32,
    name_len: u32,
    value_len: u32,
    id: NameId,
    /// Not to be kept in any table (RFC 7541 §6.2.3).
    never_indexed: bool,
}

/// One field, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldRef<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) id: NameId,
    pub(crate) never_indexed: bool,
}

/// A cleared head keeps an arena up to this size.
const KEPT: usize = 16 * 1024;

impl Head {
    /// An empty head, which has allocated nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of scheme `http`; `authority` may be empty, which is none.
    ///
    /// # Errors
    /// Whichever part is not what it has to be.
    pub fn request(method: &str, authority: &str, path: &str) -> Result<Self, Invalid> {
        let mut head = Self::new();
        head.set_method(method.as_bytes())?;
        if method != "CONNECT" {
            head.set_scheme(b"http")?;
            head.set_path(path.as_bytes())?;
        }
        if !authority.is_empty() {
            head.set_authority(authority.as_bytes())?;
        }
        Ok(head)
    }

    /// An answer.
    ///
    /// # Errors
    /// `status` is not one.
    pub fn response(status: u16) -> Result<Self, Invalid> {
        let mut head = Self::new();
        head.set_status(status)?;
        Ok(head)
    }

    /// Empties the head for the next message.
    pub fn clear(&mut self) {
        let (mut arena, mut fields) = (
            std::mem::take(&mut self.arena),
            std::mem::take(&mut self.fields),
        );
        arena.clear();
        arena.shrink_to(KEPT);
        fields.clear();
        *self = Self {
            arena,
            fields,
            ..Self::default()
        };
    }

    /// The method; empty if this is no request.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.method.map_or(&[], |span| self.bytes(span))
    }

    /// The status; none if this is no answer.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// The scheme of the request's target: `http` unless it said otherwise.
    #[must_use]
    pub fn scheme(&self) -> Option<&[u8]> {
        self.scheme.map(|span| self.bytes(span))
    }

    /// Whom the request is for: HTTP/2's `:authority`, the host of a target in
    /// absolute form, or `Host`, in that order. None if the request has none,
    /// as HTTP/1.0 allows.
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|span| self.bytes(span))
    }

    /// Path and query, or `*`; empty for a plain CONNECT.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.path.map_or(&[], |span| self.bytes(span))
    }

    /// What an extended CONNECT asks for (RFC 8441 §4).
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        self.protocol.map(|span| self.bytes(span))
    }

    /// What an HTTP/1 connection is to be turned into: the value of `Upgrade`
    /// if `Connection` names it (RFC 9110 §7.8). Never `h2c` alone.
    #[must_use]
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.map(|span| self.bytes(span))
    }

    /// The body's length as declared.
    #[must_use]
    pub const fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Whether the sender waits for a 100 before it sends the body
    /// (RFC 9110 §10.1.1).
    #[must_use]
    pub const fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether this asks for a byte stream to somewhere, plain or extended.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method() == b"CONNECT"
    }

    /// Whether this is a 1xx other than 101, which ends the exchange's HTTP.
    #[must_use]
    pub fn is_informational(&self) -> bool {
        matches!(self.status, Some(100 | 102..=199))
    }

    /// All fields in their order: name in lower case, and value.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.field_refs().map(|field| (field.name, field.value))
    }

    /// The first value of `name`, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// All values of `name`, which is in lower case.
    pub fn get_all<'h, 'n>(
        &'h self,
        name: &'n [u8],
    ) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        let same = move |(found, _): &(&[u8], &[u8])| *found == name;
        self.fields().filter(same).map(|(_, value)| value)
    }

    /// How many fields there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Adds a field behind the others. `name` is in lower case.
    ///
    /// # Errors
    /// It is not valid, or not for the caller to set: what concerns the
    /// connection is the core's, and a request's host is its authority.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        if !syntax::is_lower_token(name) {
            return Err(Invalid::Name);
        }
        if !syntax::is_value(value) {
            return Err(Invalid::Value);
        }
        let name_at = self.append(name)?;
        let value_at = self.append(value)?;
        self.admit(name_at, value_at, NameId::of(name), false)
    }

    /// Removes all fields called `name`, in lower case; says whether there was
    /// one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.fields.len();
        self.retain(|found, _| found != name);
        self.fields.len() != before
    }

    /// Removes the fields for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let arena = &self.arena;
        let mut interpreted = false;
        self.fields.retain(|field| {
            let kept = keep(field.name(arena), field.value(arena));
            interpreted |= !kept && field.id.is_interpreted();
            kept
        });
        if interpreted {
            self.interpret_again();
        }
    }

    /// # Errors
    /// Not a token.
    pub fn set_method(&mut self, method: &[u8]) -> Result<(), Invalid> {
        if !syntax::is_token(method) {
            return Err(Invalid::Method);
        }
        self.method = Some(self.append(method)?);
        Ok(())
    }

    /// # Errors
    /// Neither an absolute path nor `*`.
    pub fn set_path(&mut self, path: &[u8]) -> Result<(), Invalid> {
        if path != b"*" && !syntax::is_path(path) {
            return Err(Invalid::Path);
        }
        self.path = Some(self.append(path)?);
        Ok(())
    }

    /// # Errors
    /// Not `host` or `host:port`.
    pub fn set_authority(&mut self, authority: &[u8]) -> Result<(), Invalid> {
        if !syntax::is_authority(authority) {
            return Err(Invalid::Authority);
        }
        self.authority = Some(self.append(authority)?);
        Ok(())
    }

    /// # Errors
    /// Not a scheme.
    pub fn set_scheme(&mut self, scheme: &[u8]) -> Result<(), Invalid> {
        if !syntax::is_scheme(scheme) {
            return Err(Invalid::Scheme);
        }
        self.scheme = Some(self.append(scheme)?);
        Ok(())
    }

    /// Makes a CONNECT an extended one (RFC 8441 §4), or, with none, a plain one.
    ///
    /// # Errors
    /// Not a token.
    pub fn set_protocol(&mut self, protocol: Option<&[u8]>) -> Result<(), Invalid> {
        self.protocol = match protocol {
            Some(protocol) if syntax::is_token(protocol) => Some(self.append(protocol)?),
            Some(_) => return Err(Invalid::Value),
            None => None,
        };
        Ok(())
    }

    /// Asks for, or agrees to, another protocol on an HTTP/1 connection.
    ///
    /// # Errors
    /// Not a field's value.
    pub fn set_upgrade(&mut self, upgrade: Option<&[u8]>) -> Result<(), Invalid> {
        self.upgrade = match upgrade {
            Some(value) if !value.is_empty() && syntax::is_value(value) => {
                Some(self.append(value)?)
            }
            Some(_) => return Err(Invalid::Value),
            None => None,
        };
        Ok(())
    }

    /// # Errors
    /// Not between 100 and 599.
    pub fn set_status(&mut self, status: u16) -> Result<(), Invalid> {
        if !(100..=599).contains(&status) {
            return Err(Invalid::Status);
        }
        self.status = Some(status);
        Ok(())
    }

    /// What the head weighs as HPACK and SETTINGS count it: name, value and 32
    /// bytes for each field (RFC 9113 §6.5.2).
    #[must_use]
    pub fn weight(&self) -> usize {
        let fields = self.fields.iter().map(|field| {
            let bytes = field.name_len.saturating_add(field.value_len);
            bytes as usize + 32
        });
        fields.sum()
    }
}

/// What the cores need of a head.
impl Head {
    pub(crate) fn field_refs(&self) -> impl Iterator<Item = FieldRef<'_>> {
        self.fields.iter().map(|field| FieldRef {
            name: field.name(&self.arena),
            value: field.value(&self.arena),
            id: field.id,
            never_indexed: field.never_indexed,
        })
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let (start, len) = (span.start as usize, span.len as usize);
        self.arena.get(start..start + len).unwrap_or_default()
    }

    /// Adds bytes to the arena.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<Span, Invalid> {
        let start = self.mark()?;
        self.arena.extend_from_slice(bytes);
        self.since(start)
    }

    /// Adds bytes in lower case.
    pub(crate) fn append_lower(&mut self, bytes: &[u8]) -> Result<Span, Invalid> {
        let start = self.mark()?;
        self.arena.extend_from_slice(bytes);
        let added = self.arena.get_mut(start as usize..);
        added.unwrap_or_default().make_ascii_lowercase();
        self.since(start)
    }

    /// The arena's end, where a decoder may write what [`since`](Self::since)
    /// then makes a span of.
    pub(crate) fn mark(&self) -> Result<u32, Invalid> {
        u32::try_from(self.arena.len()).map_err(|_| Invalid::Size)
    }

    pub(crate) const fn arena_mut(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    pub(crate) fn since(&self, start: u32) -> Result<Span, Invalid> {
        let end = self.mark()?;
        let len = end.checked_sub(start).ok_or(Invalid::Size)?;
        Ok(Span { start, len })
    }

    /// Takes a field whose bytes are in the arena already, name and value one
    /// behind the other, both valid by themselves.
    pub(crate) fn admit(
        &mut self,
        name: Span,
        value: Span,
        id: NameId,
        never_indexed: bool,
    ) -> Result<(), Invalid> {
        if id.is_connection_specific() {
            return Err(Invalid::ConnectionSpecific);
        }
        if id == NameId::HOST && self.status.is_none() {
            return Err(Invalid::Authority);
        }
        if id == NameId::TE && !self.bytes(value).eq_ignore_ascii_case(b"trailers") {
            return Err(Invalid::ConnectionSpecific);
        }
        if id.is_interpreted() {
            self.interpret(id, value)?;
        }
        self.fields.push(Field {
            start: name.start,
            name_len: name.len,
            value_len: value.len,
            id,
            never_indexed,
        });
        Ok(())
    }

    pub(crate) const fn set_method_span(&mut self, span: Span) {
        self.method = Some(span);
    }

    pub(crate) const fn set_path_span(&mut self, span: Span) {
        self.path = Some(span);
    }

    pub(crate) const fn set_authority_span(&mut self, span: Span) {
        self.authority = Some(span);
    }

    pub(crate) const fn set_scheme_span(&mut self, span: Span) {
        self.scheme = Some(span);
    }

    pub(crate) const fn set_protocol_span(&mut self, span: Span) {
        self.protocol = Some(span);
    }

    fn interpret(&mut self, id: NameId, value: Span) -> Result<(), Invalid> {
        if id == NameId::CONTENT_LENGTH {
            if self.content_length.is_some() {
                return Err(Invalid::ContentLength);
            }
            let length = number(self.bytes(value)).ok_or(Invalid::ContentLength)?;
            self.content_length = Some(length);
        }
        if id == NameId::EXPECT {
            self.expects_continue |= self.bytes(value).eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    fn interpret_again(&mut self) {
        self.content_length = None;
        self.expects_continue = false;
        for index in 0..self.fields.len() {
            let field = self.fields[index];
            let value = Span {
                start: field.start.saturating_add(field.name_len),
                len: field.value_len,
            };
            if field.id.is_interpreted() {
                // It was valid when it came in.
                let _ = self.interpret(field.id, value);
            }
        }
    }
}

impl Field {
    fn name<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        let end = start + self.name_len as usize;
        arena.get(start..end).unwrap_or_default()
    }

    fn value<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize + self.name_len as usize;
        let end = start + self.value_len as usize;
        arena.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let mut head = Head::request("POST", "web:80", "/a?b").unwrap();
        for (name, value) in [("accept", "a"), ("x", "1"), ("accept", "b"), ("x", "2")] {
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        head
    }

    #[test]
    fn fields_keep_their_order_and_stay_apart() {
        let head = head();
        let values: Vec<_> = head.fields().map(|(_, value)| value).collect();
        assert_eq!(values, [b"a", b"1", b"b", b"2"]);
        let all: Vec<_> = head.get_all(b"x").collect();
        assert_eq!(all, [b"1", b"2"]);
        assert_eq!(head.get(b"accept"), Some(&b"a"[..]));
        assert_eq!(head.authority(), Some(&b"web:80"[..]));
    }

    #[test]
    fn removal_takes_every_field_of_the_name() {
        let mut head = head();
        assert!(head.remove(b"x") && !head.remove(b"x"));
        assert_eq!(head.len(), 2);
    }

    #[test]
    fn a_cleared_head_is_empty_and_keeps_its_arena() {
        let mut head = head();
        let room = head.arena.capacity();
        head.clear();
        assert!(head.is_empty() && head.method().is_empty() && head.path().is_empty());
        assert_eq!(head.arena.capacity(), room);
    }

    #[test]
    fn h2_one_length_and_a_number() {
        let mut head = head();
        for bad in ["", "+5", "5,5", "0x5", "18446744073709551616", "5 5"] {
            let pushed = head.push(b"content-length", bad.as_bytes());
            assert_eq!(pushed, Err(Invalid::ContentLength), "{bad}");
        }
        head.push(b"content-length", b"5").unwrap();
        let second = head.push(b"content-length", b"5");
        assert_eq!(second, Err(Invalid::ContentLength));
        assert_eq!(head.content_length(), Some(5));
        head.remove(b"content-length");
        assert_eq!(head.content_length(), None);
    }

    #[test]
    fn h3_nothing_invalid_gets_in() {
        let mut head = head();
        let cases: [(&[u8], &[u8], Invalid); 7] = [
            (b"", b"", Invalid::Name),
            (b"A", b"", Invalid::Name),
            (b"a b", b"", Invalid::Name),
            (b"a", b"x\r\ny: z", Invalid::Value),
            (b"connection", b"close", Invalid::ConnectionSpecific),
            (b"te", b"gzip", Invalid::ConnectionSpecific),
            (b"host", b"other", Invalid::Authority),
        ];
        for (name, value, expected) in cases {
            assert_eq!(head.push(name, value), Err(expected), "{name:?}");
        }
        assert_eq!(head.len(), 4);
        assert_eq!(head.set_path(b"a"), Err(Invalid::Path));
        assert_eq!(head.set_authority(b"a b"), Err(Invalid::Authority));
        assert_eq!(head.set_status(99), Err(Invalid::Status));
    }

    #[test]
    fn a_head_is_small_before_it_holds_anything() {
        assert!(size_of::<Head>() <= 160, "{}", size_of::<Head>());
        assert!(size_of::<Field>() <= 16, "{}", size_of::<Field>());
    }
}
