//! Heads of the engine as the `http` crate's, and back: for routes and for what
//! else has to look at them closely.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    request::Parts,
    uri::{self, PathAndQuery, Scheme},
};
use mesh_http::head::{Head, Invalid};

/// A request's head. The authority is in its URI, whichever way it was said.
///
/// # Errors
/// If it has no such form.
pub fn parts(head: &Head) -> Result<Parts, http::Error> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method())?;
    *request.uri_mut() = uri(head)?;
    *request.headers_mut() = fields(head);
    Ok(request.into_parts().0)
}

fn uri(head: &Head) -> Result<Uri, http::Error> {
    let mut parts = uri::Parts::default();
    if let Some(authority) = head.authority().filter(|authority| !authority.is_empty()) {
        parts.authority = Some(authority.try_into()?);
    }
    if !head.is_connect() || head.protocol().is_some() {
        parts.path_and_query = Some(head.path().try_into()?);
        if parts.authority.is_some() {
            parts.scheme = Some(Scheme::HTTP);
        }
    }
    Ok(Uri::from_parts(parts)?)
}

/// The fields. What the engine lets through the `http` crate takes as well.
#[must_use]
pub fn fields(head: &Head) -> HeaderMap {
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
///
/// # Errors
/// If it is none that can be sent.
pub fn head_of_request(parts: &Parts) -> Result<Head, Invalid> {
    let authority = parts.uri.authority().map_or("", uri::Authority::as_str);
    let path = parts.uri.path_and_query();
    let path = path.map_or("/", PathAndQuery::as_str);
    let mut head = Head::request(parts.method.as_str(), authority, path)?;
    push_all(&mut head, &parts.headers)?;
    Ok(head)
}

/// The same, of a request that asks for what `asked` does, if that is a tunnel.
///
/// # Errors
/// If it is none that can be sent.
pub fn head_like(asked: &Head, parts: &Parts) -> Result<Head, Invalid> {
    let mut head = head_of_request(parts)?;
    head.set_upgrade(asked.upgrade())?;
    if let Some(protocol) = asked.protocol() {
        let path = parts.uri.path_and_query();
        head.set_scheme(b"http")?;
        head.set_path(path.map_or("/", PathAndQuery::as_str).as_bytes())?;
        head.set_protocol(Some(protocol))?;
    }
    Ok(head)
}

/// The head of an answer with other fields.
///
/// # Errors
/// If it is none that can be sent.
pub fn with_fields(answer: &Head, fields: &HeaderMap) -> Result<Head, Invalid> {
    let mut head = Head::response(answer.status().unwrap_or_default())?;
    head.set_upgrade(answer.upgrade())?;
    push_all(&mut head, fields)?;
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

    #[test]
    fn a_request_comes_back_as_it_was() {
        let mut head = Head::request("POST", "web.shop:80", "/a%20b?c=d").unwrap();
        for (name, value) in [("x-a", "1"), ("content-length", "5"), ("x-a", "2")] {
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let parts = parts(&head).unwrap();
        assert_eq!(parts.uri, "http://web.shop:80/a%20b?c=d");
        assert_eq!(parts.headers.get_all("x-a").iter().count(), 2);
        let back = head_of_request(&parts).unwrap();
        assert_eq!(back.content_length(), Some(5));
        let values: Vec<_> = back.get_all(b"x-a").collect();
        assert_eq!(values, [b"1", b"2"]);
        assert_eq!((back.method(), back.path()), (head.method(), head.path()));
    }

    #[test]
    fn requests_of_other_forms_keep_them() {
        let connect = parts(&Head::request("CONNECT", "mesh.tcp:0", "").unwrap()).unwrap();
        assert_eq!(connect.uri, "mesh.tcp:0");
        let back = head_of_request(&connect).unwrap();
        assert!(back.is_connect() && back.authority() == Some(b"mesh.tcp:0"));

        let options = parts(&Head::request("OPTIONS", "web", "*").unwrap()).unwrap();
        assert_eq!(head_of_request(&options).unwrap().path(), b"*");

        let old = parts(&Head::request("GET", "", "/").unwrap()).unwrap();
        assert_eq!(old.uri, "/");
    }

    #[test]
    fn h12_what_a_request_asks_for_stays() {
        let mut upgrade = Head::request("GET", "web", "/chat").unwrap();
        upgrade.set_upgrade(Some(b"websocket")).unwrap();
        let back = head_like(&upgrade, &parts(&upgrade).unwrap()).unwrap();
        assert_eq!(back.upgrade(), Some(&b"websocket"[..]));

        let mut extended = Head::request("CONNECT", "web", "").unwrap();
        extended.set_scheme(b"http").unwrap();
        extended.set_path(b"/chat?a=b").unwrap();
        extended.set_protocol(Some(b"websocket")).unwrap();
        let seen = parts(&extended).unwrap();
        assert_eq!(seen.uri, "http://web/chat?a=b");
        let back = head_like(&extended, &seen).unwrap();
        assert_eq!(back.protocol(), Some(&b"websocket"[..]));
        assert_eq!(
            (back.method(), back.path()),
            (&b"CONNECT"[..], &b"/chat?a=b"[..])
        );
    }

    #[test]
    fn an_answer_s_fields_change_and_its_status_stays() {
        let mut head = Head::response(404).unwrap();
        head.push(b"x-a", b"1").unwrap();
        head.set_upgrade(Some(b"websocket")).unwrap();
        let mut fields = fields(&head);
        fields.insert("x-a", HeaderValue::from_static("2"));
        let changed = with_fields(&head, &fields).unwrap();
        assert_eq!(
            (changed.status(), changed.get(b"x-a")),
            (Some(404), Some(&b"2"[..]))
        );
        assert_eq!(changed.upgrade(), Some(&b"websocket"[..]));
    }

    #[test]
    fn what_is_no_uri_is_an_error() {
        let head = Head::request("GET", "a b", "/");
        assert!(head.is_err() || parts(&head.unwrap()).is_err());
    }
}
