//! Frames (RFC 9113 §4, §6): their first nine bytes, and the small ones whole.

use crate::fault::Code;

/// What every connection begins with, on the client's side (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before a frame's payload.
pub(crate) const HEADER: usize = 9;
/// The largest payload that everybody takes; we neither ask for more nor send
/// more.
pub(crate) const MAX_PAYLOAD: usize = 16_384;
/// The largest window (RFC 9113 §6.9.1).
pub(crate) const MAX_WINDOW: i64 = (1 << 31) - 1;
/// The window before anybody says otherwise.
pub(crate) const FIRST_WINDOW: u32 = 65_535;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITY: u8 = 0x20;

/// Settings that concern us (RFC 9113 §6.5.2, RFC 8441 §3).
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// A frame's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// To be ignored (RFC 9113 §5.5).
    Unknown,
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) len: usize,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Header {
    /// Reads the first bytes of `input`, if they are all there.
    pub(crate) fn read(input: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g] = *input.first_chunk::<HEADER>()?;
        Some(Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: Kind::from_wire(kind),
            flags,
            stream: u31([d, e, f, g]),
        })
    }

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Kind {
    const fn from_wire(kind: u8) -> Self {
        match kind {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::RstStream => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Unknown => u8::MAX,
        }
    }
}

/// 31 bits; the first of the 32 means nothing.
pub(crate) const fn u31(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

/// Writes what stands before a payload of `len` bytes, at most
/// [`MAX_PAYLOAD`].
pub(crate) fn header(len: usize, kind: Kind, flags: u8, stream: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&header_bytes(len, kind, flags, stream));
}

pub(crate) fn header_bytes(len: usize, kind: Kind, flags: u8, stream: u32) -> [u8; HEADER] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind.to_wire(), flags, d, e, f, g]
}

pub(crate) fn settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    header(settings.len() * 6, Kind::Settings, 0, 0, out);
    for (setting, value) in settings {
        out.extend_from_slice(&setting.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn settings_ack(out: &mut Vec<u8>) {
    header(0, Kind::Settings, ACK, 0, out);
}

pub(crate) fn ping(payload: u64, flags: u8, out: &mut Vec<u8>) {
    header(8, Kind::Ping, flags, 0, out);
    out.extend_from_slice(&payload.to_be_bytes());
}

pub(crate) fn window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    header(4, Kind::WindowUpdate, 0, stream, out);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(crate) fn rst_stream(stream: u32, code: Code, out: &mut Vec<u8>) {
    header(4, Kind::RstStream, 0, stream, out);
    out.extend_from_slice(&code.to_wire().to_be_bytes());
}

pub(crate) fn go_away(last: u32, code: Code, out: &mut Vec<u8>) {
    header(8, Kind::GoAway, 0, 0, out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.to_wire().to_be_bytes());
}
