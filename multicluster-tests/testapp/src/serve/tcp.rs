//! TCP echo: one JSON line that says who answers, then every byte back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Context;
use crate::echo::TcpEcho;

/// Says nothing until the client has sent something.
pub(super) async fn serve_client_first(
    cx: &Context,
    mut io: TcpStream,
    peer: SocketAddr,
) -> anyhow::Result<()> {
    let mut first = vec![0; CHUNK];
    let read = tokio::select! {
        read = io.read(&mut first) => read?,
        () = cx.draining.cancelled() => 0,
    };
    if read == 0 {
        return Ok(());
    }
    greet(cx, &mut io, peer).await?;
    io.write_all(&first[..read]).await?;
    echo(cx, io).await
}

/// Sends the JSON line at once.
pub(super) async fn serve_server_first(
    cx: &Context,
    mut io: TcpStream,
    peer: SocketAddr,
) -> anyhow::Result<()> {
    greet(cx, &mut io, peer).await?;
    echo(cx, io).await
}

async fn greet(cx: &Context, io: &mut TcpStream, peer: SocketAddr) -> anyhow::Result<()> {
    let line = TcpEcho {
        place: &cx.place,
        peer,
    }
    .render();
    io.write_all(&line).await?;
    Ok(())
}

/// Echoes until the client ends its direction or the server drains. What was
/// read is always written: the read alone is dropped by the drain.
async fn echo(cx: &Context, mut io: TcpStream) -> anyhow::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = io.read(&mut buffer) => read?,
            () = cx.draining.cancelled() => 0,
        };
        if read == 0 {
            io.shutdown().await?;
            return Ok(());
        }
        io.write_all(&buffer[..read]).await?;
    }
}

const CHUNK: usize = 16 << 10;
