//! Why a call had no answer, in words that tests can compare.

use std::error::Error;
use std::io;

use serde::{Serialize, Serializer};

/// The cause of a call without an answer. `Display` gives the words that are
/// printed and counted; they hold no address or other detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Failure {
    /// The name has no address.
    #[error("name not found")]
    Resolve,
    /// Nobody listens, or a firewall says so.
    #[error("connection refused")]
    Refused,
    /// No way to the address.
    #[error("unreachable")]
    Unreachable,
    /// No connection in time.
    #[error("connect timeout")]
    ConnectTimeout,
    /// Connected, but no whole answer in time.
    #[error("timeout")]
    Timeout,
    /// The connection or stream was reset.
    #[error("connection reset")]
    Reset,
    /// The connection ended before an answer began.
    #[error("connection closed")]
    Closed,
    /// The answer began, and the connection or stream ended before it did.
    #[error("answer cut short")]
    Cut,
    /// What came is not the protocol that was asked for.
    #[error("protocol error")]
    Protocol,
    /// An error of the operating system with no word of its own here.
    #[error("input/output error")]
    Io,
}

impl Failure {
    /// The cause behind an error of a socket.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            _ => Self::Io,
        }
    }

    /// The cause behind an error of an HTTP connection or body.
    pub(crate) fn of_http(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(known) = Self::of_link(error) {
                return known;
            }
            cause = error.source();
        }
        Self::Protocol
    }

    /// The cause behind an error within the body of an answer.
    pub(crate) fn of_body(error: &(dyn Error + 'static)) -> Self {
        match Self::of_http(error) {
            Self::Closed | Self::Reset => Self::Cut,
            other => other,
        }
    }

    fn of_link(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(Self::of_io(error));
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(Self::of_h2(error));
        }
        let error = error.downcast_ref::<hyper::Error>()?;
        let closed = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
        // A close that an input/output error explains is named by that error.
        (closed && error.source().is_none()).then_some(Self::Closed)
    }

    fn of_h2(error: &h2::Error) -> Self {
        match error.get_io() {
            Some(error) => Self::of_io(error),
            None if error.is_reset() => Self::Reset,
            None if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => {
                Self::Closed
            }
            None => Self::Protocol,
        }
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_errors_have_their_own_words() {
        for (kind, words) in [
            (io::ErrorKind::ConnectionRefused, "connection refused"),
            (io::ErrorKind::ConnectionReset, "connection reset"),
            (io::ErrorKind::BrokenPipe, "connection reset"),
            (io::ErrorKind::UnexpectedEof, "connection closed"),
            (io::ErrorKind::HostUnreachable, "unreachable"),
            (io::ErrorKind::PermissionDenied, "input/output error"),
        ] {
            assert_eq!(Failure::of_io(&kind.into()).to_string(), words);
        }
    }

    #[test]
    fn http_errors_are_named_by_their_deepest_cause() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Failure::of_http(&reset), Failure::Reset);
        let stream = h2::Error::from(h2::Reason::INTERNAL_ERROR);
        assert_eq!(Failure::of_http(&stream), Failure::Protocol);
        let other = "x".parse::<u8>().unwrap_err();
        assert_eq!(Failure::of_http(&other), Failure::Protocol);
    }
}
