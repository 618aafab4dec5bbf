//! TCP echo: one JSON line that says who answers, then every byte back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Context;
use crate::echo::TcpEcho;
use crate::id::{self, RequestId};

/// Says nothing until the client has sent something.
pub(super) async fn serve_client_first(
    cx: &Context,
    mut io: TcpStream,
    peer: SocketAddr,
) -> anyhow::Result<()> {
    let mut first = Vec::with_capacity(CHUNK);
    // Nearly always one read; a load's id may come in parts.
    while id::awaits_tcp_id(&first) {
        let read = tokio::select! {
            read = io.read_buf(&mut first) => read?,
            () = cx.draining.cancelled() => 0,
        };
        if read == 0 {
            break;
        }
    }
    if first.is_empty() {
        return Ok(());
    }
    let id = RequestId::of_tcp(&first);
    id.iter().for_each(|id| cx.seen.note(id));
    greet(cx, &mut io, peer, id).await?;
    io.write_all(&first).await?;
    echo(cx, io).await
}

/// Sends the JSON line at once.
pub(super) async fn serve_server_first(
    cx: &Context,
    mut io: TcpStream,
    peer: SocketAddr,
) -> anyhow::Result<()> {
    greet(cx, &mut io, peer, None).await?;
    echo(cx, io).await
}

async fn greet(
    cx: &Context,
    io: &mut TcpStream,
    peer: SocketAddr,
    id: Option<RequestId>,
) -> anyhow::Result<()> {
    let line = TcpEcho {
        place: &cx.place,
        id: id.map(|id| id.to_string()),
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
