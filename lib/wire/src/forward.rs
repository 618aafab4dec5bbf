//! What a message must lose before it is passed on.

use http::{HeaderMap, HeaderName, header};

use crate::mesh1;

/// Removes the headers that concern one connection only (RFC 9110 §7.6.1):
/// `Connection`, what it names, and those that are known to be of that kind.
///
/// `TE: trailers` stays, since gRPC servers ask for it; any other `TE` goes.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    keep_only_te_trailers(headers);
}

/// Removes every `mesh-*` header and `l5d-client-id`: what an application or a
/// peer says in them is never believed and never passed on. Also for trailers.
pub fn strip_mesh(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_ours(name.as_str()))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Whether this header is for our programs alone, in either direction.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.starts_with(mesh1::PREFIX) || name == mesh1::CLIENT_ID
}

const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let tokens = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','));
    tokens
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| *name != header::TE && *name != header::HOST)
        .collect()
}

fn keep_only_te_trailers(headers: &mut HeaderMap) {
    let asks_trailers = headers
        .get_all(header::TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"));
    headers.remove(header::TE);
    if asks_trailers {
        headers.insert(header::TE, http::HeaderValue::from_static("trailers"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            );
        }
        map
    }

    #[test]
    fn h6_what_connection_names_goes_with_it() {
        let mut headers = map(&[
            ("connection", "close, X-Once"),
            ("connection", "l5d-client-id,, bad name"),
            ("x-once", "1"),
            ("l5d-client-id", "somebody"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-kept", "1")]));
    }

    #[test]
    fn connection_cannot_take_the_host() {
        let mut headers = map(&[("connection", "host"), ("host", "web")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("host", "web")]));
    }

    #[test]
    fn te_keeps_trailers_and_nothing_else() {
        let mut headers = map(&[("connection", "te"), ("te", "gzip, Trailers")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers")]));
        let mut headers = map(&[("te", "gzip")]);
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn h7_h8_nothing_of_ours_comes_through() {
        let mut headers = map(&[
            ("l5d-client-id", "a"),
            ("l5d-client-id", "b"),
            ("mesh-port", "4191"),
            ("mesh-anything", "x"),
            ("meshed", "kept"),
        ]);
        strip_mesh(&mut headers);
        assert_eq!(headers, map(&[("meshed", "kept")]));
    }
}
