//! The records of TLS 1.3 (RFC 8446 §5), as they are once a handshake is over:
//! what is said is sealed, what comes is opened, each by the keys of its
//! direction. No I/O.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use tokio_rustls::rustls::{self, AlertDescription, ConnectionTrafficSecrets};

/// Of the bytes that a record carries (§5.1).
pub(crate) const MAX_PLAIN: usize = 1 << 14;
/// In front of each record: its type, its version and the length of the rest.
pub(crate) const HEADER: usize = 5;
/// Behind what a record carries: its true type, and the seal.
pub(crate) const TRAILER: usize = 1 + TAG;
/// Of a record without its header (§5.2).
pub(crate) const MAX_SEALED: usize = MAX_PLAIN + 256;

const TAG: usize = 16;

/// What a record carries (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Alert,
    Handshake,
    Data,
}

impl Content {
    const fn number(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::Data),
            _ => None,
        }
    }
}

/// What is wrong with a record, as the alert that says so (§6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaw(pub(crate) AlertDescription);

const UNEXPECTED: Flaw = Flaw(AlertDescription::UnexpectedMessage);
const OVERFLOW: Flaw = Flaw(AlertDescription::RecordOverflow);
const BROKEN: Flaw = Flaw(AlertDescription::BadRecordMac);

/// The key of one direction, and how often it was used.
pub(crate) struct Direction {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    /// No more records than this with one key (§5.5).
    most: u64,
}

impl Direction {
    /// Of secrets, and the number of the next record.
    pub(crate) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, rustls::Error> {
        let (algorithm, key, iv, most): (&Algorithm, _, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, 1 << 24),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, 1 << 24),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, u64::MAX)
            }
            _ => return Err(unusable()),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable())?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| unusable())?,
            sequence,
            most,
        })
    }

    /// Whether the next record but one needs another key: the next one can say so.
    pub(crate) const fn is_worn(&self) -> bool {
        self.sequence + 1 >= self.most
    }

    /// Lets the key wear out after so many records.
    #[cfg(test)]
    pub(crate) const fn wear_after(&mut self, records: u64) {
        self.most = self.sequence + records;
    }

    #[cfg(test)]
    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// No nonce is used twice: the number of the record is in it (§5.3).
    fn nonce(&mut self) -> Result<Nonce, Flaw> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        let internal = Flaw(AlertDescription::InternalError);
        self.sequence = self.sequence.checked_add(1).ok_or(internal)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Seals `plain`, no more than fits a record, at the start of `into`; returns
    /// how long the record is.
    ///
    /// # Errors
    /// If there is no room for it, or no more numbers for records.
    pub(crate) fn seal(
        &mut self,
        content: Content,
        plain: &[u8],
        into: &mut [u8],
    ) -> Result<usize, Flaw> {
        let internal = Flaw(AlertDescription::InternalError);
        let length = u16::try_from(plain.len() + TRAILER).map_err(|_| internal)?;
        let end = HEADER + usize::from(length);
        let record = into.get_mut(..end).ok_or(internal)?;
        let [high, low] = length.to_be_bytes();
        let header = [Content::Data.number(), 3, 3, high, low];
        let (front, sealed) = record.split_at_mut(HEADER);
        front.copy_from_slice(&header);
        let (body, trailer) = sealed.split_at_mut(plain.len());
        let (nonce, inner) = (self.nonce()?, [content.number()]);
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(header), plain, body, &inner, trailer)
            .map_err(|_| internal)?;
        Ok(end)
    }

    /// Opens a record into the start of `into`, which has room for all of it but its
    /// header and seal; returns what it is and how long.
    ///
    /// # Errors
    /// If it is none, or not by this key.
    pub(crate) fn open(
        &mut self,
        record: &[u8],
        into: &mut [u8],
    ) -> Result<(Content, usize), Flaw> {
        let (header, sealed) = record.split_first_chunk::<HEADER>().ok_or(UNEXPECTED)?;
        let length = sealed.len().checked_sub(TAG).ok_or(BROKEN)?;
        let (body, tag) = sealed.split_at(length);
        let into = into.get_mut(..length).ok_or(OVERFLOW)?;
        let nonce = self.nonce()?;
        self.key
            .open_separate_gather(nonce, Aad::from(*header), body, tag, into)
            .map_err(|_| BROKEN)?;
        // Its type is behind what it carries, before the padding (§5.4).
        let at = into.iter().rposition(|byte| *byte != 0);
        let at = at.ok_or(UNEXPECTED)?;
        if at > MAX_PLAIN {
            return Err(OVERFLOW);
        }
        let content = Content::of(into[at]).ok_or(UNEXPECTED)?;
        Ok((content, at))
    }
}

/// How long the first record of `bytes` is, with its header, if that is known yet.
///
/// # Errors
/// If no record begins there, or one that is too long.
pub(crate) fn record_length(bytes: &[u8]) -> Result<Option<usize>, Flaw> {
    let Some([kind, _, _, high, low]) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    // After the handshake everything is sealed, and looks like data.
    if *kind != Content::Data.number() {
        return Err(UNEXPECTED);
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_SEALED {
        return Err(OVERFLOW);
    }
    Ok(Some(HEADER + length))
}

/// Room that opening a record needs.
pub(crate) const fn opened_length(record: usize) -> usize {
    record.saturating_sub(HEADER + TAG)
}

fn unusable() -> rustls::Error {
    rustls::Error::General("secrets of a cipher suite that is not ours".into())
}
