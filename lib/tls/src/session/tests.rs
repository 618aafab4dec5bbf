//! Two sessions with each other, and with peers that break the rules.

use mesh_testing::chance::Chance;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::{
    known::{Keys, held},
    *,
};

type Ours = Session<DuplexStream>;

fn pair(pipe: usize) -> (Ours, Ours) {
    let (left, right) = duplex(pipe);
    let session = |io, sends, receives| {
        let (sends, receives) = (Keys::of(sends), Keys::of(receives));
        known::session(io, sends, receives).unwrap()
    };
    (session(left, 1, 2), session(right, 2, 1))
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|at| (at / 7 + at % 251) as u8).collect()
}

/// Writes in pieces of `written`, reads in pieces of `read`.
async fn carries(pipe: usize, length: usize, written: usize, read: usize) {
    let (mut writer, mut reader) = pair(pipe);
    let sent = pattern(length);
    let writing = async {
        for piece in sent.chunks(written) {
            writer.write_all(piece).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        writer
    };
    let reading = async {
        let (mut all, mut buffer) = (Vec::new(), vec![0; read]);
        loop {
            let n = reader.read(&mut buffer).await.unwrap();
            if n == 0 {
                return all;
            }
            all.extend_from_slice(&buffer[..n]);
        }
    };
    let (_, all) = tokio::join!(writing, reading);
    assert!(all == sent, "{pipe} {written} {read}: {} bytes", all.len());
}

#[tokio::test]
async fn every_byte_comes_once_and_in_order_whatever_its_pieces() {
    let sizes = [1, 100, MAX_PLAIN - 1, MAX_PLAIN, MAX_PLAIN + 1, 200_000];
    for pipe in [10, 70_000, 1 << 20] {
        for written in sizes {
            for read in sizes {
                let length = written.min(read).min(pipe) * 1000;
                carries(pipe, length.min(300_000), written, read).await;
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_is_worn_is_replaced() {
    let (mut writer, mut reader) = pair(1 << 20);
    for round in 0..5_u8 {
        writer.sending.wear_after(3);
        for piece in 0..10 {
            writer.write_all(&[round, piece]).await.unwrap();
            writer.flush().await.unwrap();
            let mut back = [0; 2];
            reader.read_exact(&mut back).await.unwrap();
            assert_eq!(back, [round, piece]);
        }
    }
    assert!(writer.sending.sequence() < 10, "it is a new key");
}

#[tokio::test]
async fn who_asks_for_a_new_key_gets_it_once() {
    let (mut left, mut right) = pair(1 << 20);
    for _ in 0..3 {
        left.seal(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 1])
            .unwrap();
        left.sending = Direction::new(left.renewal.sending().unwrap()).unwrap();
    }
    left.write_all(b"there?").await.unwrap();
    let mut read = [0; 6];
    right.read_exact(&mut read).await.unwrap();
    right.write_all(b"here").await.unwrap();
    right.flush().await.unwrap();
    assert_eq!(right.sending.sequence(), 1);
    let mut read = [0; 4];
    left.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"here");
}

#[tokio::test]
async fn t4_an_end_without_a_goodbye_is_an_error() {
    let (mut writer, mut reader) = pair(1 << 20);
    writer.write_all(b"half").await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    let mut read = Vec::new();
    let error = reader.read_to_end(&mut read).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(read, b"half");
}

#[tokio::test]
async fn who_said_goodbye_may_still_be_told_something() {
    let (mut left, mut right) = pair(1 << 20);
    left.shutdown().await.unwrap();
    assert!(left.write_all(b"more").await.is_err());
    let mut nothing = Vec::new();
    right.read_to_end(&mut nothing).await.unwrap();
    right.write_all(b"still here").await.unwrap();
    right.shutdown().await.unwrap();
    let mut read = Vec::new();
    left.read_to_end(&mut read).await.unwrap();
    assert_eq!((nothing.len(), &*read), (0, &b"still here"[..]));
}

/// What `reader` and its peer are told after `bytes` have come.
async fn ends(mut peer: Ours, mut reader: Ours, bytes: &[u8]) -> (String, Option<String>) {
    peer.io.write_all(bytes).await.unwrap();
    let error = reader.read_u8().await.unwrap_err().to_string();
    // It stays so.
    assert_eq!(reader.read_u8().await.unwrap_err().to_string(), error);
    assert!(reader.write_all(b"more").await.is_err());
    drop(reader);
    let told = peer.read_u8().await.err().map(|error| error.to_string());
    (error, told)
}

#[tokio::test]
async fn whatever_was_changed_on_the_way_ends_the_session() {
    let (mut peer, _) = pair(1 << 20);
    peer.seal(Content::Data, b"good").unwrap();
    let good = peer.outgoing.bytes().to_vec();
    for at in 0..good.len() {
        // The version is not looked at as such, but is sealed with the rest.
        let mut changed = good.clone();
        changed[at] ^= 1;
        // If more seems to belong to it, here it is.
        changed.extend([0; 300]);
        let (peer, reader) = pair(1 << 20);
        let (error, told) = ends(peer, reader, &changed).await;
        let alert = if at == 0 {
            "UnexpectedMessage"
        } else {
            "BadRecordMac"
        };
        assert_eq!(error, format!("TLS: {alert}"), "byte {at}");
        assert_eq!(told, Some(format!("received fatal alert: {alert}")));
    }
}

#[tokio::test]
async fn records_that_are_too_long_or_none_end_the_session() {
    for (bytes, alert) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "UnexpectedMessage"),
        (&[20, 3, 3, 0, 1, 1], "UnexpectedMessage"),
        (&[21, 3, 3, 0, 2, 1, 0], "UnexpectedMessage"),
        (&[23, 3, 3, 0x41, 1, 0], "RecordOverflow"),
        (&[23, 3, 3, 0, 0], "BadRecordMac"),
        (
            &[
                23, 3, 3, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
            "BadRecordMac",
        ),
    ] {
        let (peer, reader) = pair(1 << 20);
        let (error, _) = ends(peer, reader, bytes).await;
        assert_eq!(error, format!("TLS: {alert}"), "{bytes:?}");
    }
}

#[tokio::test]
async fn messages_that_do_not_belong_here_end_the_session() {
    let update = [KEY_UPDATE, 0, 0, 1, 0];
    for (content, message, alert) in [
        (Content::Handshake, &[1, 0, 0, 0][..], "UnexpectedMessage"),
        (Content::Handshake, &[KEY_UPDATE, 0, 0], "UnexpectedMessage"),
        (
            Content::Handshake,
            &[KEY_UPDATE, 0, 0, 1],
            "UnexpectedMessage",
        ),
        (
            Content::Handshake,
            &[KEY_UPDATE, 0, 0, 1, 2],
            "IllegalParameter",
        ),
        (
            Content::Handshake,
            &[KEY_UPDATE, 0, 0, 0],
            "IllegalParameter",
        ),
        (
            Content::Handshake,
            &[update, update].concat(),
            "IllegalParameter",
        ),
        (
            Content::Handshake,
            &[4, 255, 255, 255, 0],
            "UnexpectedMessage",
        ),
        (Content::Alert, &[1], "DecodeError"),
        (Content::Alert, &[1, 0, 0], "DecodeError"),
    ] {
        let (mut peer, reader) = pair(1 << 20);
        peer.seal(content, message).unwrap();
        let bytes = std::mem::take(&mut peer.outgoing).bytes().to_vec();
        let (error, told) = ends(peer, reader, &bytes).await;
        assert_eq!(error, format!("TLS: {alert}"), "{message:?}");
        assert_eq!(told, Some(format!("received fatal alert: {alert}")));
    }
}

#[tokio::test]
async fn an_alert_is_passed_on_as_what_it_says() {
    let (mut peer, mut reader) = pair(1 << 20);
    // A ticket and a cancellation are no ends.
    peer.seal(Content::Handshake, &[NEW_SESSION_TICKET, 0, 0, 1, 0])
        .unwrap();
    peer.seal(Content::Alert, &[WARNING, 90]).unwrap();
    peer.seal(Content::Data, b"!").unwrap();
    peer.seal(Content::Alert, &[FATAL, 45]).unwrap();
    peer.flush().await.unwrap();
    assert_eq!(reader.read_u8().await.unwrap(), b'!');
    let error = TlsError::from(reader.read_u8().await.unwrap_err());
    assert_eq!(error.reason(), "expired_for_peer");
}

#[tokio::test]
async fn h14_records_that_bring_nothing_are_bounded() {
    for (content, message) in [
        (Content::Data, &[][..]),
        (Content::Handshake, &[NEW_SESSION_TICKET, 0, 0, 0]),
        (Content::Alert, &[WARNING, 90]),
    ] {
        for (times, is_borne) in [(IDLE, true), (IDLE + 1, false)] {
            let (mut peer, mut reader) = pair(1 << 20);
            for _ in 0..times {
                peer.seal(content, message).unwrap();
            }
            peer.seal(Content::Data, b"!").unwrap();
            peer.flush().await.unwrap();
            assert_eq!(reader.read_u8().await.is_ok(), is_borne, "{content:?}");
        }
    }
}

/// A write of this length, read with as much room: what was sealed at once, and how
/// long the reader's buffer for it was.
async fn at_once(length: usize) -> (usize, usize) {
    let (mut writer, mut reader) = pair(1 << 20);
    let mut sealed = 0;
    std::future::poll_fn(|cx| {
        let written = Pin::new(&mut writer).poll_write(cx, &pattern(length));
        assert!(matches!(written, Poll::Ready(Ok(taken)) if taken == length.min(AT_ONCE)));
        sealed = writer.sending.sequence() as usize;
        Poll::Ready(())
    })
    .await;
    let length = length.min(AT_ONCE);
    let mut all = vec![0; MOST];
    let n = std::future::poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut all);
        assert!(reader.poll_more(cx, buffer.remaining()).is_ready());
        let held = reader.incoming.buffer.len();
        while let Ok(true) = reader.open_next(&mut buffer) {}
        assert_eq!(buffer.filled().len(), length, "read with one call");
        Poll::Ready(held)
    })
    .await;
    assert!(all[..length] == pattern(length));
    (sealed, n)
}

