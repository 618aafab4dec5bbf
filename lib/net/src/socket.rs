//! Connections: options, and connecting within a deadline.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::timeout};

/// A silent peer is asked for a sign of life after this, and then this often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const RETRIES: u32 = 3;
/// Sent bytes that nobody acknowledges for so long end the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Sets what every connection of the data path has: no delay of small
/// segments, and detection of dead peers. What a listener accepts has it from the
/// listener.
///
/// # Errors
/// If the kernel refuses, which means that the connection is already gone.
pub(crate) fn tune<'s>(socket: impl Into<SockRef<'s>>) -> io::Result<()> {
    let socket = socket.into();
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE)
        .with_retries(RETRIES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Connects within `deadline`; the connection does not delay small segments, and
/// detects dead peers.
///
/// # Errors
/// `TimedOut` when the deadline passes, else what the kernel says.
pub async fn connect(address: SocketAddr, deadline: Duration) -> io::Result<TcpStream> {
    let stream = timeout(deadline, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    tune(&stream)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::listen;

    #[tokio::test]
    async fn options_are_set() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connected = connect(address, Duration::from_secs(5)).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for stream in [&connected, &accepted] {
            let socket = SockRef::from(stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEP_ALIVE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEP_ALIVE);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), RETRIES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        }
    }

    #[tokio::test]
    async fn nobody_there_is_refused_at_once() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let refused = connect(address, Duration::from_secs(5)).await;
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
