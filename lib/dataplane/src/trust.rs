//! How long a connection lives: no longer than trust in its peer.
//!
//! When the root that vouched for a peer is taken away, the connection takes
//! nothing new, and a moment later it ends, whatever still runs on it. When
//! only the peer's certificate has ended, what runs may go on.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use mesh_tls::{Clock, PeerChain, Tls};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::sleep,
};

/// Connections that have to go do so within this time, not all at once.
const SPREAD: Duration = Duration::from_secs(10);
/// What runs on one may take so long to end after that.
const GRACE: Duration = Duration::from_secs(30);
/// The clock is looked at so often: it may have been set.
const CLOCK: Duration = Duration::from_secs(300);

/// Our trust in the peer of one connection.
pub struct Standing {
    tls: Tls,
    /// None if it showed no certificate.
    peer: Option<PeerChain>,
}

impl Standing {
    /// Trust in `peer`, as `tls` has it now and later.
    #[must_use]
    pub fn new(tls: &Tls, peer: Option<PeerChain>) -> Self {
        Self {
            tls: tls.clone(),
            peer,
        }
    }

    /// Returns when the connection should take nothing new. Cancel safe.
    pub async fn leave(&self) {
        let Some(peer) = &self.peer else {
            return std::future::pending().await;
        };
        tokio::select! {
            () = self.tls.distrusted(peer.clone()) => {}
            () = reached(peer.valid_until(), self.tls.clock()) => {}
        }
        sleep(SPREAD.mul_f64(rand::random())).await;
    }

    /// Returns when the connection must end. Cancel safe.
    pub async fn end(&self) {
        let Some(peer) = &self.peer else {
            return std::future::pending().await;
        };
        self.tls.distrusted(peer.clone()).await;
        sleep(GRACE).await;
    }

    /// Drives `connection` until it ends by itself, or must. `leave` is called
    /// when it should take nothing new.
    pub async fn drive<C: Future + ?Sized>(
        &self,
        mut connection: Pin<&mut C>,
        leave: impl FnOnce(),
    ) -> Option<C::Output> {
        tokio::select! {
            ended = connection.as_mut() => return Some(ended),
            () = self.leave() => leave(),
        }
        tokio::select! {
            ended = connection => Some(ended),
            () = self.end() => None,
        }
    }
}

/// Whether a connection takes nothing new. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaving(Arc<AtomicBool>);

impl Leaving {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose reads fail once its peer is not trusted any more: for
/// connections that are opened again as a matter of course.
pub struct Trusted<S> {
    stream: S,
    distrusted: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Trusted<S> {
    /// `stream`, for as long as its peer is trusted.
    pub fn new(stream: S, standing: Standing) -> Self {
        let distrusted = async move {
            let Some(peer) = standing.peer else {
                return std::future::pending().await;
            };
            standing.tls.distrusted(peer).await;
            sleep(SPREAD.mul_f64(rand::random())).await;
        };
        Self {
            stream,
            distrusted: Some(Box::pin(distrusted)),
        }
    }

    fn poll_distrusted(&mut self, cx: &mut Context<'_>) -> bool {
        let over = match &mut self.distrusted {
            Some(distrusted) => distrusted.as_mut().poll(cx).is_ready(),
            None => true,
        };
        if over {
            self.distrusted = None;
        }
        over
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Trusted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_distrusted(cx) {
            let why = "nobody vouches for the peer any more";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Trusted<S> {
    mesh_net::pass_writes!(stream);
}

/// Returns when `clock` says `moment`.
async fn reached(moment: SystemTime, clock: Clock) {
    while let Ok(left) = moment.duration_since(clock.now()) {
        sleep(left.clamp(Duration::from_millis(1), CLOCK)).await;
    }
}

#[cfg(test)]
mod tests {
    use mesh_testing::ca::{TestRoot, id};
    use mesh_tls::{ALPN_H2, Trust};
    use tokio::{
        io::{AsyncReadExt as _, duplex},
        time::Instant,
    };

    use super::*;

    const WEB: &str = "spiffe://west/ns/shop/sa/web";

    /// A client, its connection, and what it thinks of the server.
    async fn met(root: &TestRoot) -> (Tls, mesh_tls::Session<tokio::io::DuplexStream>) {
        let (client, server) = (root.tls(WEB), root.tls(WEB));
        let (near, far) = duplex(65_536);
        let expected = [id(WEB)];
        let (connected, accepted) = tokio::join!(
            client.connect(near, &expected, None, ALPN_H2),
            server.accept(far, ALPN_H2)
        );
        // The server stays silent, and stays.
        std::mem::forget(accepted.expect("trusted"));
        (client, connected.expect("trusted"))
    }

    #[tokio::test(start_paused = true)]
    async fn t5_a_connection_under_a_root_that_is_gone_ends_within_a_minute() {
        let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
        let (tls, stream) = met(&old).await;
        let standing = Standing::new(
            &tls,
            PeerChain::of_server(&stream, &tls.trust(), tls.clock().now()),
        );
        let both = [new.bundle(), old.bundle()].concat();
        let west = || id(WEB).trust_domain().clone();
        tls.set_trust(Trust::new(west(), &both).unwrap());
        let mut connection = std::pin::pin!(std::future::pending::<()>());
        let early = standing.drive(connection.as_mut(), || panic!("it is trusted"));
        assert!(
            tokio::time::timeout(Duration::from_secs(3600), early)
                .await
                .is_err()
        );

        tls.set_trust(new.trust());
        let (start, mut left) = (Instant::now(), None);
        let ended = standing.drive(connection, || left = Some(start.elapsed()));
        assert!(ended.await.is_none());
        assert!(left.unwrap() <= SPREAD, "it takes nothing new: {left:?}");
        assert!(start.elapsed() <= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn t5_a_stream_to_a_peer_that_is_not_trusted_any_more_breaks() {
        let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
        let (tls, stream) = met(&old).await;
        let standing = Standing::new(
            &tls,
            PeerChain::of_server(&stream, &tls.trust(), tls.clock().now()),
        );
        let mut stream = Trusted::new(stream, standing);
        tls.set_trust(new.trust());
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(stream.read_u8().await.is_err());
    }
}
