//! Messages of the data path's engine as the `http` crate's types: heads of
//! requests and answers, and bodies that go straight from one connection to
//! another where nobody has to look at them.

mod client;
mod convert;
mod server;

use std::{
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use mesh_drive::exchange::{Chunk, Exchange};
use mesh_http::{head::Head, limits::Limits};
use mesh_wire::forward::is_ours;

pub use self::{
    client::{Unanswered, request},
    server::serve,
};

/// What a body can fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;
/// Ends when what it watches over may not go on.
pub type Watch = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Bytes under way of all streams of a connection that may wait for slow readers.
const UNCONSUMED: usize = 32 << 20;
/// Streams of one connection at one time.
const MOST_STREAMS: u32 = 2000;
/// A connection to a server that nobody used for so long is closed.
/// Applications close theirs after 5 s or more; whoever closes first spares the
/// other a surprise.
const KEPT: Duration = Duration::from_secs(4);

/// What connections bear that requests come in on, and those between sidecars.
#[must_use]
pub fn limits() -> Arc<Limits> {
    Arc::new(own_limits())
}

/// What connections to servers bear.
#[must_use]
pub fn limits_of_kept() -> Arc<Limits> {
    Arc::new(Limits {
        idle_time: KEPT,
        ..own_limits()
    })
}

fn own_limits() -> Limits {
    Limits {
        connection_unconsumed: UNCONSUMED,
        streams: MOST_STREAMS,
        ..Limits::default()
    }
}

/// The body of a message on its way through.
pub enum Body {
    /// All of it is here.
    Whole(Bytes),
    /// It comes on another connection.
    Incoming(Incoming),
    /// The answer to a CONNECT: what follows are the bytes of another protocol.
    Tunnel(Tunnel),
    /// Anything else.
    Other(BoxBody<Bytes, BoxError>),
}

impl Body {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Incoming(incoming) => incoming.is_over,
            Self::Tunnel(_) => false,
            Self::Other(body) => body.is_end_stream(),
        }
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Self {
        Self::Whole(bytes.into())
    }
}

/// A body that comes on a connection.
pub struct Incoming {
    exchange: Arc<Exchange>,
    length: Option<u64>,
    is_over: bool,
    /// A client waits for a 100 before it sends it.
    is_awaited: bool,
    watch: Option<Watch>,
}

impl Incoming {
    fn new(exchange: Arc<Exchange>, head: &Head, is_over: bool) -> Self {
        Self {
            exchange,
            length: head.content_length(),
            is_over,
            is_awaited: !is_over && head.status().is_none() && head.expects_continue(),
            watch: None,
        }
    }

    /// The same, broken off when `watch` ends.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self {
            watch: Some(watch),
            ..self
        }
    }

    /// Its stream. Nothing of it was read here.
    #[must_use]
    pub fn into_exchange(self) -> Arc<Exchange> {
        self.exchange
    }

    /// Asks a client that waits for it to send the body (RFC 9110 §10.1.1).
    fn ask_for_it(&mut self) {
        if std::mem::take(&mut self.is_awaited)
            && let Ok(head) = Head::response(100)
        {
            // A client that is gone will not send it either.
            let _ = self.exchange.send_head(&head, false);
        }
    }
}

/// Bytes of another protocol, between the stream of a CONNECT and this one.
pub struct Tunnel {
    /// The connection to the server.
    pub server: Exchange,
    /// Cuts it when it ends.
    pub watch: Watch,
    /// Told how many bytes went each way, if it ended well.
    pub over: Box<dyn FnOnce(mesh_drive::exchange::Carried) + Send + Sync>,
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Some(watch) = &mut this.watch
            && watch.as_mut().poll(cx).is_ready()
        {
            this.is_over = true;
            return Poll::Ready(Some(Err("it may not go on".into())));
        }
        this.ask_for_it();
        let chunk = ready!(this.exchange.poll_chunk(cx));
        Poll::Ready(match chunk {
            Ok(Chunk::Data(data)) => Some(Ok(Frame::data(data.into()))),
            Ok(Chunk::End) => {
                this.is_over = true;
                None
            }
            Ok(Chunk::Trailers(mut head)) => {
                this.is_over = true;
                without_ours(&mut head);
                Some(Ok(Frame::trailers(convert::fields(&head))))
            }
            Err(broken) => {
                this.is_over = true;
                Some(Err(broken.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Tunnel(_) => Poll::Ready(None),
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Tunnel(_) => SizeHint::default(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

/// Takes out of trailers what only our own programs may say.
fn without_ours(trailers: &mut Head) {
    trailers.retain(|name, _| !std::str::from_utf8(name).is_ok_and(is_ours));
}
