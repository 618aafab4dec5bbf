//! Why connections and streams end. All sets are closed: `as_str` is fit for a
//! metric's label.

use crate::{event::Role, limits::Bound};

/// HTTP/2's error codes (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Nothing is wrong.
    NoError = 0,
    /// Anything that has no code of its own.
    Protocol = 1,
    /// The sender's own fault.
    Internal = 2,
    /// More was sent than the window allowed.
    FlowControl = 3,
    /// SETTINGS were not acknowledged in time.
    SettingsTimeout = 4,
    /// A frame on a stream that is closed.
    StreamClosed = 5,
    /// A frame of the wrong size.
    FrameSize = 6,
    /// Nothing was done for the stream: it can be tried again.
    RefusedStream = 7,
    /// No longer wanted.
    Cancel = 8,
    /// The header block cannot be decoded.
    Compression = 9,
    /// The connection of a CONNECT was reset.
    Connect = 10,
    /// The peer does too much of something.
    EnhanceYourCalm = 11,
    /// The transport is not secure enough.
    InadequateSecurity = 12,
    /// HTTP/1.1 is to be used instead.
    Http11Required = 13,
}

impl Code {
    /// The code as sent; one that is unknown is an internal error (RFC 9113 §7).
    #[must_use]
    pub const fn from_wire(code: u32) -> Self {
        match code {
            0 => Self::NoError,
            1 => Self::Protocol,
            3 => Self::FlowControl,
            4 => Self::SettingsTimeout,
            5 => Self::StreamClosed,
            6 => Self::FrameSize,
            7 => Self::RefusedStream,
            8 => Self::Cancel,
            9 => Self::Compression,
            10 => Self::Connect,
            11 => Self::EnhanceYourCalm,
            12 => Self::InadequateSecurity,
            13 => Self::Http11Required,
            _ => Self::Internal,
        }
    }

    /// The code's number.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        self as u32
    }

    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoError => "no_error",
            Self::Protocol => "protocol_error",
            Self::Internal => "internal_error",
            Self::FlowControl => "flow_control_error",
            Self::SettingsTimeout => "settings_timeout",
            Self::StreamClosed => "stream_closed",
            Self::FrameSize => "frame_size_error",
            Self::RefusedStream => "refused_stream",
            Self::Cancel => "cancel",
            Self::Compression => "compression_error",
            Self::Connect => "connect_error",
            Self::EnhanceYourCalm => "enhance_your_calm",
            Self::InadequateSecurity => "inadequate_security",
            Self::Http11Required => "http_1_1_required",
        }
    }
}

