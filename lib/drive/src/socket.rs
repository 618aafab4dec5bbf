//! What a driver needs of a socket.

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};

/// A stream of bytes that can also be broken off.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// From now on closing it means a reset: what the peer has is not all there
    /// was to be.
    fn break_off(&self);
}

impl Socket for TcpStream {
    fn break_off(&self) {
        // A socket that is closed already needs no reset.
        let _ = self.set_zero_linger();
    }
}

/// Its end is all that the other end sees.
impl Socket for DuplexStream {
    fn break_off(&self) {}
}
