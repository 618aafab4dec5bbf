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

/// A connection that does not leave the machine has no path that could be congested: what
/// the system has for those that do, pacing by timers for one, only costs. The kernel always
/// has this one, and lets everybody use it unless somebody has forbidden that.
pub(crate) fn stays_here<'s>(socket: impl Into<SockRef<'s>>) {
    let _ = socket.into().set_tcp_congestion(b"reno");
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
    if stream.local_addr()?.ip() == address.ip() {
        stays_here(&stream);
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

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

    /// The algorithm of a connection to an address and of one that listens there.
    async fn congestion_control(listens: &str, connects: &str) -> [String; 2] {
        let listener = listen(format!("{listens}:0").parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = format!("{connects}:{port}").parse().unwrap();
        let connected = connect(address, Duration::from_secs(5)).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        [connected, accepted].map(|stream| algorithm((&stream).into()))
    }

    fn algorithm(socket: SockRef<'_>) -> String {
        let name = String::from_utf8(socket.tcp_congestion().unwrap()).unwrap();
        name.trim_end_matches('\0').to_owned()
    }

    #[tokio::test]
    async fn what_stays_on_this_machine_is_not_paced() {
        let here = congestion_control("127.0.0.1", "127.0.0.1").await;
        assert_eq!(here, ["reno"; 2]);
        // From another address, to one that others may reach, too.
        let system = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let system = algorithm((&system).into());
        let away = congestion_control("0.0.0.0", "127.0.0.2").await;
        assert_eq!(away, [system.clone(), system]);
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
