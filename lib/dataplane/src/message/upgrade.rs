//! Upgrades of HTTP/1 between two sidecars: an extended CONNECT there (RFC 8441),
//! and at both ends what the application wrote.
//!
//! A websocket is what that RFC says. Of others, which may be asked for by any
//! method and more than one at a time, the rest is in headers of ours. An answer of
//! success that switches nothing is such a one only between the sidecars, since
//! success there is the switch.

use mesh_http::head::{Head, Invalid};
use mesh_wire::mesh1::{self, Carried};

/// `:protocol` of an upgrade that it cannot say.
const ANY: &[u8] = b"upgrade";
/// The status that stands for a success that switches nothing.
const SWITCHES_NOTHING: u16 = 501;

/// Makes a request to upgrade one that can travel. Others stay as they are.
///
/// # Errors
/// [`Invalid::Size`].
pub fn wrap(head: &mut Head) -> Result<(), Invalid> {
    let Some(wished) = head.upgrade().map(<[u8]>::to_vec) else {
        return Ok(());
    };
    if head.method() != b"GET" {
        let method = head.method().to_vec();
        head.push(mesh1::METHOD.as_bytes(), &method)?;
    }
    // What is no token it says in a header.
    if head.set_protocol(Some(&wished)).is_err() {
        head.push(mesh1::UPGRADE.as_bytes(), &wished)?;
        head.set_upgrade(Some(ANY))?;
    }
    head.upgrade_to_connect()
}

/// Makes what [`wrap`] has made what it was, and says which protocols it asks for;
/// none if it is something else, which stays as it is.
///
/// # Errors
/// Whatever no sidecar sends.
pub fn unwrap(head: &mut Head) -> Result<Option<Vec<u8>>, Invalid> {
    let is_wrapped = head.is_connect() && head.protocol().is_some();
    if !is_wrapped
        || head.get_single(mesh1::PROTO.as_bytes()) != Some(Carried::Http1.as_str().as_bytes())
    {
        return Ok(None);
    }
    let said = |name: &str| head.get_single(name.as_bytes()).map(<[u8]>::to_vec);
    let (method, wished) = (said(mesh1::METHOD), said(mesh1::UPGRADE));
    head.connect_to_upgrade()?;
    if let Some(method) = method {
        head.set_method(&method)?;
    }
    // Of these no upgrade is carried, and there is none to HTTP/2.
    if matches!(head.method(), b"CONNECT" | b"HEAD") {
        return Err(Invalid::Method);
    }
    if let Some(wished) = &wished {
        head.set_upgrade(Some(wished))?;
    }
    let wished = head.upgrade().unwrap_or_default();
    if protocols(wished).any(|one| one.eq_ignore_ascii_case(b"h2c")) {
        return Err(Invalid::Value);
    }
    Ok(Some(wished.to_vec()))
}

