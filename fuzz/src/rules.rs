//! What holds for every head that was taken.

use mesh_http::head::Head;

use crate::side::text;

/// A head that was passed on may say a length that it did not have, joins its
/// cookies, has no scheme in HTTP/1 and no upgrade in HTTP/2.
pub(crate) fn same(here: &str, there: &str) {
    let plain = |head: &str| {
        let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
        if let Some(first) = lines.first_mut() {
            // HTTP/1's upgrade, which is the last one, may be several words.
            let words: Vec<&str> = first.splitn(5, ' ').collect();
            if let [method, _, authority, path, _] = words[..] {
                *first = [method, authority, path].join(" ");
            }
        }
        lines.retain(|line| !line.starts_with("content-length: ") && !line.starts_with("cookie: "));
        lines
    };
    assert_eq!(plain(here), plain(there), "{here}\npassed on is\n{there}");
}

/// What no head may have.
pub(crate) fn check(head: &Head) {
    for (name, value) in head.fields() {
        let good = |byte: &u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
        assert!(!name.is_empty() && name.iter().all(good), "{name:?}");
        let bad = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        assert!(!value.iter().any(bad), "{value:?}");
        let hop = [
            &b"connection"[..],
            b"transfer-encoding",
            b"keep-alive",
            b"upgrade",
        ];
        assert!(!hop.contains(&name), "{}", text(head));
    }
    if head.status().is_none() {
        let parts = [
            head.method(),
            head.path(),
            head.authority().unwrap_or_default(),
        ];
        let bad = |byte: &u8| *byte <= b' ' || *byte == 0x7f;
        assert!(!parts.concat().iter().any(bad), "{}", text(head));
    }
}
