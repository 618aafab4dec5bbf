//! Where a redirected connection wanted to go.

use std::{io, net::SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination that the client of this accepted connection dialled, before
/// the kernel's rules redirected it. A connection that was not redirected
/// gives its own local address.
///
/// # Errors
/// If the kernel keeps no record of the connection.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = canonical(stream.local_addr()?);
    let recorded = if local.is_ipv4() {
        socket.original_dst_v4()?
    } else {
        socket.original_dst_v6()?
    };
    let address = recorded.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok(canonical(address))
}

/// The address without IPv4-in-IPv6 mapping: one spelling per address.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_have_one_spelling() {
        let canon = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(canon("[::ffff:10.0.0.1]:80"), "10.0.0.1:80");
        assert_eq!(canon("[fd00::1]:80"), "[fd00::1]:80");
        assert_eq!(canon("10.0.0.1:80"), "10.0.0.1:80");
    }
}
