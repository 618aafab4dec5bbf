//! gRPC's message frames: a compression flag, a length of four bytes, the
//! message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use thiserror::Error;

/// Longest message either side takes.
const MAX_MESSAGE: usize = 4 << 20;

const HEAD: usize = 5;

#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum FrameError {
    #[error("compressed messages are not supported")]
    Compressed,
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    #[error("not a message of this method: {0}")]
    Undecodable(#[from] prost::DecodeError),
}

/// The frame of one message, uncompressed.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(HEAD + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("our own messages are below 4 GiB"));
    message
        .encode(&mut frame)
        .expect("the buffer grows as needed");
    frame.freeze()
}

/// Takes one message off the front of `buffer`, or nothing when it is not yet
/// whole.
pub(super) fn decode<M: Message + Default>(buffer: &mut BytesMut) -> Result<Option<M>, FrameError> {
    let Some(head) = buffer.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let &[compressed, a, b, c, d] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 {
        return Err(FrameError::Compressed);
    }
    if length > MAX_MESSAGE {
        return Err(FrameError::TooLong(length));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    Ok(Some(M::decode(buffer.split_to(length))?))
}

#[cfg(test)]
mod tests {
    use super::super::EchoRequest;
    use super::*;

    fn request(message: &str) -> EchoRequest {
        EchoRequest {
            message: message.into(),
            replies: 3,
        }
    }

    #[test]
    fn messages_come_back_one_by_one() {
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(&encode(&request("a")));
        buffer.extend_from_slice(&encode(&request("b")));
        assert_eq!(decode(&mut buffer), Ok(Some(request("a"))));
        assert_eq!(decode(&mut buffer), Ok(Some(request("b"))));
        assert_eq!(decode::<EchoRequest>(&mut buffer), Ok(None));
    }

    #[test]
    fn a_part_of_a_frame_waits_for_the_rest() {
        let whole = encode(&request("abc"));
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            assert_eq!(decode::<EchoRequest>(&mut buffer), Ok(None), "{cut}");
            assert_eq!(buffer.len(), cut);
        }
    }

    #[test]
    fn bad_frames_are_refused() {
        for (bytes, want) in [
            (
                &[1, 0, 0, 0, 0][..],
                "compressed messages are not supported",
            ),
            (
                &[0, 0xff, 0, 0, 0][..],
                "a message of 4278190080 bytes is too long",
            ),
        ] {
            let error = decode::<EchoRequest>(&mut BytesMut::from(bytes)).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
        let mut garbage = BytesMut::from(&[0, 0, 0, 0, 1, 0xff][..]);
        assert!(decode::<EchoRequest>(&mut garbage).is_err());
    }
}
