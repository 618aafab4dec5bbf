//! The headers of `mesh/1`, and their values.

use http::StatusCode;

/// The target port of a request or `CONNECT`, decimal.
pub const PORT: &str = "mesh-port";
/// At a gateway: the id of the endpoint wished for, 16 hexadecimal digits.
pub const ENDPOINT: &str = "mesh-endpoint";
/// How many gateways the stream has passed, decimal.
pub const HOPS: &str = "mesh-hops";
/// What the stream carries: see [`Carried`].
pub const PROTO: &str = "mesh-proto";
/// With an upgrade of HTTP/1, which travels as an extended CONNECT (RFC 8441): the
/// value of `Upgrade`, where `:protocol` cannot say it; and in an answer, where it
/// is not the request's.
pub const UPGRADE: &str = "mesh-upgrade";
/// With an upgrade of HTTP/1: the method, if it is not GET.
pub const METHOD: &str = "mesh-method";
/// With an upgrade of HTTP/1 that was answered with success instead: that status,
/// since success on the stream means that the protocol was switched.
pub const STATUS: &str = "mesh-status";
/// Why something was refused: see [`Reason`].
pub const ERROR: &str = "mesh-error";

/// All of our headers start so; none comes from or reaches an application.
pub const PREFIX: &str = "mesh-";
/// The verified SPIFFE id of the client, set for the application alone.
pub const CLIENT_ID: &str = "l5d-client-id";

/// `:authority` of a `CONNECT` for the bytes of a TCP connection. It is
/// [`Carried::Tcp`] that tells them from an application's, which has an authority
/// of its own.
pub const AUTHORITY_TCP: &str = "mesh.tcp:0";
/// `:authority` of a `CONNECT` to an endpoint behind a gateway.
pub const AUTHORITY_ENDPOINT: &str = "endpoint";
/// `:authority` of a `CONNECT` that asks whether a gateway lives.
pub const AUTHORITY_PROBE: &str = "probe";
/// `:authority` of a `CONNECT` to the export streams behind a gateway.
pub const AUTHORITY_EXPORTS: &str = "exports";

/// What a `mesh/1` stream carries, as `mesh-proto` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carried {
    /// A request whose client spoke HTTP/1. A `CONNECT` is the client's own, an
    /// extended one is its upgrade.
    Http1,
    /// A request whose client spoke HTTP/2. A `CONNECT`, extended or not, is the
    /// client's own.
    Http2,
    /// `CONNECT`: the bytes of a TCP connection. No application asked for it.
    Tcp,
    /// `OPTIONS`: would a request for the port be let in? The sidecar answers
    /// itself, after its policy and before any application: 204 with the same
    /// header, or a refusal. One that does not know it says `bad-request`.
    Probe,
}

impl Carried {
    const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Tcp, Self::Probe];

    /// The value of `mesh-proto`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
            Self::Probe => "probe",
        }
    }

    /// What a header's value says; none if it is nothing known.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|carried| carried.as_str().as_bytes() == value)
    }
}

/// Why a peer refused a stream, as `mesh-error` says it. With any of these not
/// one byte reached an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request is not `mesh/1`: a header is missing or wrong.
    BadRequest,
    /// Policy does not admit the caller to this port.
    NotAllowed,
    /// The gateway has no such endpoint for the caller.
    UnknownEndpoint,
    /// The stream has passed too many gateways.
    TooManyHops,
    /// The application (at a gateway: its sidecar) could not be connected to.
    ConnectFailed,
    /// The application was sent the request, and ended without an answer.
    BrokenOff,
    /// A limit is reached.
    Overloaded,
    /// The program is shutting down.
    Draining,
}

impl Reason {
    const ALL: [Self; 8] = [
        Self::BadRequest,
        Self::NotAllowed,
        Self::UnknownEndpoint,
        Self::TooManyHops,
        Self::ConnectFailed,
        Self::BrokenOff,
        Self::Overloaded,
        Self::Draining,
    ];

    /// The value of `mesh-error`, and a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::NotAllowed => "not-allowed",
            Self::UnknownEndpoint => "unknown-endpoint",
            Self::TooManyHops => "too-many-hops",
            Self::ConnectFailed => "connect-failed",
            Self::BrokenOff => "broken-off",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
        }
    }

    /// What a header's value says; none if it is nothing known.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|reason| reason.as_str().as_bytes() == value)
    }

    /// The status of the refusal.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::UnknownEndpoint => StatusCode::NOT_FOUND,
            Self::TooManyHops => StatusCode::LOOP_DETECTED,
            Self::ConnectFailed | Self::BrokenOff => StatusCode::BAD_GATEWAY,
            Self::Overloaded | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The port that the value of `mesh-port` says: none if it is not decimal or 0.
#[must_use]
pub fn port(value: &[u8]) -> Option<u16> {
    let port = decimal(std::str::from_utf8(value).ok()?)?;
    (port != 0).then_some(port)
}

/// The count that the value of `mesh-hops` says: none if it is not one.
#[must_use]
pub fn hops(value: &[u8]) -> Option<u16> {
    decimal(str::from_utf8(value).ok()?)
}

/// One spelling for each number: digits, no sign, no leading zero.
fn decimal(text: &str) -> Option<u16> {
    let exact = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if exact { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_one_spelling() {
        assert_eq!(port(b"8080"), Some(8080));
        for bad in ["0", "", "+80", "080", "65536", "80 ", "8o", "\u{663}"] {
            assert_eq!(port(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn hops_count_from_zero() {
        for (value, count) in [("0", Some(0)), ("2", Some(2)), ("-1", None), ("", None)] {
            assert_eq!(hops(value.as_bytes()), count, "{value:?}");
        }
    }

    #[test]
    fn values_survive_their_text() {
        for carried in Carried::ALL {
            let value = carried.as_str().as_bytes();
            assert_eq!(Carried::from_value(value), Some(carried));
        }
        assert_eq!(Carried::from_value(b"Http1"), None);
        for reason in Reason::ALL {
            let value = reason.as_str().as_bytes();
            assert_eq!(Reason::from_value(value), Some(reason));
            assert!(!reason.status().is_success());
        }
        assert_eq!(Reason::from_value(b"else"), None);
    }
}
