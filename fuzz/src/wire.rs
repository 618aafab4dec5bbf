//! `lib/wire`: what a connection speaks, and the header rules of `mesh/1`.

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_wire::{
    detect::{Detection, detect},
    forward,
    hello::{Hello, MAX_HELLO, client_hello},
    mesh1,
};

/// A connection's first bytes, and lines of fields.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    detection(input);
    hello(input);
    fields(input);
}

/// What was said once is not taken back, whatever follows.
fn detection(input: &[u8]) {
    let mut last = Detection::NeedMore;
    for end in 0..=input.len().min(300) {
        let now = detect(&input[..end]);
        assert!(
            last == Detection::NeedMore || last == now,
            "{last:?}, then {now:?}"
        );
        last = now;
    }
    let whole = detect(input);
    assert!(
        last == Detection::NeedMore || last == whole,
        "{last:?}, then {whole:?}"
    );
    assert!(whole != Detection::NeedMore || input.len() < mesh_wire::detect::MAX_PEEK + 8);
}

/// The same of a ClientHello; and the name that it asks for can be shown.
fn hello(input: &[u8]) {
    let mut last = Hello::NeedMore;
    for end in (0..=input.len().min(300)).chain([input.len()]) {
        let now = client_hello(&input[..end]);
        assert!(
            last == Hello::NeedMore || last == now,
            "{last:?}, then {now:?}"
        );
        last = now;
    }
    assert!(last != Hello::NeedMore || input.len() < MAX_HELLO);
    if let Hello::Tls(Some(name)) = last {
        assert!(!name.is_empty() && name.len() < input.len());
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name}");
        assert_eq!(*name, name.to_ascii_lowercase());
    }
}

/// What we read of a peer's fields is what they say.
fn fields(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    for value in headers.values() {
        let bytes = value.as_bytes();
        let (hops, port) = (mesh1::hops(bytes), mesh1::port(bytes));
        for number in [hops, port].into_iter().flatten() {
            assert_eq!(number.to_string().as_bytes(), bytes);
        }
        assert!(port != Some(0), "port 0");
    }
    for name in headers.keys() {
        let is_ours = forward::is_ours(name.as_str().as_bytes());
        let begins = ["mesh-", "l5d-"]
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix));
        assert!(is_ours || !begins, "{name}");
    }
}
