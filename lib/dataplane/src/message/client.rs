//! A request that is sent, and its answer.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use mesh_drive::{
    conduit::Conduit,
    exchange::{Answer, Broken, Chunk, Exchange},
};
use mesh_http::{
    fault::{Code, ResetReason},
    head::Head,
};
use tokio::time::timeout;

use super::{Body, Incoming, Response, server::copied, without_ours};

/// A request without an answer.
pub struct Unanswered {
    /// What happened.
    pub why: Broken,
    /// The request's body, if nobody has received the request and it is whole.
    pub unsent: Option<Body>,
}

impl Unanswered {
    /// The code with which the server has given the request up, without an answer.
    #[must_use]
    pub const fn reset(why: Broken) -> Option<Code> {
        match why {
            Broken::Reset(ResetReason::Refused) => Some(Code::RefusedStream),
            Broken::Reset(ResetReason::Peer(code)) => Some(code),
            _ => None,
        }
    }

    /// The request is none that can be sent, wherever it goes.
    #[must_use]
    pub const fn at_fault() -> Self {
        Self {
            why: Broken::GivenUp,
            unsent: None,
        }
    }
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unanswered")
            .field("why", &self.why)
            .field("unsent", &self.unsent.is_some())
            .finish()
    }
}

/// A request that was sent.
pub struct Asked {
    exchange: Arc<Exchange>,
    outgoing: Outgoing,
    /// It was a CONNECT or an upgrade.
    is_for_tunnel: bool,
    /// It was a HEAD.
    is_for_head: bool,
    /// Who is told what comes before the answer.
    client: Option<Arc<Exchange>>,
}

impl Asked {
    /// Sends a request on a connection. What goes through a tunnel that it asks for
    /// is not its body, and waits for the answer.
    ///
    /// # Errors
    /// [`Unanswered`] if the connection takes none, or not this one.
    pub fn on(connection: &Conduit, head: &Head, body: Body) -> Result<Self, Unanswered> {
        let is_connect = head.is_connect();
        let is_for_tunnel = head.asks_for_tunnel();
        let Ok(exchange) = connection.open(head, body.is_over() && !is_connect) else {
            return Err(Unanswered {
                why: Broken::GivenUp,
                unsent: Some(body),
            });
        };
        let exchange = Arc::new(exchange);
        let outgoing = match body {
            Body::Whole(bytes) if is_connect => Outgoing::first(&exchange, bytes),
            body => Outgoing::start(&exchange, body, is_for_tunnel),
        };
        Ok(Self {
            exchange,
            outgoing,
            is_for_tunnel,
            is_for_head: head.method() == b"HEAD",
            client: None,
        })
    }

    /// The same, of whose informational answers `client` is told.
    #[must_use]
    pub fn telling(self, client: Option<Arc<Exchange>>) -> Self {
        Self { client, ..self }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn answer(self) -> Result<Response<Incoming>, Unanswered> {
        let Self {
            exchange,
            outgoing,
            is_for_tunnel,
            is_for_head,
            client,
        } = self;
        let awaits = outgoing.is_awaited();
        let answer = match final_answer(&exchange, client.as_deref(), awaits).await {
            Ok((head, false)) if is_for_head || matches!(head.status(), Some(204 | 304)) => {
                // Rare.
                let end = Box::pin(end_of_nothing(&exchange)).await;
                end.map(|()| (head, true))
            }
            answer => answer,
        };
        let why = match answer {
            Ok((head, end)) => {
                let is_tunnel = is_for_tunnel && exchange.is_tunnel();
                if is_for_tunnel && !is_tunnel {
                    // Nothing more is sent, which a CONNECT has left open.
                    let _ = exchange.try_send(&[], true);
                }
                let mut body = Incoming::new(exchange, &head, end);
                body.is_tunnel = is_tunnel;
                return Ok(Response { head, body });
            }
            Err(why) => why,
        };
        let refused = matches!(
            why,
            Broken::Reset(ResetReason::Refused | ResetReason::Peer(Code::RefusedStream))
        );
        let is_unsent = refused || exchange.is_unsent();
        Err(Unanswered {
            why,
            unsent: outgoing.left().filter(|_| is_unsent),
        })
    }
}

/// The request's body on its way.
enum Outgoing {
    Whole(Bytes),
    /// It goes by itself.
    Joined(Incoming),
    /// A task of its own sends it, and ends with its stream.
    Copied,
}

impl Outgoing {
    /// What is sent at once on a stream that goes on.
    fn first(exchange: &Arc<Exchange>, bytes: Bytes) -> Self {
        send_first(exchange, &bytes, false);
        Self::Whole(bytes)
    }

