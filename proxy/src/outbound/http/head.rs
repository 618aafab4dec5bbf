//! A request's head, from what an application sends to what can travel.

use http::{
    HeaderValue, Uri, Version,
    header::HOST,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use mesh_wire::{
    forward::{strip_hop_by_hop, strip_mesh},
    mesh1::{Carried, PROTO},
};

/// Makes the head one that can travel: absolute, without what concerns the
/// client's connection, and without what only our programs may say.
pub(super) fn prepare(head: &mut Parts) -> Result<(), &'static str> {
    let spoken = if head.version == Version::HTTP_2 {
        Carried::Http2
    } else {
        Carried::Http1
    };
    let authority = authority(head)?;
    strip_hop_by_hop(&mut head.headers);
    strip_mesh(&mut head.headers);
    head.headers.remove(HOST);
    head.headers.insert(PROTO, spoken.header());
    head.version = match spoken {
        Carried::Http2 => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let path = match head.uri.path_and_query() {
        Some(path) => path.clone(),
        None => PathAndQuery::from_static("/"),
    };
    head.uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| "the request's target is not a URI")?;
    Ok(())
}

/// The one authority of the request: of the target if it has one, else `Host`
/// (RFC 9112 §3.2).
fn authority(head: &Parts) -> Result<Authority, &'static str> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host: Option<&HeaderValue> = hosts.next();
    if hosts.next().is_some() {
        return Err("the request has two Host headers");
    }
    if let Some(authority) = head.uri.authority() {
        return Ok(authority.clone());
    }
    match host {
        Some(host) if !host.is_empty() => {
            Authority::try_from(host.as_bytes()).map_err(|_| "the Host header is malformed")
        }
        _ if head.version == Version::HTTP_10 => Ok(Authority::from_static("unknown")),
        Some(_) => Ok(Authority::from_static("unknown")),
        None => Err("the request has no Host header"),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, hosts: &[&'static str], version: Version) -> Parts {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse().unwrap();
        *request.version_mut() = version;
        for host in hosts {
            request
                .headers_mut()
                .append(HOST, HeaderValue::from_static(host));
        }
        request.into_parts().0
    }

    #[test]
    fn h4_a_request_has_one_authority() {
        let mut plain = head("/a?b", &["web:80"], Version::HTTP_11);
        prepare(&mut plain).unwrap();
        assert_eq!(plain.uri, "http://web:80/a?b");
        assert!(!plain.headers.contains_key(HOST));

        let mut absolute = head("http://web/a", &["other"], Version::HTTP_11);
        prepare(&mut absolute).unwrap();
        assert_eq!(absolute.uri, "http://web/a");

        for hosts in [&[][..], &["a", "b"], &["a b"]] {
            assert!(
                prepare(&mut head("/", hosts, Version::HTTP_11)).is_err(),
                "{hosts:?}"
            );
        }
    }

    #[test]
    fn h7_h8_what_an_application_says_in_our_headers_goes_nowhere() {
        let mut sent = head("/", &["web"], Version::HTTP_11);
        for name in ["l5d-client-id", "mesh-port", "mesh-hops", "mesh-endpoint"] {
            sent.headers
                .insert(name, HeaderValue::from_static("forged"));
        }
        prepare(&mut sent).unwrap();
        let left: Vec<_> = sent
            .headers
            .keys()
            .map(|name| name.as_str().to_owned())
            .collect();
        assert_eq!(left, [PROTO]);
    }
}
