//! Sessions without a handshake, by keys that are no secret: for tests, and for the fuzz
//! target, whose peer seals what no TLS library would.

use tokio_rustls::rustls::{
    self, ConnectionTrafficSecrets,
    crypto::cipher::{AeadKey, Iv},
};

use super::{End, Session};
use crate::{buffers::Under, handshake::Renewal, records::Direction};

/// The keys of one direction, for AES-256-GCM. Both sides make the same: all that is in
/// them is the direction's number, and how many keys there were before.
pub(crate) struct Keys {
    direction: u8,
    number: u8,
}

impl Keys {
    pub(crate) const fn of(direction: u8) -> Self {
        Self {
            direction,
            number: 0,
        }
    }

    /// The key in use, and what nonces are made of.
    pub(crate) const fn key(&self) -> ([u8; 32], [u8; 12]) {
        let mut key = [self.direction; 32];
        key[0] = self.number;
        (key, [self.direction; 12])
    }

    /// The next one is in use from now on.
    pub(crate) const fn renew(&mut self) {
        self.number = self.number.wrapping_add(1);
    }

    fn secrets(&self) -> (u64, ConnectionTrafficSecrets) {
        let (key, iv) = self.key();
        let (key, iv) = (AeadKey::from(key), Iv::from(iv));
        (0, ConnectionTrafficSecrets::Aes256Gcm { key, iv })
    }
}

struct Known {
    sends: Keys,
    receives: Keys,
}

impl Renewal for Known {
    fn sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.sends.renew();
        Ok(self.sends.secrets())
    }

    fn receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.receives.renew();
        Ok(self.receives.secrets())
    }
}

/// A session on `io`, as if a handshake had agreed on these keys.
pub(crate) fn session<IO>(
    io: IO,
    sends: Keys,
    receives: Keys,
) -> Result<Session<IO>, rustls::Error> {
    Ok(Session {
        io,
        sending: Direction::new(sends.secrets())?,
        receiving: Direction::new(receives.secrets())?,
        renewal: Box::new(Known { sends, receives }),
        certificates: None,
        cipher_suite: "",
        key_exchange: "",
        incoming: Under::default(),
        opened: Under::default(),
        outgoing: Under::default(),
        idle: 0,
        owes_update: false,
        has_said_goodbye: false,
        end: End::NotYet,
    })
}

/// How many bytes `session` holds for what is under way.
pub(crate) fn held<IO>(session: &Session<IO>) -> usize {
    [&session.incoming, &session.opened, &session.outgoing]
        .map(|under| under.buffer.capacity())
        .into_iter()
        .sum()
}