#[tokio::test]
async fn much_is_written_and_read_with_one_call() {
    assert_eq!(at_once(10).await, (1, MOST));
    assert_eq!(at_once(16 * MAX_PLAIN).await, (16, MOST));
    assert_eq!(at_once(AT_ONCE).await, (16, MOST));
}

#[tokio::test]
async fn little_needs_no_larger_buffer() {
    let (mut writer, mut reader) = pair(MOST);
    for (length, expected) in [(ROOM / 2, ROOM), (ROOM, MOST)] {
        writer.write_all(&pattern(length)).await.unwrap();
        writer.seal_data(&pattern(length)).unwrap();
        assert_eq!(writer.outgoing.buffer.len(), expected, "{length}");
        writer.flush().await.unwrap();
        let mut all = vec![0; 2 * length];
        reader.read_exact(&mut all).await.unwrap();
        assert!(all == [pattern(length), pattern(length)].concat());
    }
    let waits = std::future::poll_fn(|cx| {
        let waits = reader.poll_more(cx, MOST / 2 - 1).is_pending();
        Poll::Ready((waits, reader.incoming.buffer.len()))
    });
    assert_eq!(waits.await, (true, ROOM));
}

#[tokio::test]
async fn h18_a_session_that_waits_holds_no_buffer() {
    let (mut writer, mut reader) = pair(1 << 20);
    for _ in 0..3 {
        writer.write_all(&pattern(100_000)).await.unwrap();
        writer.flush().await.unwrap();
        let mut all = vec![0; 100_000];
        reader.read_exact(&mut all).await.unwrap();
        let mut more = [0; 10];
        let waits = std::future::poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut more);
            Poll::Ready(
                Pin::new(&mut reader)
                    .poll_read(cx, &mut buffer)
                    .is_pending(),
            )
        });
        assert!(waits.await);
        assert_eq!((held(&reader), held(&writer)), (0, 0));
    }
    let size = size_of::<Ours>();
    assert!(size <= 448, "{size}");
}

