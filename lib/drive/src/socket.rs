//! What a driver needs of a socket.

use mesh_net::replay::Replay;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};

use crate::buffers;

/// A stream of bytes that can also be broken off.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Room beyond what is wanted that makes reading it cheaper.
    const SLACK: usize = 0;

    /// From now on closing it means a reset: what the peer has is not all there
    /// was to be.
    fn break_off(&self);

    /// The socket from which these bytes come as they are: what nobody wants can be
    /// thrown away there.
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}

impl Socket for TcpStream {
    fn break_off(&self) {
        // A socket that is closed already needs no reset.
        let _ = self.set_zero_linger();
    }

    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// Its end is all that the other end sees.
impl Socket for DuplexStream {
    fn break_off(&self) {}
}

impl<IO: Socket> Socket for Replay<IO> {
    fn break_off(&self) {
        self.get_ref().break_off();
    }

    fn plain(&self) -> Option<&TcpStream> {
        self.get_ref().plain()
    }
}

/// A stream whose reader takes its end for an error if no goodbye came before,
/// as TLS does: to close it is to break it off.
pub struct Sealed<IO>(pub IO);

impl<IO: AsyncRead + AsyncWrite + Unpin> Socket for Sealed<IO> {
    /// A record is opened where it is to be only if all of it has room there.
    const SLACK: usize = buffers::SEALS;

    fn break_off(&self) {}
}

impl<IO: AsyncRead + Unpin> AsyncRead for Sealed<IO> {
    mesh_net::pass_reads!(0);
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Sealed<IO> {
    mesh_net::pass_writes!(0);
}
