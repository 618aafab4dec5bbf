//! Messages on their way through: heads as the engine has them, and bodies that
//! go straight from one connection to another where nobody has to look at them.
//!
//! What has to look at a head closely finds it as the `http` crate's in
//! [`convert`].

mod client;
pub mod convert;
mod server;
pub mod upgrade;

use std::{
    error::Error as StdError,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use mesh_drive::{
    buffers,
    conduit::Version,
    exchange::{Broken, Carried, Chunk, Exchange},
};
use mesh_http::{fault::Code, head::Head, limits::Limits};
use mesh_wire::forward::is_ours;

use crate::limits::Bounds;

pub use self::{
    client::{Asked, Unanswered},
    server::serve,
};

/// What a body can fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What connections bear of which nothing else was said.
#[must_use]
pub fn limits() -> Arc<Limits> {
    static LIMITS: LazyLock<Arc<Limits>> = LazyLock::new(|| Bounds::default().clients());
    LIMITS.clone()
}

/// A request that has come.
pub struct Request {
    /// Its head, without what concerns the client's connection.
    pub head: Head,
    /// What its client speaks.
    pub version: Version,
    /// Its body.
    pub body: Incoming,
}

/// An answer.
pub struct Response<B = Body> {
    /// Status and fields, without what concerns the server's connection.
    pub head: Head,
    /// Its body.
    pub body: B,
}

impl<B> Response<B> {
    /// Its status; 0 if it has none, which no connection sends.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status().unwrap_or_default()
    }

    /// The same head with another body.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Response<C> {
        Response {
            head: self.head,
            body: change(self.body),
        }
    }
}

/// The body of a message on its way through.
pub enum Body {
    /// All of it is here.
    Whole(Bytes),
    /// It comes on another connection.
    Incoming(Incoming),
    /// The answer to a CONNECT or an upgrade that was agreed to: what follows are
    /// the bytes of another protocol.
    Tunnel(Tunnel),
    /// There is no answer: the stream is reset with this code. Where there are no
    /// streams, the text is the body.
    Reset(Code, Bytes),
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
            Self::Tunnel(_) | Self::Reset(..) => false,
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
    /// A client waits for a 100 before it sends it, and was sent none by us.
    is_awaited: bool,
    /// It is none, but the bytes of another protocol.
    is_tunnel: bool,
}

impl Incoming {
    fn new(exchange: Arc<Exchange>, head: &Head, is_over: bool) -> Self {
        Self {
            exchange,
            length: head.content_length(),
            is_over,
            is_awaited: !is_over && head.status().is_none() && head.expects_continue(),
            is_tunnel: false,
        }
    }

    /// What an answer goes on with.
    #[must_use]
    pub fn into_body(self) -> Body {
        if self.is_tunnel {
            Body::Tunnel(Tunnel {
                server: self.exchange,
                over: Box::new(|_| ()),
            })
        } else {
            Body::Incoming(self)
        }
    }

    /// The stream that it comes on.
    #[must_use]
    pub const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether its client waits to be told that it is wanted: by the server that
    /// the request goes to (RFC 9110 §10.1.1), or by us if it is read here.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// Another hand on it, for a request that is sent again if nothing of it
    /// [has passed](Self::has_passed).
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            exchange: self.exchange.clone(),
            ..*self
        }
    }

    /// Whether something of it has gone on to a server.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.exchange.has_passed()
    }

    /// How long all of it is, in bytes, if its sender has said so.
    #[must_use]
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// All that is left of it; trailers are lost. It is for bodies whose
    /// [`length`](Self::length) is known and small.
    ///
    /// # Errors
    /// If it breaks off before its end.
    pub async fn whole(mut self) -> Result<Bytes, Broken> {
        let mut whole = Vec::new();
        self.ask_for_it();
        while !self.is_over {
            match self.exchange.chunk().await? {
                Chunk::Data(data) => {
                    whole.extend_from_slice(&data);
                    buffers::give_back_output(data);
                }
                Chunk::End | Chunk::Trailers(_) => self.is_over = true,
            }
        }
        Ok(whole.into())
    }

    /// The first `length` bytes of a stream that goes on, if no more than those are
    /// sent yet.
    ///
    /// # Errors
    /// If it ends or breaks off before, or more has come.
    pub async fn beginning(self, length: usize) -> Result<Bytes, Broken> {
        let mut beginning = Vec::new();
        while beginning.len() < length {
            match self.exchange.chunk().await? {
                Chunk::Data(data) => {
                    beginning.extend_from_slice(&data);
                    buffers::give_back_output(data);
                }
                Chunk::End | Chunk::Trailers(_) => return Err(Broken::GivenUp),
            }
        }
        if beginning.len() > length {
            return Err(Broken::GivenUp);
        }
        Ok(beginning.into())
    }

    /// Asks a client that waits for it to send the body, which is read here.
    fn ask_for_it(&mut self) {
        if std::mem::take(&mut self.is_awaited)
            && let Ok(head) = Head::response(100)
        {
            // A client that is gone will not send it either.
            let _ = self.exchange.send_head(&head, false);
        }
    }
}

/// Bytes of another protocol, between the client's stream and this one.
pub struct Tunnel {
    /// The stream to the server.
    pub server: Arc<Exchange>,
    /// Told how many bytes went each way, if it ended well.
    pub over: Box<dyn FnOnce(Carried) + Send + Sync>,
}

impl Tunnel {
    /// The same, whose end `told` is told before, if it ends well. It is dropped
    /// when the tunnel is over, in whatever way.
    #[must_use]
    pub fn telling(self, told: impl FnOnce(Carried) + Send + Sync + 'static) -> Self {
        let Self { server, over } = self;
        let over = Box::new(move |carried| {
            told(carried);
            over(carried);
        });
        Self { server, over }
    }
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
            Self::Whole(bytes) | Self::Reset(_, bytes) => {
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
            Self::Whole(bytes) | Self::Reset(_, bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Tunnel(_) => SizeHint::default(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

/// Takes out of a head or trailers what only our own programs may say.
pub fn without_ours(head: &mut Head) {
    head.retain(|name, _| !is_ours(name));
}
