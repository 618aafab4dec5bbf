//! The life of a request: endpoint, attempt, answer, and another endpoint when
//! nobody has received it.

mod attempt;
mod head;

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use mesh_dataplane::peer::Body;
use tokio::time::timeout;

use self::{
    attempt::{Failed, send},
    head::prepare,
};
use super::{
    Outbound,
    balancer::Tried,
    route::{self, Sending},
    target::Target,
};
use crate::{
    access::Went,
    body::{RequestBody, answer as our_answer},
};

/// Endpoints tried for one request, and the time in which they are.
const ATTEMPTS: usize = 6;
const DEADLINE: Duration = Duration::from_secs(10);
/// The pause before the next attempt when every endpoint has just failed.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers one request of the application.
pub(crate) async fn answer(
    outbound: Arc<Outbound>,
    target: Target,
    request: Request<Incoming>,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    if head.method == Method::CONNECT {
        return our_answer(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not carried");
    }
    if let Err(problem) = prepare(&mut head) {
        return our_answer(StatusCode::BAD_REQUEST, problem);
    }
    let limit = route::time_limit(&target.current(), &head);
    let answering = pin!(attempts(&outbound, &target, &head, body));
    match limit {
        None => answering.await,
        Some(limit) => timeout(limit, answering).await.unwrap_or_else(|_| {
            outbound.metrics.refused("outbound", "timeout");
            our_answer(
                StatusCode::GATEWAY_TIMEOUT,
                "there was no answer within the route's time-out",
            )
        }),
    }
}

/// Tries one endpoint after the other until one answers.
async fn attempts(
    outbound: &Arc<Outbound>,
    target: &Target,
    head: &Parts,
    body: Incoming,
) -> Response<Body> {
    let Ok(mut body) = RequestBody::of(body).await else {
        return our_answer(StatusCode::BAD_REQUEST, "the request's body broke off");
    };
    let mut journey = Journey::new();
    for attempt in 0..ATTEMPTS {
        let state = target.current();
        let sending = match route::decide(&state, head, &journey.tried, Instant::now()) {
            Ok(sending) => sending,
            Err(instead) => return instead.answer(&outbound.metrics),
        };
        let (this, kept) = body.attempt();
        let failed = match send(outbound, &sending, head, this).await {
            Ok(response) => return answered(outbound, &sending, response),
            Err(failed) => failed,
        };
        body = match journey.again(&sending, head, failed, kept) {
            Ok(body) => body,
            Err(message) => return our_answer(StatusCode::BAD_GATEWAY, message),
        };
        if journey.is_over() {
            break;
        }
        rest(attempt).await;
    }
    let message = "no endpoint could be reached";
    match journey.last {
        Some(why) => our_answer(StatusCode::BAD_GATEWAY, &format!("{message}: {why}")),
        None => our_answer(StatusCode::BAD_GATEWAY, message),
    }
}

/// Where a request has been in vain.
struct Journey {
    start: Instant,
    tried: Tried,
    /// Somebody may have received it, and it was sent again.
    is_repeated: bool,
    /// Why the last endpoint could not be reached.
    last: Option<String>,
}

impl Journey {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            tried: Tried::default(),
            is_repeated: false,
            last: None,
        }
    }

    /// The body for another attempt; an error if there must be none.
    fn again(
        &mut self,
        sending: &Sending<'_>,
        head: &Parts,
        failed: Failed,
        kept: Option<RequestBody>,
    ) -> Result<RequestBody, &'static str> {
        self.tried.add(sending.endpoint.clone());
        match failed {
            Failed::Received(message) => {
                // Doing it twice is as good as once (RFC 9110 §9.2.2); a third
                // time would be a storm.
                let may_repeat = head.method.is_idempotent() && !self.is_repeated;
                self.is_repeated = true;
                kept.filter(|_| may_repeat).ok_or(message)
            }
            Failed::Unsent { body, why } => {
                self.last = Some(why);
                let whole = kept.or_else(|| body.map(RequestBody::Streaming));
                whole.ok_or("the endpoint is gone")
            }
        }
    }

    fn is_over(&self) -> bool {
        self.start.elapsed() > DEADLINE
    }
}

/// Before the next attempt, but for the first of them.
async fn rest(attempt: usize) {
    if attempt > 0 {
        tokio::time::sleep(PAUSE * u32::try_from(attempt).unwrap_or(1)).await;
    }
}

/// The answer as the application gets it, counted.
fn answered(
    outbound: &Outbound,
    sending: &Sending<'_>,
    mut response: Response<Body>,
) -> Response<Body> {
    let labels = &sending.backend.labels;
    outbound.metrics.answered(labels, response.status());
    if let Some(changes) = &sending.changes {
        changes.apply_to_answer(&mut response);
    }
    if let Some(went) = Went::out(labels, sending.endpoint.endpoint()) {
        response.extensions_mut().insert(went);
    }
    response
}
