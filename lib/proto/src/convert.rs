//! Between the messages of `mesh.v1` and the types of `mesh-core`.
//!
//! Messages come from a peer and are checked once, here: what converts is
//! valid everywhere else.

mod destination;
mod inbound;
mod link;
mod route;

use std::net::{IpAddr, SocketAddr};

use linkerd2_proxy_api::net;

pub use self::{
    destination::{destination_from_proto, destination_to_proto},
    inbound::{inbound_policy_from_proto, inbound_policy_to_proto},
    link::{links_from_proto, links_to_proto},
};

/// A message that says something impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidMessage {
    field: &'static str,
    reason: String,
}

impl InvalidMessage {
    /// `field` is wrong because of `reason`.
    pub fn new(field: &'static str, reason: impl ToString) -> Self {
        Self {
            field,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// An address and port.
///
/// # Errors
/// If the address is missing or the port is not 1 to 65535.
pub fn socket_addr_from_proto(
    field: &'static str,
    address: Option<net::TcpAddress>,
) -> Result<SocketAddr, InvalidMessage> {
    let address = address.ok_or_else(|| InvalidMessage::missing(field))?;
    let ip: IpAddr = address
        .ip
        .ok_or_else(|| InvalidMessage::missing(field))?
        .try_into()
        .map_err(|error| InvalidMessage::new(field, error))?;
    Ok(SocketAddr::new(ip, port_from_proto(field, address.port)?))
}

/// The message of an address and port.
#[must_use]
pub fn socket_addr_to_proto(address: SocketAddr) -> net::TcpAddress {
    net::TcpAddress {
        ip: Some(address.ip().into()),
        port: address.port().into(),
    }
}

/// A port number.
///
/// # Errors
/// If it is not 1 to 65535.
pub fn port_from_proto(field: &'static str, port: u32) -> Result<u16, InvalidMessage> {
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(InvalidMessage::new(field, format!("{port} is no port"))),
    }
}

fn parse<T>(field: &'static str, text: &str) -> Result<T, InvalidMessage>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| InvalidMessage::new(field, error))
}