/// Too much of what costs the sender little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flood {
    /// Streams that were opened and reset, or made to be reset
    /// (CVE-2023-44487, CVE-2025-8671).
    Resets,
    /// PING and SETTINGS, which each cost an answer (CVE-2019-9512, -9515).
    Control,
    /// Frames that change nothing: empty DATA, PRIORITY, unknown ones, and
    /// WINDOW_UPDATE beyond what was sent (CVE-2019-9513, -9518).
    Idle,
    /// DATA of a few bytes at a rate that no application has.
    TinyData,
    /// A header block in too many CONTINUATION frames, or too long
    /// (CVE-2024-27316), or one that says far more than any head may.
    HeaderBlock,
    /// Header blocks that become much more than they are, again and again
    /// (CVE-2016-1544).
    Expansion,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    // The end of a life without a fault.
    /// The peer closed between two messages.
    PeerClosed,
    /// One side asked for it: `Connection: close`, HTTP/1.0, or a GOAWAY whose
    /// streams have all ended.
    Finished,
    /// Nothing happened for as long as a connection may be idle.
    Idle,
    /// The answer was over before the request was; what is left of the request
    /// cannot be told from the next one (RFC 9112 §9.3).
    EarlyAnswer,
    /// Our own side gave a message up half-way.
    Aborted,

    // Deadlines.
    /// The head did not come in time.
    HeadTimeout,
    /// The body stood still for too long.
    BodyTimeout,
    /// The peer did not read for too long.
    WriteTimeout,
    /// SETTINGS were not acknowledged in time (RFC 9113 §6.5.3).
    SettingsTimeout,

    // Either version.
    /// The peer closed within a message (RFC 9112 §8).
    Truncated,
    /// Fields that are too long (RFC 6585 §5).
    FieldsTooLarge,
    /// Too many field lines (RFC 6585 §5).
    TooManyFields,

    // HTTP/1.
    /// Not a request line (RFC 9112 §3).
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1 (RFC 9112 §2.3).
    Version,
    /// Not a status line (RFC 9112 §4).
    StatusLine,
    /// A target in none of the four forms, or in one that the method does not
    /// allow (RFC 9112 §3.2).
    Target,
    /// A target that is too long (RFC 9110 §15.5.15).
    TargetTooLong,
    /// A field's name or value, or a folded line (RFC 9112 §5).
    FieldLine,
    /// CR or LF alone (RFC 9112 §2.2).
    LineEnd,
    /// No Host, two, or not an authority (RFC 9112 §3.2).
    Host,
    /// Content-Length is no number, or there are two (RFC 9112 §6.3).
    ContentLength,
    /// Transfer-Encoding is anything but `chunked` (RFC 9112 §6.1).
    TransferEncoding,
    /// Content-Length and Transfer-Encoding (RFC 9112 §6.1).
    TwoLengths,
    /// A chunk's size, extension or end (RFC 9112 §7.1).
    Chunk,
    /// Trailers that are malformed or may not be trailers (RFC 9110 §6.5.1).
    Trailers,
    /// A body where none may be (RFC 9110 §15.3.5).
    ForbiddenBody,
    /// Bytes behind the answer that nobody asked for.
    Excess,
    /// A 101 that nobody asked for (RFC 9110 §15.2.2).
    Upgrade,
    /// An endless row of 1xx.
    Informational,

    // HTTP/2.
    /// The peer's first bytes (RFC 9113 §3.4).
    Preface,
    /// A frame's length (RFC 9113 §4.2).
    FrameSize,
    /// A frame on a stream that it cannot be on (RFC 9113 §5.1, §6).
    FrameStream,
    /// A stream's number (RFC 9113 §5.1.1).
    StreamId,
    /// A stream that is closed (RFC 9113 §5.1).
    StreamClosed,
    /// Padding longer than the frame (RFC 9113 §6.1).
    Padding,
    /// A header block with other frames within (RFC 9113 §4.3).
    Continuation,
    /// A header block that cannot be decoded (RFC 7541).
    Compression,
    /// A setting's value (RFC 9113 §6.5.2).
    Setting,
    /// A window beyond its bounds, or DATA beyond the window (RFC 9113 §5.2).
    Window,
    /// A window that is to grow by nothing (RFC 9113 §6.9).
    Increment,
    /// A push, which we refuse (RFC 9113 §8.4).
    Push,
    /// Too much of something cheap.
    Flood(Flood),
    /// The peer says that we are at fault.
    GoAway(Code),
}

impl Fault {
    /// Whether the connection ended as connections do.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(
            self,
            Self::PeerClosed
                | Self::Finished
                | Self::Idle
                | Self::EarlyAnswer
                | Self::GoAway(Code::NoError)
        )
    }

    /// The status with which an HTTP/1 server answers, if it still can.
    #[must_use]
    pub(crate) const fn status(self) -> Option<u16> {
        match self {
            Self::PeerClosed
            | Self::Finished
            | Self::Idle
            | Self::EarlyAnswer
            | Self::Aborted
            | Self::WriteTimeout
            | Self::Truncated => None,
            Self::HeadTimeout | Self::BodyTimeout => Some(408),
            Self::FieldsTooLarge | Self::TooManyFields => Some(431),
            Self::TargetTooLong => Some(414),
            Self::Version => Some(505),
            _ => Some(400),
        }
    }

    /// The code of the GOAWAY with which an HTTP/2 connection ends.
    #[must_use]
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::PeerClosed
            | Self::Finished
            | Self::Idle
            | Self::EarlyAnswer
            | Self::Aborted
            | Self::GoAway(_) => Code::NoError,
            Self::SettingsTimeout => Code::SettingsTimeout,
            Self::FrameSize => Code::FrameSize,
            Self::StreamClosed => Code::StreamClosed,
            Self::Compression => Code::Compression,
            Self::Window => Code::FlowControl,
            Self::FieldsTooLarge | Self::TooManyFields | Self::Flood(_) => Code::EnhanceYourCalm,
            _ => Code::Protocol,
        }
    }

    /// The bound that has struck, if one has.
    #[must_use]
    pub(crate) const fn bound(self, role: Role) -> Option<Bound> {
        match (self, role) {
            (Self::FieldsTooLarge | Self::Flood(Flood::HeaderBlock), _) => Some(Bound::HeadBytes),
            (Self::TooManyFields, _) => Some(Bound::HeadLines),
            (Self::TargetTooLong, _) => Some(Bound::TargetBytes),
            (Self::HeadTimeout, _) => Some(Bound::HeadTime),
            (Self::BodyTimeout, _) => Some(Bound::BodyTime),
            (Self::WriteTimeout, _) => Some(Bound::WriteTime),
            (Self::SettingsTimeout, _) => Some(Bound::SettingsTime),
            (Self::Idle, Role::Server) => Some(Bound::IdleTime),
            (Self::Idle, Role::Client) => Some(Bound::ServerIdleTime),
            _ => None,
        }
    }

    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Finished => "finished",
            Self::Idle => "idle",
            Self::EarlyAnswer => "early_answer",
            Self::Aborted => "aborted",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::SettingsTimeout => "settings_timeout",
            Self::Truncated => "truncated",
            Self::FieldsTooLarge => "fields_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::RequestLine => "request_line",
            Self::Version => "version",
            Self::StatusLine => "status_line",
            Self::Target => "target",
            Self::TargetTooLong => "target_too_long",
            Self::FieldLine => "field_line",
            Self::LineEnd => "line_end",
            Self::Host => "host",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::TwoLengths => "two_lengths",
            Self::Chunk => "chunk",
            Self::Trailers => "trailers",
            Self::ForbiddenBody => "forbidden_body",
            Self::Excess => "excess",
            Self::Upgrade => "upgrade",
            Self::Informational => "informational",
            Self::Preface => "preface",
            Self::FrameSize => "frame_size",
            Self::FrameStream => "frame_stream",
            Self::StreamId => "stream_id",
            Self::StreamClosed => "stream_closed",
            Self::Padding => "padding",
            Self::Continuation => "continuation",
            Self::Compression => "compression",
            Self::Setting => "setting",
            Self::Window => "window",
            Self::Increment => "increment",
            Self::Push => "push",
            Self::Flood(flood) => flood.as_str(),
            Self::GoAway(_) => "go_away",
        }
    }
}

