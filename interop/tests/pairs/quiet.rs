//! A relay before A that keeps a server's pings to itself: h2spec takes any ping for
//! the answer to its own, though a server may ask when it likes (RFC 9113 §6.7).

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

const HEAD: usize = 9;
const PING: u8 = 6;
const ACK: u8 = 1;

/// Joins a client to a server, until both have ended, or one breaks off.
pub(crate) async fn relay(client: TcpStream, server: SocketAddr) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let up = async {
        copy(&mut from_client, &mut to_server).await?;
        Ok(to_server.shutdown().await?)
    };
    let down = without_pings(from_server, to_client);
    tokio::try_join!(up, down).map(drop)
}

/// Passes frames on, and whatever else comes.
async fn without_pings(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
    loop {
        let mut head = Vec::with_capacity(HEAD);
        (&mut from).take(HEAD as u64).read_to_end(&mut head).await?;
        let Some((length, kind, flags)) = parts(&head) else {
            // The end, or of another protocol.
            to.write_all(&head).await?;
            return Ok(to.shutdown().await?);
        };
        if kind == PING && flags & ACK == 0 {
            let mut ping = vec![0; length];
            from.read_exact(&mut ping).await.context("half a ping")?;
            continue;
        }
        to.write_all(&head).await?;
        copy(&mut (&mut from).take(length as u64), &mut to).await?;
    }
}

/// Length, kind and flags of a frame, if its head is there.
fn parts(head: &[u8]) -> Option<(usize, u8, u8)> {
    let [a, b, c, kind, flags, _, _, _, _] = *head else {
        return None;
    };
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    Some((length, kind, flags))
}
