//! The bytes that are carried: a line that is easily recognized, again and
//! again, so that every byte of a body can be checked at no great cost.

use std::sync::LazyLock;

/// One line. It must never be seen on the wire between two proxies.
pub(crate) const MARKER: &[u8; 64] =
    b"plaintext of mesh-bench: whoever reads this on the wire is right\n"
        .first_chunk()
        .expect("it is as long as that");

/// As much of it as has to be seen in one packet.
pub(crate) const SIGN: usize = 32;

/// How much is there in one piece.
pub(crate) const PIECE: usize = 256 * 1024;

static PIECES: LazyLock<Vec<u8>> = LazyLock::new(|| MARKER.repeat(PIECE / MARKER.len() + 1));

/// Up to `length` bytes of a body as they are from `offset` on.
pub(crate) fn payload(offset: usize, length: usize) -> &'static [u8] {
    let start = offset % MARKER.len();
    &PIECES[start..start + length.min(PIECE)]
}

/// Whether `bytes` are what a body has from `offset` on.
pub(crate) fn is_payload(mut offset: usize, bytes: &[u8]) -> bool {
    bytes.chunks(PIECE).all(|chunk| {
        let right = chunk == payload(offset, chunk.len());
        offset += chunk.len();
        right
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fit_together_wherever_they_are_cut() {
        let whole = MARKER.repeat(3);
        for cut in [0, 1, 63, 64, 65, 100] {
            let joined = [payload(0, cut), payload(cut, whole.len() - cut)].concat();
            assert_eq!(joined, whole, "{cut}");
            assert!(is_payload(cut, &whole[cut..]), "{cut}");
        }
    }

    #[test]
    fn a_wrong_byte_or_a_shift_is_seen() {
        let mut bytes = payload(5, 1000).to_vec();
        assert!(is_payload(5, &bytes) && !is_payload(6, &bytes));
        bytes[999] ^= 1;
        assert!(!is_payload(5, &bytes));
    }
}
