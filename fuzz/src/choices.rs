//! What an input chooses, and what follows from it as if by chance.

/// A small generator (xorshift), so that the same input does the same.
#[derive(Clone, Debug)]
pub(crate) struct Choices(u64);

impl Choices {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        // FNV-1a; never nothing.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix) | 1)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % end
    }

    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// The bytes in pieces, as a network might bring them.
    pub(crate) fn cut<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let most = [1, 2, 7, 40, 900][self.below(5)];
        let (mut pieces, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((1 + self.below(most)).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        pieces
    }
}

/// The first byte, which chooses, and the rest.
pub(crate) fn first(input: &[u8]) -> (u8, &[u8]) {
    input
        .split_first()
        .map_or((0, input), |(first, rest)| (*first, rest))
}

/// Whether the `n`th bit is set.
pub(crate) const fn bit(byte: u8, n: u8) -> bool {
    byte >> n & 1 == 1
}
