//! What the fuzz target of sessions needs, and nobody else: a session without a
//! handshake, and a peer that seals what no TLS library would. Only there with the
//! feature `fuzzing`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{
    Session,
    session::known::{self, Keys},
};

/// A session on `io`, with a [`Peer`] at the other end.
///
/// # Panics
/// If its keys were of the wrong length.
#[must_use]
pub fn session<IO>(io: IO) -> Session<IO> {
    known::session(io, Keys::of(OURS), Keys::of(PEERS)).expect(LONG_ENOUGH)
}

/// How many bytes `session` holds for what is under way.
#[must_use]
pub fn held<IO>(session: &Session<IO>) -> usize {
    known::held(session)
}

/// Whoever knows the keys, and nothing else. It seals in its own way, not in ours.
pub struct Peer {
    keys: Keys,
    sequence: u64,
}

impl Peer {
    /// A record of `inner`: content, the content's type, and padding (RFC 8446 §5.2), or
    /// whatever else it may be.
    ///
    /// # Panics
    /// If no record is as long.
    #[must_use]
    pub fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let length = inner.len() + AES_256_GCM.tag_len();
        let length = u16::try_from(length).expect("the length of a record has two bytes");
        let [high, low] = length.to_be_bytes();
        let header = [23, 3, 3, high, low];
        let (key, mut nonce) = self.keys.key();
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect(LONG_ENOUGH));
        let (nonce, header_too) = (Nonce::assume_unique_for_key(nonce), Aad::from(header));
        let mut sealed = inner.to_vec();
        key.seal_in_place_append_tag(nonce, header_too, &mut sealed)
            .expect("it is shorter than what AES-GCM seals at once");
        [&header[..], &sealed[..]].concat()
    }

    /// Seals by the next key from now on, of which it has told.
    pub const fn renew(&mut self) {
        self.keys.renew();
        self.sequence = 0;
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            keys: Keys::of(PEERS),
            sequence: 0,
        }
    }
}

/// The numbers of the directions.
const OURS: u8 = 1;
const PEERS: u8 = 2;

const LONG_ENOUGH: &str = "AES-256 has keys of 32 bytes";
