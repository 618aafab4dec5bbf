//! Netlink's acknowledgements.

use nix::errno::Errno;

/// What the kernel says of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The message's sequence number.
    pub(super) sequence: u32,
    /// Why it was refused, if it was.
    pub(super) error: Option<Errno>,
}

/// A datagram that is not a row of netlink messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The answers in one datagram; messages of other kinds are passed over.
pub(super) fn read(mut datagram: &[u8]) -> Result<Vec<Answer>, Malformed> {
    let mut answers = Vec::new();
    while !datagram.is_empty() {
        let length = usize::try_from(u32_at(datagram, 0)?).map_err(|_| Malformed)?;
        let message = datagram.get(..length).ok_or(Malformed)?;
        if length < HEADER {
            return Err(Malformed);
        }
        if u16_at(message, 4)? == NLMSG_ERROR {
            answers.push(Answer {
                sequence: u32_at(message, 8)?,
                error: error(u32_at(message, HEADER)?.cast_signed()),
            });
        }
        let next = length.next_multiple_of(4).min(datagram.len());
        datagram = &datagram[next..];
    }
    Ok(answers)
}

/// An acknowledgement is an error of the number 0.
fn error(code: i32) -> Option<Errno> {
    (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    let field = bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(Malformed)?;
    Ok(u16::from_ne_bytes(*field))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let field = bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(Malformed)?;
    Ok(u32::from_ne_bytes(*field))
}

const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, code: i32) -> Vec<u8> {
        let mut bytes = 36u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(code.to_ne_bytes());
        bytes.resize(36, 0);
        bytes
    }

    #[test]
    fn acknowledgements_and_refusals_are_told_apart() {
        let datagram = [message(2, 1, 0), message(3, 9, 0), message(2, 2, -1)].concat();
        let refused = Answer {
            sequence: 2,
            error: Some(Errno::EPERM),
        };
        let fine = Answer {
            sequence: 1,
            error: None,
        };
        assert_eq!(read(&datagram), Ok(vec![fine, refused]));
    }

    #[test]
    fn a_broken_datagram_is_an_error() {
        let whole = message(2, 1, 0);
        for cut in 1..whole.len() {
            assert_eq!(read(&whole[..cut]), Err(Malformed), "{cut}");
        }
        assert_eq!(read(&[0; 16]), Err(Malformed));
        assert_eq!(read(&[0xff; 40]), Err(Malformed));
    }
}
