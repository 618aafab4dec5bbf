//! Bytes that are easily made again, and that no mistake leaves as they are.

/// Lengths of bodies.
pub(crate) const SIZES: [usize; 4] = [0, 1 << 10, 64 << 10, 10 << 20];

/// `length` bytes in which no block is like another.
pub(crate) fn content(length: usize) -> Vec<u8> {
    // xorshift64 (Marsaglia).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Fails where `found` is something else than the content of that length.
pub(crate) fn check(found: &[u8], length: usize) -> anyhow::Result<()> {
    let expected = content(length);
    anyhow::ensure!(
        found.len() == length,
        "{} bytes instead of {length}",
        found.len()
    );
    match found.iter().zip(&expected).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => anyhow::bail!("byte {at} of {length} is wrong"),
    }
}

mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_and_a_missing_one_are_found() {
        let mut bytes = content(1001);
        assert!(check(&bytes, 1001).is_ok());
        assert!(check(&bytes, 1000).is_err());
        bytes[1000] ^= 1;
        let error = check(&bytes, 1001).unwrap_err();
        assert_eq!(error.to_string(), "byte 1000 of 1001 is wrong");
    }
}
