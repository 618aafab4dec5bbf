//! Netlink attributes: length, kind, value, padded to four bytes.

/// A list of attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn nested(&mut self, kind: u16, value: Self) {
        self.bytes(kind | NESTED, &value.0);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(write: impl FnOnce(&mut Attributes)) -> Vec<u8> {
        let mut attributes = Attributes::default();
        write(&mut attributes);
        attributes.into_bytes()
    }

    #[test]
    fn values_are_padded_but_their_length_is_not() {
        let bytes = encoded(|a| a.text(1, "mesh"));
        assert_eq!(
            bytes[..4],
            [9u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat()
        );
        assert_eq!(&bytes[4..], b"mesh\0\0\0\0");
    }

    #[test]
    fn numbers_are_big_endian() {
        assert_eq!(encoded(|a| a.number(2, 0x0102_0304))[4..], [1, 2, 3, 4]);
    }

    #[test]
    fn a_nested_list_is_marked() {
        let inner = Attributes::default();
        let bytes = encoded(|a| a.nested(4, inner));
        assert_eq!(
            bytes,
            [4u16.to_ne_bytes(), 0x8004u16.to_ne_bytes()].concat()
        );
    }
}
