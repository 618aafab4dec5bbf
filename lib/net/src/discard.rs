//! What a peer sends and nobody wants.

use std::{
    io,
    os::fd::AsRawFd as _,
    task::{Context, Poll, ready},
};

use nix::sys::socket::{MsgFlags, recv};
use tokio::{io::Interest, net::TcpStream};

/// Throws away what has come, as much as there is room for at most, and says how much
/// that was: 0 at the end of the stream. Nothing is written to `room`: the kernel
/// only takes its length (`MSG_TRUNC`, tcp(7)), which costs much less than to read.
///
/// # Errors
/// If the socket fails.
pub fn poll_discard(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let discarded = socket.try_io(Interest::READABLE, || {
            Ok(recv(socket.as_raw_fd(), room, MsgFlags::MSG_TRUNC)?)
        });
        match discarded {
            // It was only thought to have some.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            discarded => return Poll::Ready(discarded),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn all_until_the_end_is_thrown_away_and_nothing_is_written() {
        const ALL: usize = 1 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let writing = tokio::spawn(async move {
            client.write_all(b"read").await.unwrap();
            client.write_all(&vec![1; ALL]).await.unwrap();
        });
        let mut first = [0; 4];
        server.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"read");
        let mut room = [7; 10_000];
        let mut discarded = 0;
        loop {
            let now = poll_fn(|cx| poll_discard(&server, cx, &mut room))
                .await
                .unwrap();
            assert!(now <= room.len());
            discarded += now;
            if now == 0 {
                break;
            }
        }
        assert_eq!(discarded, ALL);
        assert!(room.iter().all(|byte| *byte == 7));
        writing.await.unwrap();
    }
}
