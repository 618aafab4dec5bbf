//! The identity of a request of a load: the run and the request's number.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use serde::{Deserialize, Deserializer, de};

/// Header of HTTP requests and gRPC calls with the id.
pub(crate) const HEADER: &str = "x-testapp-id";

/// What a TCP client says first: this, the id, a line feed.
const TCP_PREFIX: &[u8] = b"testapp-id ";

/// Longest first line of a TCP client that can hold an id.
const MAX_TCP_LINE: usize = TCP_PREFIX.len() + MAX_RUN + 22;

const MAX_RUN: usize = 64;

/// The name of a run: letters, digits and `-`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Run(Arc<str>);

impl Run {
    /// A name that no other run has, by chance.
    pub(crate) fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()).into())
    }
}

impl FromStr for Run {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if (1..=MAX_RUN).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(format!("want 1 to {MAX_RUN} letters, digits or `-`"))
        }
    }
}

impl<'de> Deserialize<'de> for Run {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `RUN/NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId {
    pub(crate) run: Run,
    /// From 0, without gaps.
    pub(crate) number: u64,
}

impl RequestId {
    /// The id in a request's header; none when there is none that can be read.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(HEADER)?.to_str().ok()?.parse().ok()
    }

    /// The line that a TCP client begins with.
    pub(crate) fn tcp_line(&self) -> Vec<u8> {
        let mut line = TCP_PREFIX.to_vec();
        line.extend_from_slice(format!("{self}\n").as_bytes());
        line
    }

    /// The id at the start of what a TCP client said.
    pub(crate) fn of_tcp(said: &[u8]) -> Option<Self> {
        let line = said.strip_prefix(TCP_PREFIX)?;
        let end = line.iter().position(|&byte| byte == b'\n')?;
        std::str::from_utf8(&line[..end]).ok()?.parse().ok()
    }
}

/// Whether more bytes are needed to know the id of a TCP client that has said
/// this so far. A part of the prefix is taken for a text of its own: clients
/// that send one wait for its echo.
pub(crate) fn awaits_tcp_id(said: &[u8]) -> bool {
    let open = said.starts_with(TCP_PREFIX) && !said.contains(&b'\n');
    said.is_empty() || open && said.len() < MAX_TCP_LINE
}

impl FromStr for RequestId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (run, number) = text.split_once('/').ok_or("want run/number")?;
        Ok(Self {
            run: run.parse()?,
            number: number.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_run_and_a_number() {
        let id: RequestId = "a-1/17".parse().unwrap();
        assert_eq!((id.run.to_string().as_str(), id.number), ("a-1", 17));
        assert_eq!(id.to_string(), "a-1/17");
        for bad in ["", "a", "/1", "a/", "a/-1", "a b/1", "a/1/2"] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad}");
        }
        assert!("x".repeat(65).parse::<Run>().is_err());
    }

    #[test]
    fn the_id_of_a_tcp_client_is_its_first_line() {
        let id: RequestId = "run/18446744073709551615".parse().unwrap();
        let said = [&id.tcp_line()[..], b"more\n"].concat();
        assert_eq!(RequestId::of_tcp(&said), Some(id.clone()));
        for cut in TCP_PREFIX.len()..id.tcp_line().len() {
            assert!(awaits_tcp_id(&said[..cut]), "{cut}");
            assert_eq!(RequestId::of_tcp(&said[..cut]), None);
        }
        for other in [&b"hello"[..], b"testapp-i", b"\n", &said, &[b't'; 200]] {
            assert!(!awaits_tcp_id(other));
        }
    }
}
