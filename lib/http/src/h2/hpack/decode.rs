//! Header blocks as they come in (RFC 7541).

use super::{huffman, table::Table};
use crate::{
    fault::{Fault, Flood},
    h2::message::Builder,
    head::{Span, name::NameId},
};

/// The state that all blocks of a connection share.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
}

/// The size of the dynamic table that we allow, which is what peers assume.
const TABLE_SIZE: usize = 4096;
/// No integer of a block needs to be larger.
const MAX_INTEGER: usize = 1 << 24;

/// How a literal is to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Indexed,
    No,
    Never,
}

impl Decoder {
    pub(crate) const fn new() -> Self {
        Self {
            table: Table::new(TABLE_SIZE),
        }
    }

    /// Reads a whole block. A message that breaks a rule is the builder's
    /// concern; an error here ends the connection, since later blocks could not
    /// be read (RFC 9113 §4.3).
    pub(crate) fn decode(&mut self, block: &[u8], builder: &mut Builder<'_>) -> Result<(), Fault> {
        let mut input = block;
        let mut fields = false;
        while let Some(first) = input.first().copied() {
            if first & 0xe0 == 0x20 {
                if fields {
                    return Err(Fault::Compression);
                }
                self.resize(&mut input)?;
                continue;
            }
            fields = true;
            if builder.is_hopeless() {
                return Err(Fault::Flood(Flood::HeaderBlock));
            }
            match first {
                0x80.. => self.indexed(&mut input, builder)?,
                0x40..0x80 => self.literal(&mut input, 6, Keep::Indexed, builder)?,
                0x10..0x40 => self.literal(&mut input, 4, Keep::Never, builder)?,
                0..0x10 => self.literal(&mut input, 4, Keep::No, builder)?,
            }
        }
        Ok(())
    }

    fn resize(&mut self, input: &mut &[u8]) -> Result<(), Fault> {
        let size = integer(input, 5)?;
        if size > TABLE_SIZE {
            return Err(Fault::Compression);
        }
        self.table.resize(size);
        Ok(())
    }

    fn indexed(&self, input: &mut &[u8], builder: &mut Builder<'_>) -> Result<(), Fault> {
        let index = integer(input, 7)?;
        let entry = self.table.get(index).ok_or(Fault::Compression)?;
        builder.indexed(entry);
        Ok(())
    }

    fn literal(
        &mut self,
        input: &mut &[u8],
        prefix: u32,
        keep: Keep,
        builder: &mut Builder<'_>,
    ) -> Result<(), Fault> {
        let start = builder.mark()?;
        let (name, id) = match integer(input, prefix)? {
            0 => {
                let name = string(input, builder)?;
                (name, NameId::of(builder.bytes(name)))
            }
            index => {
                let entry = self.table.get(index).ok_or(Fault::Compression)?;
                (builder.copy(entry.name)?, entry.id)
            }
        };
        let value = string(input, builder)?;
        if keep == Keep::Indexed {
            self.table
                .insert(builder.bytes(name), builder.bytes(value), id);
        }
        builder.literal(start, name, value, id, keep == Keep::Never);
        Ok(())
    }
}

/// RFC 7541 §5.1. `input` is not empty.
#[inline]
fn integer(input: &mut &[u8], prefix: u32) -> Result<usize, Fault> {
    let (first, rest) = input.split_first().ok_or(Fault::Compression)?;
    *input = rest;
    let most = (1 << prefix) - 1;
    let value = usize::from(*first) & most;
    if value < most {
        Ok(value)
    } else {
        more(input, value)
    }
}

/// The rest of an integer that does not fit its prefix.
fn more(input: &mut &[u8], mut value: usize) -> Result<usize, Fault> {
    for shift in [0, 7, 14, 21] {
        let (byte, rest) = input.split_first().ok_or(Fault::Compression)?;
        *input = rest;
        value += usize::from(byte & 0x7f) << shift;
        if value > MAX_INTEGER {
            return Err(Fault::Compression);
        }
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Fault::Compression)
}

/// RFC 7541 §5.2, into the builder's arena.
fn string(input: &mut &[u8], builder: &mut Builder<'_>) -> Result<Span, Fault> {
    let huffman = input.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer(input, 7)?;
    let (bytes, rest) = input.split_at_checked(len).ok_or(Fault::Compression)?;
    *input = rest;
    if !huffman {
        return builder.copy(bytes);
    }
    let start = builder.mark()?;
    huffman::decode(bytes, builder.arena()).map_err(|_| Fault::Compression)?;
    builder.since(start)
}
