//! Heads of the engine as the `http` crate's, and back.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    request, response, uri,
};
use mesh_http::head::{Head, Invalid};

/// A request's head. The authority is in its URI, whichever way it was said.
pub(super) fn request(head: &Head, version: Version) -> Result<Request<()>, http::Error> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method())?;
    *request.uri_mut() = uri(head)?;
    // Only HTTP/1.0 knows requests without one.
    *request.version_mut() = match head.authority() {
        None if version == Version::HTTP_11 => Version::HTTP_10,
        _ => version,
    };
    *request.headers_mut() = fields(head);
    Ok(request)
}

fn uri(head: &Head) -> Result<Uri, http::Error> {
    let mut parts = uri::Parts::default();
    if let Some(authority) = head.authority().filter(|authority| !authority.is_empty()) {
        parts.authority = Some(authority.try_into()?);
    }
    if !head.is_connect() {
        parts.path_and_query = Some(head.path().try_into()?);
        if parts.authority.is_some() {
            parts.scheme = Some(uri::Scheme::HTTP);
        }
    }
    Ok(Uri::from_parts(parts)?)
}

/// The answer's head.
pub(super) fn response(head: &Head, version: Version) -> Result<Response<()>, http::Error> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status().unwrap_or_default())?;
    *response.version_mut() = version;
    *response.headers_mut() = fields(head);
    Ok(response)
}

/// The fields. What the engine lets through the `http` crate takes as well.
pub(super) fn fields(head: &Head) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(head.len());
    for (name, value) in head.fields() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
    map
}

/// A request's head for the engine.
pub(super) fn head_of_request(parts: &request::Parts) -> Result<Head, Invalid> {
    let authority = parts.uri.authority().map_or("", uri::Authority::as_str);
    let path = parts.uri.path_and_query();
    let path = path.map_or("/", uri::PathAndQuery::as_str);
    let mut head = Head::request(parts.method.as_str(), authority, path)?;
    push_all(&mut head, &parts.headers)?;
    Ok(head)
}

/// An answer's head for the engine.
pub(super) fn head_of_response(parts: &response::Parts) -> Result<Head, Invalid> {
    let mut head = Head::response(parts.status.as_u16())?;
    push_all(&mut head, &parts.headers)?;
    Ok(head)
}

/// Trailers for the engine.
pub(super) fn head_of_trailers(trailers: &HeaderMap) -> Result<Head, Invalid> {
    let mut head = Head::new();
    push_all(&mut head, trailers)?;
    Ok(head)
}

fn push_all(head: &mut Head, fields: &HeaderMap) -> Result<(), Invalid> {
    for (name, value) in fields {
        match head.push(name.as_str().as_bytes(), value.as_bytes()) {
            // What concerns a connection the engine says itself.
            Ok(()) | Err(Invalid::ConnectionSpecific) => {}
            Err(invalid) => return Err(invalid),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(request: Request<()>) -> request::Parts {
        request.into_parts().0
    }

    #[test]
    fn a_request_comes_back_as_it_was() {
        let mut head = Head::request("POST", "web.shop:80", "/a%20b?c=d").unwrap();
        for (name, value) in [("x-a", "1"), ("content-length", "5"), ("x-a", "2")] {
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let request = request(&head, Version::HTTP_11).unwrap();
        assert_eq!(request.uri(), "http://web.shop:80/a%20b?c=d");
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
        let back = head_of_request(&parts(request)).unwrap();
        assert_eq!(back.content_length(), Some(5));
        let values: Vec<_> = back.get_all(b"x-a").collect();
        assert_eq!(values, [b"1", b"2"]);
        assert_eq!((back.method(), back.path()), (head.method(), head.path()));
    }

    #[test]
    fn requests_of_other_forms_keep_them() {
        let connect = Head::request("CONNECT", "mesh.tcp:0", "").unwrap();
        let request_of = |head: &Head| request(head, Version::HTTP_2).unwrap();
        assert_eq!(request_of(&connect).uri(), "mesh.tcp:0");
        let back = head_of_request(&parts(request_of(&connect))).unwrap();
        assert!(back.is_connect() && back.authority() == Some(b"mesh.tcp:0"));

        let options = Head::request("OPTIONS", "web", "*").unwrap();
        let back = head_of_request(&parts(request_of(&options))).unwrap();
        assert_eq!(back.path(), b"*");

        let old = Head::request("GET", "", "/").unwrap();
        let request = request(&old, Version::HTTP_11).unwrap();
        assert_eq!(request.version(), Version::HTTP_10);
        assert_eq!(request.uri(), "/");
    }

    #[test]
    fn what_is_no_uri_is_an_error() {
        let head = Head::request("GET", "a b", "/");
        assert!(head.is_err() || request(&head.unwrap(), Version::HTTP_2).is_err());
    }
}
