//! A request that is sent, and its answer.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Response, request::Parts};
use mesh_drive::{
    conduit::{Conduit, Version},
    exchange::{Answer, Broken, Exchange},
};
use mesh_http::{
    fault::{Code, ResetReason},
    head::{Head, Invalid},
};

use super::{
    Body, Incoming, convert,
    server::{copied, spoken},
    without_ours,
};

/// A request without an answer.
pub struct Unanswered {
    /// What happened.
    pub why: Broken,
    /// The request's body, if nobody has received the request and it is whole.
    pub unsent: Option<Body>,
}

impl Unanswered {
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

/// The head of a request whose URI is absolute, as it is sent.
///
/// # Errors
/// If it is none that can be sent.
pub fn head(parts: &Parts) -> Result<Head, Invalid> {
    convert::head_of_request(parts)
}

/// Sends a request on a connection of `version`, and waits for the answer.
///
/// # Errors
/// [`Unanswered`].
pub async fn send(
    connection: &Conduit,
    version: Version,
    head: &Head,
    body: Body,
) -> Result<Response<Incoming>, Unanswered> {
    let (exchange, outgoing) = begin(connection, head, body)?;
    let why = match final_answer(&exchange).await {
        Ok((head, end)) => match convert::response(&head, spoken(version)) {
            Ok(response) => return Ok(response.map(|()| Incoming::new(exchange, &head, end))),
            Err(_) => Broken::GivenUp,
        },
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

fn begin(
    connection: &Conduit,
    head: &Head,
    body: Body,
) -> Result<(Arc<Exchange>, Outgoing), Unanswered> {
    let Ok(exchange) = connection.open(head, body.is_over()) else {
        return Err(Unanswered {
            why: Broken::GivenUp,
            unsent: Some(body),
        });
    };
    let exchange = Arc::new(exchange);
    let outgoing = Outgoing::start(&exchange, body);
    Ok((exchange, outgoing))
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
    fn start(exchange: &Arc<Exchange>, body: Body) -> Self {
        match body {
            Body::Whole(bytes) => {
                send_whole(exchange, &bytes);
                Self::Whole(bytes)
            }
            Body::Incoming(mut incoming) => {
                incoming.ask_for_it();
                incoming.exchange.join(exchange, without_ours);
                Self::Joined(incoming)
            }
            // There is no such request.
            Body::Tunnel(_) => Self::Copied,
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

    /// The body, if nothing of it is gone.
    fn left(self) -> Option<Body> {
        match self {
            Self::Whole(bytes) => Some(Body::Whole(bytes)),
            Self::Joined(incoming) if !incoming.exchange.has_passed() => {
                Some(Body::Incoming(incoming))
            }
            Self::Joined(_) | Self::Copied => None,
        }
    }
}

/// Sends what fits at once, which is all of it as a rule, and the rest as it
/// can.
fn send_whole(exchange: &Arc<Exchange>, bytes: &Bytes) {
    if bytes.is_empty() {
        return;
    }
    let rest = bytes.slice(exchange.try_send(bytes, true)..);
    if !rest.is_empty() {
        let exchange = exchange.clone();
        // It ends with its stream; what goes wrong the answer tells as well.
        tokio::spawn(async move { exchange.send(&rest, true).await });
    }
}

async fn final_answer(exchange: &Exchange) -> Result<(Head, bool), Broken> {
    loop {
        if let Answer::Final { head, end } = exchange.answer().await? {
            return Ok((head, end));
        }
    }
}
