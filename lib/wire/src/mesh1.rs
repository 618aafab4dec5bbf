//! The headers of `mesh/1`, and their values.

use http::{HeaderMap, HeaderValue, StatusCode};

/// The target port of a request or `CONNECT`, decimal.
pub const PORT: &str = "mesh-port";
/// At a gateway: the id of the endpoint wished for, 16 hexadecimal digits.
pub const ENDPOINT: &str = "mesh-endpoint";
/// How many gateways the stream has passed, decimal.
pub const HOPS: &str = "mesh-hops";
/// What the stream carries: see [`Carried`].
pub const PROTO: &str = "mesh-proto";
/// Why something was refused: see [`Reason`].
pub const ERROR: &str = "mesh-error";

/// All of our headers start so; none comes from or reaches an application.
pub const PREFIX: &str = "mesh-";
/// The verified SPIFFE id of the client, set for the application alone.
pub const CLIENT_ID: &str = "l5d-client-id";

/// `:authority` of a `CONNECT` to an endpoint behind a gateway.
pub const AUTHORITY_ENDPOINT: &str = "endpoint";
/// `:authority` of a `CONNECT` that asks whether a gateway lives.
pub const AUTHORITY_PROBE: &str = "probe";
/// `:authority` of a `CONNECT` to the export streams behind a gateway.
pub const AUTHORITY_EXPORTS: &str = "exports";

/// What a `mesh/1` stream carries, as `mesh-proto` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carried {
    /// A request whose client spoke HTTP/1.
    Http1,
    /// A request whose client spoke HTTP/2.
    Http2,
    /// `CONNECT`: the bytes of a TCP connection.
    Tcp,
    /// `CONNECT` that the application itself asked for.
    Connect,
    /// `OPTIONS`: would a request for the port be let in? The sidecar answers
    /// itself, after its policy and before any application: 204 with the same
    /// header, or a refusal. One that does not know it says `bad-request`.
    Probe,
}

impl Carried {
    const ALL: [Self; 5] = [
        Self::Http1,
        Self::Http2,
        Self::Tcp,
        Self::Connect,
        Self::Probe,
    ];

    /// The value of `mesh-proto`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
            Self::Connect => "connect",
            Self::Probe => "probe",
        }
    }

    /// The header's value.
    #[must_use]
    pub const fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    /// What `headers` say; none if they say nothing, or nothing known.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let value = single(headers, PROTO)?;
        Self::ALL
            .into_iter()
            .find(|carried| carried.as_str() == value)
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

    /// The header's value.
    #[must_use]
    pub const fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    /// What `headers` say; none if they say nothing, or nothing known.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        Self::from_value(single(headers, ERROR)?.as_bytes())
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

/// The port in `mesh-port`: none if it is missing, repeated, not decimal or 0.
#[must_use]
pub fn port(headers: &HeaderMap) -> Option<u16> {
    let port = decimal(single(headers, PORT)?)?;
    (port != 0).then_some(port)
}

/// The count in `mesh-hops`: 0 if it is missing, none if it is not a count.
#[must_use]
pub fn hops(headers: &HeaderMap) -> Option<u16> {
    if headers.contains_key(HOPS) {
        decimal(single(headers, HOPS)?)
    } else {
        Some(0)
    }
}

/// The value of a header that must be there exactly once.
#[must_use]
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

/// One spelling for each number: digits, no sign, no leading zero.
fn decimal(text: &str) -> Option<u16> {
    let exact = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if exact { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_port_has_one_spelling_and_is_there_once() {
        assert_eq!(port(&with(PORT, &["8080"])), Some(8080));
        for bad in ["0", "", "+80", "080", "65536", "80 ", "8o"] {
            assert_eq!(port(&with(PORT, &[bad])), None, "{bad:?}");
        }
        assert_eq!(port(&with(PORT, &["80", "80"])), None);
        assert_eq!(port(&HeaderMap::new()), None);
    }

    #[test]
    fn hops_count_from_zero() {
        assert_eq!(hops(&HeaderMap::new()), Some(0));
        assert_eq!(hops(&with(HOPS, &["2"])), Some(2));
        assert_eq!(hops(&with(HOPS, &["-1"])), None);
        assert_eq!(hops(&with(HOPS, &["1", "0"])), None);
    }

    #[test]
    fn values_survive_their_text() {
        for carried in Carried::ALL {
            let headers = with(PROTO, &[carried.as_str()]);
            assert_eq!(Carried::from_headers(&headers), Some(carried));
        }
        for reason in Reason::ALL {
            let headers = with(ERROR, &[reason.as_str()]);
            assert_eq!(Reason::from_headers(&headers), Some(reason));
            assert!(!reason.status().is_success());
        }
        assert_eq!(Reason::from_headers(&with(ERROR, &["else"])), None);
    }
}
