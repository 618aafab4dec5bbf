//! HTTP/2 by hand, for what our own engine would not say (RFC 9113 §4).

use tokio::io::{AsyncRead, AsyncWrite};

use super::{world::soon, *};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest payload that everybody takes.
const MOST: usize = 16_384;

pub(super) struct Frame {
    kind: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What a GET begins with.
pub(super) const fn get(path: &str) -> [(&str, &str); 4] {
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "web"),
    ]
}

/// A head, in as many frames as it needs.
pub(super) fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block = block(fields);
    let (first, more) = block.split_at(block.len().min(MOST));
    let mut parts = more.chunks(MOST).peekable();
    let ends = |is_last: bool| if is_last { END_HEADERS } else { 0 };
    let flags = flags | ends(parts.peek().is_none());
    let mut frames = frame(HEADERS, flags, stream, first);
    while let Some(part) = parts.next() {
        let flags = ends(parts.peek().is_none());
        frames.extend(frame(CONTINUATION, flags, stream, part));
    }
    frames
}

/// Fields that no table keeps (RFC 7541 §6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(name, &mut block);
        string(value, &mut block);
    }
    block
}

/// RFC 7541 §5.1 and §5.2.
fn string(text: &str, block: &mut Vec<u8>) {
    const PREFIX: usize = 127;
    match text.len().checked_sub(PREFIX) {
        None => block.push(text.len() as u8),
        Some(mut rest) => {
            block.push(PREFIX as u8);
            while rest >= 128 {
                block.push(0x80 | (rest % 128) as u8);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend_from_slice(text.as_bytes());
}

/// One end of a connection.
pub(super) struct Wire<IO>(IO);

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// A client's, which has said hello.
    pub(super) async fn client(io: IO) -> Self {
        let mut wire = Self(io);
        wire.say(PREFACE).await;
        wire.begin().await;
        wire
    }

    /// A server's, which has heard that.
    pub(super) async fn server(io: IO) -> Self {
        let mut wire = Self(io);
        let mut hello = [0; PREFACE.len()];
        soon(wire.0.read_exact(&mut hello)).await.unwrap();
        assert_eq!(hello, PREFACE);
        wire.begin().await;
        wire
    }

    /// Settings without any, and that it has seen those of the other end.
    async fn begin(&mut self) {
        let settings = [0, ACK].map(|flags| frame(SETTINGS, flags, 0, &[]));
        self.say(&settings.concat()).await;
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next frame; none if the connection has ended, in whatever way.
    async fn hear(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        soon(self.0.read_exact(&mut header)).await.ok()?;
        let [a, b, c, kind, _, d, e, f, g] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        soon(self.0.read_exact(&mut payload)).await.ok()?;
        Some(Frame {
            kind,
            stream: u32::from_be_bytes([d, e, f, g]),
            payload,
        })
    }

    /// The next frame of this kind.
    pub(super) async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.hear().await.expect("another frame");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Waits for the end.
    pub(super) async fn ended(&mut self) {
        while self.hear().await.is_some() {}
    }
}