fn protocols(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Makes the answer to a request for an upgrade to `wished` one that can travel.
///
/// # Errors
/// [`Invalid::Size`].
pub fn wrap_answer(head: &mut Head, wished: &[u8]) -> Result<(), Invalid> {
    let is_switch = head.status() == Some(101);
    let named = head
        .upgrade()
        .filter(|named| !is_switch || *named != wished);
    if let Some(named) = named.map(<[u8]>::to_vec) {
        head.push(mesh1::UPGRADE.as_bytes(), &named)?;
    }
    head.set_upgrade(None)?;
    match head.status() {
        Some(101) => head.switched_to_ok(),
        Some(status @ 200..300) => {
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(status).as_bytes();
            head.push(mesh1::STATUS.as_bytes(), digits)?;
            head.set_status(SWITCHES_NOTHING)
        }
        _ => Ok(()),
    }
}

/// Makes what [`wrap_answer`] has made what it was.
///
/// # Errors
/// What it names is no value.
pub fn unwrap_answer(head: &mut Head, wished: &[u8]) -> Result<(), Invalid> {
    let named = head.get_single(mesh1::UPGRADE.as_bytes());
    let named = named.map(<[u8]>::to_vec);
    if matches!(head.status(), Some(200..300)) {
        return head.ok_to_switched(named.as_deref().unwrap_or(wished));
    }
    head.set_upgrade(named.as_deref())?;
    let status = head.get_single(mesh1::STATUS.as_bytes());
    let status = status.and_then(|value| str::from_utf8(value).ok()?.parse().ok());
    if let (Some(SWITCHES_NOTHING), Some(status @ 200..300)) = (head.status(), status) {
        head.set_status(status)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, wished: &str) -> Head {
        let mut head = Head::request(method, "web", "/chat").unwrap();
        head.push(b"x-kept", b"1").unwrap();
        head.set_upgrade(Some(wished.as_bytes())).unwrap();
        head
    }

    /// As the target's sidecar sees it.
    fn arrived(mut head: Head, carried: Carried) -> Head {
        head.push(mesh1::PROTO.as_bytes(), carried.as_str().as_bytes())
            .unwrap();
        head
    }

    fn names(head: &Head) -> Vec<&str> {
        let names = head.fields().map(|(name, _)| str::from_utf8(name).unwrap());
        names.collect()
    }

    #[test]
    fn h12_an_upgrade_arrives_as_it_was_sent() {
        for (method, wished, protocol, ours) in [
            ("GET", "websocket", "websocket", &[][..]),
            ("POST", "tcp", "tcp", &["mesh-method"]),
            ("GET", "SPDY/3.1", "upgrade", &["mesh-upgrade"]),
            (
                "POST",
                "a, b/2",
                "upgrade",
                &["mesh-method", "mesh-upgrade"],
            ),
        ] {
            let mut head = request(method, wished);
            wrap(&mut head).unwrap();
            assert_eq!(head.protocol(), Some(protocol.as_bytes()), "{wished}");
            assert!(head.is_connect() && head.upgrade().is_none());
            assert_eq!(names(&head), [&["x-kept"], ours].concat());
            let mut head = arrived(head, Carried::Http1);
            let told = unwrap(&mut head).unwrap();
            assert_eq!(told.as_deref(), Some(wished.as_bytes()));
            assert_eq!(head.upgrade(), Some(wished.as_bytes()));
            assert_eq!((head.method(), head.protocol()), (method.as_bytes(), None));
            assert_eq!(head.path(), b"/chat");
        }
    }

    #[test]
    fn h12_a_connect_is_no_upgrade_but_from_http1_with_a_protocol() {
        let mut extended = request("GET", "websocket");
        wrap(&mut extended).unwrap();
        let plain = Head::request("CONNECT", "shop:443", "").unwrap();
        for (head, carried) in [
            (extended.clone(), Carried::Http2),
            (extended, Carried::Tcp),
            (plain.clone(), Carried::Http1),
            (plain, Carried::Tcp),
        ] {
            let mut head = arrived(head, carried);
            assert_eq!(unwrap(&mut head), Ok(None), "{carried:?}");
            assert!(head.is_connect() && head.upgrade().is_none());
        }
        let mut ordinary = Head::request("GET", "web", "/").unwrap();
        wrap(&mut ordinary).unwrap();
        assert_eq!(ordinary.method(), b"GET");
    }

    #[test]
    fn h12_nobody_upgrades_to_http2_or_by_a_method_that_cannot() {
        for (name, value) in [
            (mesh1::UPGRADE, "h2c"),
            (mesh1::UPGRADE, "websocket, H2C"),
            (mesh1::METHOD, "CONNECT"),
            (mesh1::METHOD, "HEAD"),
            (mesh1::METHOD, "GET /"),
        ] {
            let mut head = request("GET", "websocket");
            wrap(&mut head).unwrap();
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
            let mut head = arrived(head, Carried::Http1);
            assert!(unwrap(&mut head).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn h12_an_answer_arrives_as_it_was_sent_and_only_101_is_success() {
        for (status, chosen, travels) in [
            (101, Some("websocket"), 200),
            (101, Some("other"), 200),
            (101, None, 200),
            (200, None, 501),
            (204, None, 501),
            (301, None, 301),
            (404, None, 404),
            (426, Some("websocket"), 426),
            (501, None, 501),
        ] {
            let mut head = Head::response(status).unwrap();
            head.set_upgrade(chosen.map(str::as_bytes)).unwrap();
            wrap_answer(&mut head, b"websocket").unwrap();
            assert_eq!((head.status(), head.upgrade()), (Some(travels), None));
            unwrap_answer(&mut head, b"websocket").unwrap();
            assert_eq!(head.status(), Some(status));
            let switched = (status == 101).then_some("websocket");
            let expected = chosen.or(switched);
            assert_eq!(head.upgrade(), expected.map(str::as_bytes), "{status}");
        }
    }

    #[test]
    fn h12_a_status_that_no_sidecar_tells_is_not_believed() {
        for told in ["101", "404", "2000", "x"] {
            let mut head = Head::response(501).unwrap();
            head.push(mesh1::STATUS.as_bytes(), told.as_bytes())
                .unwrap();
            unwrap_answer(&mut head, b"websocket").unwrap();
            assert_eq!(head.status(), Some(501), "{told}");
        }
    }
}
