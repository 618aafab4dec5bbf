//! A request's head, from what an application sends to what can travel.

use std::sync::{Arc, OnceLock};

use http::request::Parts;
use mesh_dataplane::message::{convert, without_ours};
use mesh_drive::{buffers, conduit::Version, exchange::Exchange};
use mesh_http::head::{Head, Invalid};
use mesh_wire::mesh1::Carried;

/// What an application asks for, for as long as it has no answer.
pub(crate) struct Asking {
    /// What travels.
    pub(crate) head: Head,
    /// What the application speaks.
    pub(crate) version: Version,
    /// Who is told what comes before the answer.
    pub(super) client: Option<Arc<Exchange>>,
    /// For those that look closely: a Service without routes has none.
    parts: OnceLock<Option<Box<Parts>>>,
}

impl Asking {
    /// With a head that can travel: with an authority, and without what only our
    /// programs may say.
    pub(crate) fn prepared(mut head: Head, version: Version) -> Result<Self, Invalid> {
        without_ours(&mut head);
        if head.scheme() != Some(b"http") {
            head.set_scheme(b"http")?;
        }
        // Only HTTP/1.0 knows requests for nobody.
        if head.authority().is_none_or(<[u8]>::is_empty) {
            head.set_authority(b"unknown")?;
        }
        Ok(Self {
            head,
            version,
            client: None,
            parts: OnceLock::new(),
        })
    }

    /// The same, for whoever is at the other end of `client`.
    pub(super) fn of(mut self, client: Option<&Arc<Exchange>>) -> Self {
        self.client = client.cloned();
        self
    }

    /// The head as routes see it; none if it has no such form.
    pub(crate) fn parts(&self) -> Option<&Parts> {
        let parts = || convert::parts(&self.head).ok().map(Box::new);
        self.parts.get_or_init(parts).as_deref()
    }

    /// What the application's sidecar is told of the protocol.
    pub(super) const fn carried(&self) -> Carried {
        match self.version {
            Version::Http1 => Carried::Http1,
            Version::Http2 => Carried::Http2,
        }
    }

    /// Doing it twice is as good as once (RFC 9110 §9.2.2), which nobody knows of
    /// what a tunnel leads to.
    pub(super) fn is_idempotent(&self) -> bool {
        let is_safe = matches!(
            self.head.method(),
            b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
        );
        is_safe && !self.head.asks_for_tunnel()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        buffers::give_back_head(std::mem::take(&mut self.head));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(head: Head) -> Asking {
        Asking::prepared(head, Version::Http1).unwrap()
    }

    #[test]
    fn h4_a_request_has_one_authority() {
        let plain = asking(Head::request("GET", "web:80", "/a?b").unwrap());
        assert_eq!(plain.parts().unwrap().uri, "http://web:80/a?b");
        let mut https = Head::request("GET", "web", "/a").unwrap();
        https.set_scheme(b"https").unwrap();
        assert_eq!(asking(https).parts().unwrap().uri, "http://web/a");
        let old = asking(Head::request("GET", "", "/").unwrap());
        assert_eq!(old.head.authority(), Some(&b"unknown"[..]));
    }

    #[test]
    fn h7_h8_what_an_application_says_in_our_headers_goes_nowhere() {
        let mut sent = Head::request("GET", "web", "/").unwrap();
        for name in ["l5d-client-id", "mesh-port", "x-kept", "mesh-endpoint"] {
            sent.push(name.as_bytes(), b"forged").unwrap();
        }
        let sent = asking(sent);
        let left: Vec<_> = sent.head.fields().map(|(name, _)| name).collect();
        assert_eq!(left, [b"x-kept"]);
    }

    #[test]
    fn h12_what_asks_for_a_tunnel_is_not_asked_for_twice() {
        let mut upgrade = Head::request("GET", "web", "/").unwrap();
        assert!(asking(upgrade.clone()).is_idempotent());
        upgrade.set_upgrade(Some(b"websocket")).unwrap();
        let upgrade = asking(upgrade);
        assert_eq!(upgrade.head.upgrade(), Some(&b"websocket"[..]));
        let connect = asking(Head::request("CONNECT", "shop:443", "").unwrap());
        assert_eq!(connect.head.authority(), Some(&b"shop:443"[..]));
        assert!(!upgrade.is_idempotent() && !connect.is_idempotent());
    }
}