    fn start(exchange: &Arc<Exchange>, body: Body, is_for_tunnel: bool) -> Self {
        match body {
            Body::Whole(bytes) => {
                send_first(exchange, &bytes, true);
                Self::Whole(bytes)
            }
            Body::Incoming(incoming) => {
                // Of one that is over nothing is left to go, unless it asks for a tunnel.
                if !incoming.is_over || is_for_tunnel {
                    incoming.exchange.join(exchange, without_ours);
                }
                Self::Joined(incoming)
            }
            // There is no such request.
            Body::Tunnel(_) | Body::Reset(..) => Self::Copied,
            Body::Other(body) => {
                let exchange = exchange.clone();
                tokio::spawn(async move {
                    if copied(&exchange, body).await.is_err() {
                        exchange.reset(Code::Cancel);
                    }
                });
                Self::Copied
            }
        }
    }

    /// Whether its client waits to be asked for it.
    fn is_awaited(&self) -> bool {
        matches!(self, Self::Joined(incoming) if incoming.is_awaited() && !incoming.has_passed())
    }

    /// The body, if nothing of it is gone.
    fn left(self) -> Option<Body> {
        match self {
            Self::Whole(bytes) => Some(Body::Whole(bytes)),
            Self::Joined(incoming) if !incoming.has_passed() => Some(Body::Incoming(incoming)),
            Self::Joined(_) | Self::Copied => None,
        }
    }
}

/// Sends what fits at once, which is all of it as a rule, and the rest as it
/// can; with `end` nothing follows.
fn send_first(exchange: &Arc<Exchange>, bytes: &Bytes, end: bool) {
    if bytes.is_empty() {
        return;
    }
    let rest = bytes.slice(exchange.try_send(bytes, end)..);
    if !rest.is_empty() {
        let exchange = exchange.clone();
        // It ends with its stream; what goes wrong the answer tells as well.
        tokio::spawn(async move { exchange.send(&rest, end).await });
    }
}

/// How long a server may take to end what has no body.
const NOTHING: Duration = Duration::from_secs(5);

/// Waits for the end of a body that cannot be one, which servers of HTTP/2 may say in a
/// frame of its own.
async fn end_of_nothing(exchange: &Exchange) -> Result<(), Broken> {
    match timeout(NOTHING, exchange.chunk()).await {
        Ok(Ok(Chunk::End | Chunk::Trailers(_))) => Ok(()),
        Ok(Err(broken)) => Err(broken),
        Ok(Ok(Chunk::Data(_))) | Err(_) => Err(Broken::GivenUp),
    }
}

/// How long a server may take to ask for a body that its client keeps, or to answer;
/// then it is asked for without the server's word, which some servers never give and
/// some clients wait for without an end. (Others wait no longer than a second.)
const UNASKED: Duration = Duration::from_secs(2);

/// With `awaits` the client keeps its body until it is asked for it.
async fn final_answer(
    exchange: &Exchange,
    client: Option<&Exchange>,
    mut awaits: bool,
) -> Result<(Head, bool), Broken> {
    let mut was_asked_by_us = false;
    loop {
        let answer = if awaits {
            // Rare, and large.
            match Box::pin(timeout(UNASKED, exchange.answer())).await {
                Ok(answer) => answer?,
                Err(_) => {
                    (awaits, was_asked_by_us) = (false, true);
                    tell(client, Head::response(100).unwrap_or_default());
                    continue;
                }
            }
        } else {
            exchange.answer().await?
        };
        match answer {
            Answer::Final { head, end } => return Ok((head, end)),
            Answer::Informational(head) => {
                let asks = head.status() == Some(100);
                awaits &= !asks;
                // Once is enough.
                if !(asks && was_asked_by_us) {
                    tell(client, head);
                }
            }
        }
    }
}

/// Passes on what is said before the answer.
fn tell(client: Option<&Exchange>, mut head: Head) {
    if let Some(client) = client {
        without_ours(&mut head);
        // One that is gone shows elsewhere.
        let _ = client.send_head(&head, false);
    }
}
