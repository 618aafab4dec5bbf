//! A request that is sent, and its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use mesh_drive::{
    conduit::{Conduit, Version},
    exchange::{Answer, Broken, Exchange},
};
use mesh_http::{
    fault::{Code, ResetReason},
    head::Head,
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
    /// The request, if nobody has received it and it is still whole.
    pub unsent: Option<Box<Request<Body>>>,
    /// Whether nobody has received it, whatever is left of it here.
    pub is_unsent: bool,
}

/// Sends a request on a connection of `version`; its URI must be absolute.
///
/// # Errors
/// [`Unanswered`].
pub async fn request(
    connection: &Conduit,
    version: Version,
    request: Request<Body>,
) -> Result<Response<Incoming>, Unanswered> {
    let (parts, body) = request.into_parts();
    let Ok(head) = convert::head_of_request(&parts) else {
        // It is at fault, wherever it goes.
        return Err(broken(Broken::GivenUp));
    };
    let Ok(exchange) = connection.open(&head, body.is_over()) else {
        return Err(unsent(Broken::GivenUp, parts, body));
    };
    let exchange = Arc::new(exchange);
    let outgoing = Outgoing::start(&exchange, body);
    let answer = final_answer(&exchange).await;
    let answered = answer.and_then(|(head, end)| {
        let response = convert::response(&head, spoken(version));
        let response = response.map_err(|_| Broken::GivenUp)?;
        Ok(response.map(|()| Incoming::new(exchange.clone(), &head, end)))
    });
    answered.map_err(|why| {
        let refused = matches!(
            why,
            Broken::Reset(ResetReason::Refused | ResetReason::Peer(Code::RefusedStream))
        );
        let is_unsent = refused || exchange.is_unsent();
        match outgoing.left().filter(|_| is_unsent) {
            Some(body) => unsent(why, parts, body),
            None => Unanswered {
                is_unsent,
                ..broken(why)
            },
        }
    })
}

const fn broken(why: Broken) -> Unanswered {
    Unanswered {
        why,
        unsent: None,
        is_unsent: false,
    }
}

fn unsent(why: Broken, parts: Parts, body: Body) -> Unanswered {
    Unanswered {
        why,
        unsent: Some(Box::new(Request::from_parts(parts, body))),
        is_unsent: true,
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
