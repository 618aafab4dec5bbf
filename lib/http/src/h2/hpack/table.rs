//! The two tables of HPACK (RFC 7541 §2.3).

use std::collections::VecDeque;

use crate::head::name::{NameId, STATIC_ENTRIES};

/// One entry, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) id: NameId,
}

/// The dynamic table as the peer's encoder fills it. It allocates nothing until
/// then, and not for each entry.
#[derive(Debug)]
pub(crate) struct Table {
    /// Newest last. Offsets count from the first byte that ever was.
    entries: VecDeque<Stored>,
    bytes: Vec<u8>,
    /// The offset of the first byte of `bytes`.
    base: u64,
    /// As RFC 7541 §4.1 counts.
    size: usize,
    max_size: usize,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    start: u64,
    name_len: u32,
    value_len: u32,
    id: NameId,
}

/// What an entry weighs beside its bytes (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

impl Table {
    pub(crate) const fn new(max_size: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            base: 0,
            size: 0,
            max_size,
        }
    }

    /// The entry of an index as blocks have it, the static table first.
    pub(crate) fn get(&self, index: usize) -> Option<Entry<'_>> {
        let position = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(position) {
            return Some(Entry {
                name: name.as_bytes(),
                value: value.as_bytes(),
                // Names of several entries have the number of their first.
                id: NameId(FIRST[position]),
            });
        }
        let back = position.checked_sub(STATIC.len())?;
        let newest_first = self.entries.len().checked_sub(back + 1)?;
        let stored = self.entries.get(newest_first)?;
        let start = usize::try_from(stored.start - self.base).ok()?;
        let bytes = self.bytes.get(start..)?;
        let (name, rest) = bytes.split_at_checked(stored.name_len as usize)?;
        Some(Entry {
            name,
            value: rest.get(..stored.value_len as usize)?,
            id: stored.id,
        })
    }

    /// Adds an entry; old ones make room. One that is too large empties the
    /// table (RFC 7541 §4.4).
    pub(crate) fn insert(&mut self, name: &[u8], value: &[u8], id: NameId) {
        let weight = name.len() + value.len() + OVERHEAD;
        self.shrink_to(self.max_size.saturating_sub(weight));
        let lengths = (u32::try_from(name.len()), u32::try_from(value.len()));
        let (true, (Ok(name_len), Ok(value_len))) = (weight <= self.max_size, lengths) else {
            return;
        };
        self.compact();
        self.entries.push_back(Stored {
            start: self.base + self.bytes.len() as u64,
            name_len,
            value_len,
            id,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += weight;
    }

    /// Sets how large the table may be.
    pub(crate) fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.shrink_to(max_size);
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            let bytes = oldest.name_len as usize + oldest.value_len as usize;
            self.size -= (bytes + OVERHEAD).min(self.size);
        }
    }

    /// Drops the bytes of entries that are gone, when they are most of it.
    fn compact(&mut self) {
        let oldest = self.entries.front().map(|stored| stored.start - self.base);
        let gone = oldest.map_or(self.bytes.len(), |gone| usize::try_from(gone).unwrap_or(0));
        if gone > self.max_size.max(self.bytes.len() / 2) || gone == self.bytes.len() {
            self.bytes.drain(..gone);
            self.base += gone as u64;
        }
    }
}

/// For each entry the number of the first with the same name.
const FIRST: [u8; STATIC_ENTRIES as usize] = first();

const fn first() -> [u8; STATIC_ENTRIES as usize] {
    let mut first = [0; STATIC_ENTRIES as usize];
    let mut position = 0;
    while position < first.len() {
        // Only pseudo-headers have several entries.
        first[position] = match position + 1 {
            3 => 2,
            5 => 4,
            7 => 6,
            9..=14 => 8,
            number => number as u8,
        };
        position += 1;
    }
    first
}

/// RFC 7541 appendix A.
pub(crate) const STATIC: [(&str, &str); STATIC_ENTRIES as usize] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn value(table: &Table, index: usize) -> Option<String> {
        let entry = table.get(index)?;
        Some(String::from_utf8_lossy(entry.value).into_owned())
    }

    #[test]
    fn names_have_the_numbers_of_the_static_table() {
        for (position, (name, _)) in STATIC.iter().enumerate() {
            assert_eq!(
                NameId::of(name.as_bytes()),
                NameId(FIRST[position]),
                "{name}"
            );
        }
    }

    #[test]
    fn the_newest_comes_first_and_the_oldest_goes() {
        let mut table = Table::new(3 * (OVERHEAD + 2));
        for value in ["1", "2", "3", "4"] {
            table.insert(b"n", value.as_bytes(), NameId::OTHER);
        }
        assert_eq!(value(&table, 62).as_deref(), Some("4"));
        assert_eq!(value(&table, 64).as_deref(), Some("2"));
        assert_eq!(value(&table, 65), None);
        assert_eq!(value(&table, 0), None);
        assert_eq!(value(&table, usize::MAX), None);
        table.resize(OVERHEAD + 2);
        assert_eq!(value(&table, 63), None);
        table.insert(b"n", &[b'x'; 100], NameId::OTHER);
        assert_eq!(value(&table, 62), None);
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut table = Table::new(4096);
        for index in 0..100_000_u32 {
            let value = vec![b'x'; (index % 97) as usize];
            table.insert(b"name", &value, NameId::OTHER);
            assert!(table.size <= 4096);
        }
        assert!(
            table.bytes.capacity() <= 4 * 4096,
            "{}",
            table.bytes.capacity()
        );
        assert!(table.entries.capacity() <= 256);
    }
}
