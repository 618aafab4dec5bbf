//! The ports of our own programs.

/// Outbound listener of the sidecar, on loopback; redirected traffic arrives here.
pub const OUTBOUND: u16 = 4140;
/// Inbound listener of the sidecar, and the gateway's only public port: `mesh/1`.
pub const INBOUND: u16 = 4143;
/// Tap.
pub const TAP: u16 = 4190;
/// `/live`, `/ready`, `/metrics` of every program.
pub const ADMIN: u16 = 4191;
/// mesh-control: Certify, without a client certificate.
pub const CERTIFY: u16 = 8080;
/// mesh-control: discovery, policies, links, gateway table; local trust domain only.
pub const CONTROL: u16 = 8086;
/// mesh-control: export streams for linked peers.
pub const EXPORTS: u16 = 8087;

/// Whether `port` belongs to the sidecar itself and is no application's.
#[must_use]
pub const fn is_proxy_port(port: u16) -> bool {
    matches!(port, OUTBOUND | INBOUND | TAP | ADMIN)
}
