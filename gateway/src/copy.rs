//! Bytes between an HTTP/2 stream and a TCP connection, unread.
//!
//! A tunnel that is silent holds no buffer: towards the upstream the frames
//! that arrived are written as they are, and from the upstream one is taken
//! only when there is something to read and the client has room for it.

use std::{future::poll_fn, io};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use crate::metrics::Carried;

/// The most that is read at once.
const CHUNK: usize = 32 * 1024;

/// Why copying ended before both ways had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The client reset the stream, or its connection is gone.
    #[error("client: {0}")]
    Client(#[from] h2::Error),
    /// The upstream connection failed.
    #[error("upstream: {0}")]
    Upstream(#[from] io::Error),
}

/// Copies until both ways have ended; the end of one is passed on while the
/// other goes on.
pub(crate) async fn copy(
    send: &mut SendStream<Bytes>,
    receive: &mut RecvStream,
    upstream: &mut TcpStream,
    carried: &Carried,
) -> Result<(), Broken> {
    let (read, write) = upstream.split();
    tokio::try_join!(
        up(receive, write, &carried.up),
        down(&read, send, &carried.down),
    )?;
    Ok(())
}

/// From the client to the upstream.
async fn up(
    receive: &mut RecvStream,
    mut upstream: WriteHalf<'_>,
    carried: &Counter,
) -> Result<(), Broken> {
    while let Some(data) = receive.data().await {
        let data = data?;
        upstream.write_all(&data).await?;
        let count = data.len();
        // The client may send as much more as the upstream has taken.
        receive.flow_control().release_capacity(count)?;
        carried.inc_by(u64::try_from(count).unwrap_or_default());
    }
    upstream.shutdown().await?;
    Ok(())
}

/// From the upstream to the client.
async fn down(
    upstream: &ReadHalf<'_>,
    send: &mut SendStream<Bytes>,
    carried: &Counter,
) -> Result<(), Broken> {
    loop {
        tokio::select! {
            readable = upstream.readable() => readable?,
            reset = poll_fn(|cx| send.poll_reset(cx)) => return Err(h2::Error::from(reset?).into()),
        }
        let room = room(send).await?;
        let mut buffer = BytesMut::with_capacity(room).limit(room);
        match upstream.try_read_buf(&mut buffer) {
            Ok(0) => {
                send.send_data(Bytes::new(), true)?;
                return Ok(());
            }
            Ok(count) => {
                carried.inc_by(u64::try_from(count).unwrap_or_default());
                // Of the read's own size: a queued frame keeps its whole buffer.
                let data = Bytes::copy_from_slice(buffer.get_ref());
                send.send_data(data, false)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        // While we wait, the connection's window belongs to the others.
        send.reserve_capacity(0);
    }
}

/// Waits until the client has room, and says for how many bytes.
async fn room(send: &mut SendStream<Bytes>) -> Result<usize, h2::Error> {
    send.reserve_capacity(CHUNK);
    loop {
        let room = send.capacity().min(CHUNK);
        if room > 0 {
            return Ok(room);
        }
        match poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(granted) => {
                granted?;
            }
            None => return Err(Reason::STREAM_CLOSED.into()),
        }
    }
}