impl Flood {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Resets => "flood_resets",
            Self::Control => "flood_control",
            Self::Idle => "flood_idle",
            Self::TinyData => "flood_tiny_data",
            Self::HeaderBlock => "flood_header_block",
            Self::Expansion => "flood_expansion",
        }
    }
}

/// Why a stream ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// The peer reset it.
    Peer(Code),
    /// The peer is going away and has done nothing for it: it can be tried
    /// elsewhere (RFC 9113 §8.7).
    Refused,
    /// Its head or its trailers break a rule (RFC 9113 §8.1.1).
    Malformed,
    /// Its body is not as long as it said (RFC 9113 §8.1.1).
    ContentLength,
    /// More was sent than its window allowed (RFC 9113 §6.9.1).
    FlowControl,
    /// A frame where none may come (RFC 9113 §5.1).
    StreamClosed,
    /// Fields that are too long.
    FieldsTooLarge,
    /// Too many field lines.
    TooManyFields,
    /// A target that is too long.
    TargetTooLong,
    /// An endless row of 1xx.
    Informational,
    /// The peer did not read, or did not send, for too long.
    Timeout,
}

impl ResetReason {
    /// The code of the RST_STREAM that is sent.
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Peer(code) => code,
            Self::Refused => Code::RefusedStream,
            Self::Malformed | Self::ContentLength => Code::Protocol,
            Self::FlowControl => Code::FlowControl,
            Self::StreamClosed => Code::StreamClosed,
            Self::FieldsTooLarge
            | Self::TooManyFields
            | Self::TargetTooLong
            | Self::Informational => Code::EnhanceYourCalm,
            Self::Timeout => Code::Cancel,
        }
    }

    /// The bound that has struck, if it is clear from this.
    pub(crate) const fn bound(self) -> Option<Bound> {
        match self {
            Self::FieldsTooLarge => Some(Bound::HeadBytes),
            Self::TooManyFields => Some(Bound::HeadLines),
            Self::TargetTooLong => Some(Bound::TargetBytes),
            _ => None,
        }
    }

    /// The status that tells a client of a request that is too large.
    pub(crate) const fn status(self) -> Option<u16> {
        match self {
            Self::FieldsTooLarge | Self::TooManyFields => Some(431),
            Self::TargetTooLong => Some(414),
            _ => None,
        }
    }

    /// A label for metrics; the set of values is closed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer(code) => code.as_str(),
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::ContentLength => "content_length",
            Self::FlowControl => "flow_control",
            Self::StreamClosed => "stream_closed",
            Self::FieldsTooLarge => "fields_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::TargetTooLong => "target_too_long",
            Self::Informational => "informational",
            Self::Timeout => "timeout",
        }
    }
}

/// A command that the connection's state does not allow. Except for `Length`
/// it has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Misuse {
    /// The stream has ended, or never was. A caller that is behind the events
    /// meets this in ordinary life.
    #[error("no such stream")]
    NoStream,
    /// The message has no head yet, or has one already, or is over.
    #[error("not at this point of the message")]
    Order,
    /// The head is not of this kind, or the peer cannot take it.
    #[error("not such a head")]
    Head,
    /// The body is not as long as its head said. The stream is reset, in HTTP/1
    /// with its connection: the peer must not take it for a whole message.
    #[error("the body is not as long as declared")]
    Length,
    /// No stream can be opened: the connection is busy, going away, or full.
    #[error("no stream can be opened")]
    Full,
}
