//! `lib/wire`: what a connection speaks, and the header rules of `mesh/1`.

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_wire::{
    detect::{Detection, detect},
    forward, mesh1,
};

/// A connection's first bytes, and lines of fields.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    detection(input);
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

/// No field of ours is left of a message that came from outside, and what we
/// read of a peer's is what it says.
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
    let (port, hops) = (mesh1::port(&headers), mesh1::hops(&headers));
    assert!(port != Some(0), "port 0");
    assert!(port.is_none() || mesh1::single(&headers, "mesh-port").is_some());
    assert!(hops.is_none() || headers.get_all("mesh-hops").iter().count() <= 1);
    forward::strip_hop_by_hop(&mut headers);
    assert!(!headers.contains_key("connection") && !headers.contains_key("keep-alive"));
    forward::strip_mesh(&mut headers);
    let left = headers.keys().find(|name| forward::is_ours(name.as_str()));
    assert_eq!(left, None, "a field of ours is left");
}
