//! The head of one message: request line or status, and fields in their order.
//!
//! Everything lies in one arena that is cleared and filled again, so that a
//! head costs no allocation once its arena has grown. Names are in lower case;
//! fields that came twice stay two.
//!
//! A head holds no field that concerns one connection only: the cores take
//! those out, act on them, and write their own. What is left can be passed on
//! as it is.

mod build;
pub(crate) mod name;
pub(crate) mod syntax;
mod tunnel;

use self::name::NameId;

/// A request, an answer, or trailers (fields alone).
///
/// It is handed on from one to the next, and is one pointer for that.
#[derive(Clone, Debug, Default)]
pub struct Head(Box<Parts>);

#[derive(Clone, Debug, Default)]
struct Parts {
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
    /// An empty head.
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
            std::mem::take(&mut self.0.arena),
            std::mem::take(&mut self.0.fields),
        );
        arena.clear();
        arena.shrink_to(KEPT);
        fields.clear();
        *self.0 = Parts {
            arena,
            fields,
            ..Parts::default()
        };
    }

    /// The method; empty if this is no request.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.0.method.map_or(&[], |span| self.bytes(span))
    }

    /// The status; none if this is no answer.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The scheme of the request's target: `http` unless it said otherwise.
    #[must_use]
    pub fn scheme(&self) -> Option<&[u8]> {
        self.0.scheme.map(|span| self.bytes(span))
    }

    /// Whom the request is for: HTTP/2's `:authority`, the host of a target in
    /// absolute form, or `Host`, in that order. None if the request has none,
    /// as HTTP/1.0 allows.
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        self.0.authority.map(|span| self.bytes(span))
    }

    /// Path and query, or `*`; empty for a plain CONNECT.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.0.path.map_or(&[], |span| self.bytes(span))
    }

    /// What an extended CONNECT asks for (RFC 8441 §4).
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        self.0.protocol.map(|span| self.bytes(span))
    }

    /// What an HTTP/1 connection is to be turned into: the value of `Upgrade`
    /// if `Connection` names it (RFC 9110 §7.8). Never `h2c` alone.
    #[must_use]
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.0.upgrade.map(|span| self.bytes(span))
    }

    /// The body's length as declared.
    #[must_use]
    pub const fn content_length(&self) -> Option<u64> {
        self.0.content_length
    }

    /// Whether the sender waits for a 100 before it sends the body
    /// (RFC 9110 §10.1.1).
    #[must_use]
    pub const fn expects_continue(&self) -> bool {
        self.0.expects_continue
    }

    /// Whether this asks for a byte stream to somewhere, plain or extended.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method() == b"CONNECT"
    }

    /// Whether this is a 1xx other than 101, which ends the exchange's HTTP.
    #[must_use]
    pub fn is_informational(&self) -> bool {
        matches!(self.0.status, Some(100 | 102..=199))
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

    /// The value of `name`, in lower case, if there is exactly one.
    #[must_use]
    pub fn get_single(&self, name: &[u8]) -> Option<&[u8]> {
        let mut values = self.get_all(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// How many fields there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.fields.len()
    }

    /// Whether there are no fields.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.fields.is_empty()
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

    /// Removes all fields but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        let gone = self.0.fields.get(len..).unwrap_or_default();
        let interpreted = gone.iter().any(|field| field.id.is_interpreted());
        self.0.fields.truncate(len);
        if interpreted {
            self.interpret_again();
        }
    }

    /// Removes all fields called `name`, in lower case; says whether there was
    /// one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.0.fields.len();
        self.retain(|found, _| found != name);
        self.0.fields.len() != before
    }

    /// Removes the fields for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let arena = &self.0.arena;
        let mut interpreted = false;
        self.0.fields.retain(|field| {
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
        self.0.method = Some(self.append(method)?);
        Ok(())
    }

    /// # Errors
    /// Neither an absolute path nor `*`.
    pub fn set_path(&mut self, path: &[u8]) -> Result<(), Invalid> {
        if path != b"*" && !syntax::is_path(path) {
            return Err(Invalid::Path);
        }
        self.0.path = Some(self.append(path)?);
        Ok(())
    }

    /// # Errors
    /// Not `host` or `host:port`.
    pub fn set_authority(&mut self, authority: &[u8]) -> Result<(), Invalid> {
        if !syntax::is_authority(authority) {
            return Err(Invalid::Authority);
        }
        self.0.authority = Some(self.append(authority)?);
        Ok(())
    }

    /// # Errors
    /// Not a scheme.
    pub fn set_scheme(&mut self, scheme: &[u8]) -> Result<(), Invalid> {
        if !syntax::is_scheme(scheme) {
            return Err(Invalid::Scheme);
        }
        self.0.scheme = Some(self.append(scheme)?);
        Ok(())
    }

    /// Makes a CONNECT an extended one (RFC 8441 §4), or, with none, a plain one.
    ///
    /// # Errors
    /// Not a token.
    pub fn set_protocol(&mut self, protocol: Option<&[u8]>) -> Result<(), Invalid> {
        self.0.protocol = match protocol {
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
        self.0.upgrade = match upgrade {
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
        self.0.status = Some(status);
        Ok(())
    }

    /// What the head weighs as HPACK and SETTINGS count it: name, value and 32
    /// bytes for each field (RFC 9113 §6.5.2).
    #[must_use]
    pub fn weight(&self) -> usize {
        let fields = self.0.fields.iter().map(|field| {
            let bytes = field.name_len.saturating_add(field.value_len);
            bytes as usize + 32
        });
        fields.sum()
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
mod tests;
