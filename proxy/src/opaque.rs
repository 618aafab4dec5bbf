//! Bytes of other protocols, from one connection to another.

use mesh_dataplane::message;
use mesh_drive::{
    conduit::{self, Ended},
    exchange::{Broken, Carried, Exchange, as_they_are},
    socket::Socket,
    stream::ByteStream,
};
use mesh_http::fault::Code;
use tokio::task::JoinHandle;

/// A connection of another protocol, or a stream of `mesh/1` that carries one.
pub(crate) struct Opaque {
    exchange: Exchange,
    /// Drives its socket, if it has one of its own.
    life: Option<JoinHandle<Ended>>,
}

impl Opaque {
    /// A connection.
    pub(crate) fn of(socket: impl Socket + Send + 'static) -> Self {
        let (exchange, life) = conduit::bytes(socket, message::limits());
        Self {
            exchange,
            life: Some(tokio::spawn(life)),
        }
    }

    /// A stream that both sides have agreed to.
    pub(crate) fn on(stream: ByteStream) -> Self {
        Self {
            exchange: stream.into_exchange(),
            life: None,
        }
    }

    /// Waits until what was taken last is written.
    async fn written(self) {
        drop(self.exchange);
        if let Some(life) = self.life {
            let _ = life.await;
        }
    }
}

/// Carries bytes both ways until both have ended; from the first one's view. The
/// end of one way is passed on as a half-close while the other goes on, and a
/// reset as a reset. Who lets go of it before the end cuts both.
pub(crate) async fn join(client: Opaque, server: Opaque) -> Result<Carried, Broken> {
    let client = Cut(client);
    client.0.exchange.join(&server.exchange, as_they_are);
    server.exchange.join(&client.0.exchange, as_they_are);
    let over = client.0.exchange.over().await;
    let carried = client.0.exchange.carried();
    server.written().await;
    client.written().await;
    over.map(|()| carried)
}

/// Broken off when it is let go, if it is not over by then.
struct Cut(Opaque);

impl Cut {
    async fn written(mut self) {
        if let Some(life) = self.0.life.take() {
            let _ = life.await;
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.exchange.reset(Code::Cancel);
    }
}
