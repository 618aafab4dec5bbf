//! How the cores fill a head: bytes first, then what they are.

use super::{
    Field, FieldRef, Head, Invalid, KEPT, Span,
    name::NameId,
    syntax::{lower, number},
};

/// What a head has room for at least, once it is filled from the wire.
const FEW_BYTES: usize = 512;
const FEW_FIELDS: usize = 16;

impl Head {
    pub(crate) fn field_refs(&self) -> impl Iterator<Item = FieldRef<'_>> {
        self.0.fields.iter().map(|field| FieldRef {
            name: field.name(&self.0.arena),
            value: field.value(&self.0.arena),
            id: field.id,
            never_indexed: field.never_indexed,
        })
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let (start, len) = (span.start as usize, span.len as usize);
        self.0.arena.get(start..start + len).unwrap_or_default()
    }

    /// Makes room for the fields of a message that is so long on the wire: one that grew
    /// with each of them would be moved again and again.
    pub(crate) fn make_room(&mut self, bytes: usize) {
        self.0
            .arena
            .reserve((bytes + bytes / 2).clamp(FEW_BYTES, KEPT));
        self.0.fields.reserve(FEW_FIELDS);
    }

    /// Adds bytes to the arena.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<Span, Invalid> {
        let start = self.mark()?;
        self.0.arena.extend_from_slice(bytes);
        self.since(start)
    }

    /// Adds bytes in lower case.
    pub(crate) fn append_lower(&mut self, bytes: &[u8]) -> Result<Span, Invalid> {
        let start = self.mark()?;
        self.0.arena.extend_from_slice(bytes);
        let added = self.0.arena.get_mut(start as usize..);
        lower(bytes, added.unwrap_or_default());
        self.since(start)
    }

    /// The arena's end, where a decoder may write what [`since`](Self::since)
    /// then makes a span of.
    pub(crate) fn mark(&self) -> Result<u32, Invalid> {
        u32::try_from(self.0.arena.len()).map_err(|_| Invalid::Size)
    }

    pub(crate) const fn arena_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0.arena
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
        if id == NameId::HOST && self.0.status.is_none() {
            return Err(Invalid::Authority);
        }
        if id == NameId::TE && !self.bytes(value).eq_ignore_ascii_case(b"trailers") {
            return Err(Invalid::ConnectionSpecific);
        }
        if id.is_interpreted() {
            self.interpret(id, value)?;
        }
        self.0.fields.push(Field {
            start: name.start,
            name_len: name.len,
            value_len: value.len,
            id,
            never_indexed,
        });
        Ok(())
    }

    pub(crate) const fn set_method_span(&mut self, span: Span) {
        self.0.method = Some(span);
    }

    pub(crate) const fn set_path_span(&mut self, span: Span) {
        self.0.path = Some(span);
    }

    pub(crate) const fn set_authority_span(&mut self, span: Span) {
        self.0.authority = Some(span);
    }

    pub(crate) const fn set_scheme_span(&mut self, span: Span) {
        self.0.scheme = Some(span);
    }

    pub(crate) const fn set_protocol_span(&mut self, span: Span) {
        self.0.protocol = Some(span);
    }

    fn interpret(&mut self, id: NameId, value: Span) -> Result<(), Invalid> {
        if id == NameId::CONTENT_LENGTH {
            if self.0.content_length.is_some() {
                return Err(Invalid::ContentLength);
            }
            let length = number(self.bytes(value)).ok_or(Invalid::ContentLength)?;
            self.0.content_length = Some(length);
        }
        if id == NameId::EXPECT {
            self.0.expects_continue |= self.bytes(value).eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    pub(super) fn interpret_again(&mut self) {
        self.0.content_length = None;
        self.0.expects_continue = false;
        for index in 0..self.0.fields.len() {
            let field = self.0.fields[index];
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
