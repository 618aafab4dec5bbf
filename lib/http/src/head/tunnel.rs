//! A WebSocket and its like in both versions: `Upgrade` and 101 in HTTP/1
//! (RFC 9110 §7.8), extended CONNECT and 200 in HTTP/2 (RFC 8441).
//!
//! Other fields stay, also `sec-websocket-key` and its answer, which HTTP/2 does
//! not need: between two sidecars they come out as they went in. Who turns an
//! extended CONNECT of somebody else into an upgrade has to add the key.

use super::{Head, Invalid};

impl Head {
    /// Whether a request asks for its stream to become bytes of another protocol:
    /// a CONNECT, plain or extended, or an upgrade.
    #[must_use]
    pub fn asks_for_tunnel(&self) -> bool {
        self.0.upgrade.is_some() || self.is_connect()
    }

    /// Makes a request to upgrade an extended CONNECT. Others stay as they are.
    ///
    /// # Errors
    /// More than one protocol is offered, or it is not a token.
    pub fn upgrade_to_connect(&mut self) -> Result<(), Invalid> {
        if let Some(protocol) = self.0.upgrade.take() {
            let protocol = self.bytes(protocol).to_vec();
            self.set_protocol(Some(&protocol))?;
            self.set_method(b"CONNECT")?;
        }
        Ok(())
    }

    /// Makes an extended CONNECT a request to upgrade. Others stay as they are.
    ///
    /// # Errors
    /// [`Invalid::Size`].
    pub fn connect_to_upgrade(&mut self) -> Result<(), Invalid> {
        if let Some(protocol) = self.0.protocol.take() {
            self.0.upgrade = Some(protocol);
            self.set_method(b"GET")?;
        }
        Ok(())
    }

    /// Makes a 101 the answer to an extended CONNECT. Others stay as they are.
    ///
    /// # Errors
    /// None: 200 is a status.
    pub fn switched_to_ok(&mut self) -> Result<(), Invalid> {
        if self.0.status == Some(101) {
            self.0.upgrade = None;
            self.set_status(200)?;
        }
        Ok(())
    }

    /// Makes a 2xx to an extended CONNECT the answer to an upgrade to
    /// `protocol`. Others stay as they are.
    ///
    /// # Errors
    /// `protocol` is not a value.
    pub fn ok_to_switched(&mut self, protocol: &[u8]) -> Result<(), Invalid> {
        if matches!(self.0.status, Some(200..=299)) {
            self.set_upgrade(Some(protocol))?;
            self.set_status(101)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h12_a_websocket_goes_over_http2_and_back() {
        let mut request = Head::request("GET", "web:80", "/chat").unwrap();
        request.set_upgrade(Some(b"websocket")).unwrap();
        request
            .push(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
            .unwrap();
        request.upgrade_to_connect().unwrap();
        assert_eq!(
            (request.method(), request.upgrade()),
            (&b"CONNECT"[..], None)
        );
        assert_eq!(request.protocol(), Some(&b"websocket"[..]));
        assert_eq!(request.path(), b"/chat");
        request.connect_to_upgrade().unwrap();
        assert_eq!((request.method(), request.protocol()), (&b"GET"[..], None));
        assert_eq!(request.upgrade(), Some(&b"websocket"[..]));

        let mut answer = Head::response(101).unwrap();
        answer.set_upgrade(Some(b"websocket")).unwrap();
        answer.switched_to_ok().unwrap();
        assert_eq!((answer.status(), answer.upgrade()), (Some(200), None));
        answer.ok_to_switched(b"websocket").unwrap();
        assert_eq!(
            (answer.status(), answer.upgrade()),
            (Some(101), Some(&b"websocket"[..]))
        );
    }

    #[test]
    fn ordinary_heads_stay_as_they_are() {
        let mut request = Head::request("CONNECT", "web:80", "").unwrap();
        request.connect_to_upgrade().unwrap();
        request.upgrade_to_connect().unwrap();
        assert!(request.is_connect() && request.protocol().is_none());
        let mut answer = Head::response(404).unwrap();
        answer.switched_to_ok().unwrap();
        answer.ok_to_switched(b"websocket").unwrap();
        assert_eq!(answer.status(), Some(404));
    }
}