#[tokio::test]
async fn half_a_record_is_kept_in_as_much_as_it_needs() {
    let (mut peer, mut reader) = pair(1 << 20);
    peer.seal(Content::Data, &pattern(10_000)).unwrap();
    let bytes = peer.outgoing.bytes().to_vec();
    peer.io.write_all(&bytes[..5000]).await.unwrap();
    let mut all = vec![0; 10_000];
    {
        let mut buffer = ReadBuf::new(&mut all);
        let waits = std::future::poll_fn(|cx| {
            Poll::Ready(
                Pin::new(&mut reader)
                    .poll_read(cx, &mut buffer)
                    .is_pending(),
            )
        });
        assert!(waits.await);
    }
    assert_eq!(reader.incoming.buffer.len(), 5000);
    peer.io.write_all(&bytes[5000..]).await.unwrap();
    reader.read_exact(&mut all).await.unwrap();
    assert!(all == pattern(10_000));
}

#[tokio::test]
async fn h20_whatever_a_peer_seals_is_carried_or_ends_the_session() {
    let mut chance = Chance::new(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3000 {
        let (mut peer, mut reader) = pair(1 << 20);
        let mut sent = Vec::new();
        let mut is_fair = true;
        for _ in 0..chance.below(10) {
            match chance.below(4) {
                0 => {
                    let mut message = chance.bytes(12);
                    if let Some(kind) = message.first_mut() {
                        *kind = [4, 24, *kind][chance.below(3)];
                    }
                    peer.seal(Content::Handshake, &message).unwrap();
                    is_fair = false;
                }
                1 => {
                    peer.seal(Content::Alert, &chance.bytes(3)).unwrap();
                    is_fair = false;
                }
                2 => {
                    let noise = chance.bytes(30);
                    peer.outgoing.room(noise.len())[..noise.len()].copy_from_slice(&noise);
                    peer.outgoing.end += noise.len();
                    is_fair &= noise.is_empty();
                }
                _ => {
                    let data = chance.bytes(40);
                    peer.seal(Content::Data, &data).unwrap();
                    if is_fair {
                        sent.extend(data);
                    }
                }
            }
        }
        if is_fair {
            peer.seal(Content::Alert, &[WARNING, 0]).unwrap();
        }
        peer.flush().await.unwrap();
        let mut read = Vec::new();
        let (ended, ()) = tokio::join!(reader.read_to_end(&mut read), async { drop(peer) });
        assert!(ended.is_ok() || !is_fair, "{ended:?}");
        assert!(read.starts_with(&sent), "{} of {}", read.len(), sent.len());
    }
}
