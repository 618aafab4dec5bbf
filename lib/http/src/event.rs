//! What a connection tells its driver.

use crate::fault::{Code, Fault, ResetReason};

/// One exchange of a connection: an HTTP/2 stream's number, or the count of
/// requests on an HTTP/1 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// The number, for logs.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

/// Whether a connection's peer sends the requests or the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Requests come in.
    Server,
    /// Answers come in.
    Client,
}

/// Something happened. Where a head or trailers are meant, they are in the
/// [`Head`](crate::head::Head) that was passed in, until the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request, or the final answer to one. With `end` there is no body.
    ///
    /// An answer of status 101, or of 2xx to a CONNECT, turns the stream into
    /// two byte streams, also if it had ended in one direction. On a client a
    /// stream goes on after the answer's end until the request has ended too,
    /// or is reset.
    Head { stream: StreamId, end: bool },
    /// An answer of 1xx; others follow.
    Informational { stream: StreamId },
    /// Bytes of the body, which count against the stream's window until they
    /// are consumed. May be empty with `end`.
    Data {
        stream: StreamId,
        bytes: &'a [u8],
        end: bool,
    },
    /// The body's end, with trailers.
    Trailers { stream: StreamId },
    /// The stream is over in both directions; its messages are not whole.
    Reset {
        stream: StreamId,
        reason: ResetReason,
    },
    /// So many bytes have left the stream's queue: the source may be given
    /// credit for them, and there is room again.
    Sent { stream: StreamId, bytes: usize },
    /// The answer to a ping, with the number that it had.
    Pong { payload: u64 },
    /// The peer takes no new stream. Those it will not look at are reset one by
    /// one; others go on.
    GoAway { code: Code },
    /// Nothing more will come; streams that have not ended are cut off. Output
    /// may still have to be written.
    Closed(Fault),
}

/// What became of the bytes of a `send_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many of them were taken; the others remain the caller's.
    pub bytes: usize,
    /// How many of the taken ones wait in the stream's queue, to be reported by
    /// [`Event::Sent`]. For the others their source may be given credit now.
    pub queued: usize,
}
