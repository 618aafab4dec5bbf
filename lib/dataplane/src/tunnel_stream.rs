//! The bytes of a tunnel through a gateway, as a reader and writer.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use mesh_drive::{
    exchange::{Answer, Exchange},
    stream::ByteStream,
};
use mesh_http::head::Head;
use mesh_wire::mesh1;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The two directions of a tunnel.
///
/// One that was just opened may be written to before the gateway has answered;
/// its first read waits for the answer, and fails when that is a refusal. The
/// gateway may send more as bytes are read. Shutting down ends our direction
/// only; dropping the stream before resets it.
pub struct TunnelStream {
    bytes: ByteStream,
    gateway: Gateway,
}

/// What the gateway has said.
enum Gateway {
    Nothing,
    Yes,
    No(TunnelRefused),
}

impl TunnelStream {
    /// A tunnel that was asked for on `exchange`.
    pub(crate) const fn asked(exchange: Exchange) -> Self {
        Self {
            bytes: ByteStream::new(exchange),
            gateway: Gateway::Nothing,
        }
    }

    /// Waits until the gateway has agreed.
    fn poll_agreed(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        while matches!(self.gateway, Gateway::Nothing) {
            let answer = ready!(self.bytes.exchange().poll_answer(cx));
            let answer =
                answer.map_err(|broken| io::Error::new(io::ErrorKind::ConnectionReset, broken))?;
            if let Answer::Final { head, .. } = answer {
                self.gateway = TunnelRefused::by(&head).map_or(Gateway::Yes, Gateway::No);
            }
        }
        Poll::Ready(match &self.gateway {
            Gateway::Nothing | Gateway::Yes => Ok(()),
            Gateway::No(refused) => Err(refused.clone().into()),
        })
    }
}

impl fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelStream").finish_non_exhaustive()
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_agreed(cx))?;
        Pin::new(&mut self.bytes).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.bytes).poll_write(cx, bytes));
        if written.is_err()
            && let Poll::Ready(Err(refused)) = self.poll_agreed(cx)
        {
            // That is why.
            return Poll::Ready(Err(refused));
        }
        Poll::Ready(written)
    }

    mesh_net::pass_ends!(bytes);
}

/// The gateway answered with something else than success: not one byte went
/// further.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the gateway refused the tunnel: {status}{}", reason_text(*reason))]
pub struct TunnelRefused {
    /// The status of the answer.
    pub status: StatusCode,
    /// Why, where the gateway said so.
    pub reason: Option<mesh1::Reason>,
}

impl TunnelRefused {
    /// What a gateway's answer says, if it is a refusal.
    pub(crate) fn by(answer: &Head) -> Option<Self> {
        let status = StatusCode::from_u16(answer.status().unwrap_or_default());
        let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
        let reason = answer.get_single(mesh1::ERROR.as_bytes());
        (!status.is_success()).then(|| Self {
            status,
            reason: reason.and_then(mesh1::Reason::from_value),
        })
    }
}

impl From<TunnelRefused> for io::Error {
    fn from(refused: TunnelRefused) -> Self {
        Self::new(io::ErrorKind::ConnectionRefused, refused)
    }
}

fn reason_text(reason: Option<mesh1::Reason>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({})", reason.as_str()))
}
