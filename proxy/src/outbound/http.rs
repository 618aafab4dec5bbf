//! The life of a request: endpoint, attempt, answer, and another endpoint when
//! nobody has received it.

mod attempt;
pub(crate) mod head;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use mesh_dataplane::message::{Incoming, Request, Response};
use mesh_http::fault::Code;
use tokio::time::{sleep, timeout};

use self::{
    attempt::{Failed, send},
    head::Asking,
};
use super::{
    Outbound,
    balancer::Tried,
    route::{self, Sending},
    target::Target,
};
use crate::{
    access::{Line, answered as logged},
    body::{RequestBody, answer as our_answer, reset},
    tunnel,
};

/// Endpoints tried for one request, and the time after which a request that
/// nobody has received is not tried once more.
const ATTEMPTS: usize = 6;
const DEADLINE: Duration = Duration::from_secs(10);
/// The pause before the next attempt when every endpoint has just failed.
const PAUSE: Duration = Duration::from_millis(50);
const UNREACHABLE: &str = "no endpoint could be reached";

/// Answers one request of the application, and logs it.
pub(crate) async fn answer(outbound: Arc<Outbound>, target: Target, request: Request) -> Response {
    let mut line = Line::request("outbound", "", &request.head);
    let response = prepared(&outbound, &target, request, &mut line).await;
    logged(line, response)
}

async fn prepared(
    outbound: &Arc<Outbound>,
    target: &Target,
    request: Request,
    line: &mut Option<Line>,
) -> Response {
    let Request {
        mut head,
        version,
        body,
    } = request;
    let prepared = tunnel::prepare(&mut head, &body).and_then(|()| Asking::prepared(head, version));
    let Ok(asking) = prepared else {
        return our_answer(StatusCode::BAD_REQUEST, "the request cannot be carried");
    };
    let asking = asking.of(Some(body.exchange()));
    let limit = route::time_limit(&target.current(), &asking);
    let Some(limit) = limit else {
        return attempts(outbound, target, asking, body, line).await;
    };
    let answering = Box::pin(attempts(outbound, target, asking, body, line));
    let answered = timeout(limit, answering).await;
    answered.unwrap_or_else(|_| {
        outbound.metrics.refused("outbound", "timeout");
        our_answer(
            StatusCode::GATEWAY_TIMEOUT,
            "there was no answer within the route's time-out",
        )
    })
}

/// Tries one endpoint after the other until one answers.
async fn attempts(
    outbound: &Arc<Outbound>,
    target: &Target,
    mut asking: Asking,
    body: Incoming,
    line: &mut Option<Line>,
) -> Response {
    let mut body = if asking.head.is_connect() {
        // What comes is for the tunnel.
        RequestBody::none()
    } else {
        match RequestBody::of(body).await {
            Ok(body) => body,
            Err(_) => {
                return our_answer(StatusCode::BAD_REQUEST, "the request's body broke off");
            }
        }
    };
    let start = Instant::now();
    let mut journey = Journey::of(&asking);
    for attempt in 0..ATTEMPTS {
        rest(attempt).await;
        let state = target.current();
        let now = if attempt == 0 { start } else { Instant::now() };
        let sending = match route::decide(&state, &asking, &journey.tried, now) {
            Ok(sending) => sending,
            // It is not repeated, and somebody may have received it.
            Err(_) if journey.received.is_some() => break,
            Err(instead) => return instead.answer(&outbound.metrics),
        };
        let this = body.attempt();
        let failed = match send(outbound, &sending, &mut asking, this, now).await {
            Ok(response) => return answered(outbound, &sending, response, line),
            Err(failed) => failed,
        };
        journey.tried.add(sending.endpoint.clone());
        body = match journey.again(failed, body, start.elapsed()) {
            Some(body) => body,
            None => break,
        };
    }
    match journey.reset {
        Some(code) => reset(code, journey.message()),
        None => our_answer(StatusCode::BAD_GATEWAY, journey.message()),
    }
}

/// Where a request has been in vain.
struct Journey {
    tried: Tried,
    /// Doing it twice is as good as once (RFC 9110 §9.2.2).
    is_idempotent: bool,
    /// Somebody may have received it, and this came of it.
    received: Option<&'static str>,
    /// The last server that did has reset its stream.
    reset: Option<Code>,
    /// Why nobody has received it at the last endpoint.
    unsent: Option<String>,
}

impl Journey {
    fn of(asking: &Asking) -> Self {
        Self {
            tried: Tried::default(),
            is_idempotent: asking.is_idempotent(),
            received: None,
            reset: None,
            unsent: None,
        }
    }

    /// The body for another attempt, if there may be one; the request is
    /// `age` old.
    fn again(&mut self, failed: Failed, body: RequestBody, age: Duration) -> Option<RequestBody> {
        match failed {
            // However long it took: most of that was the wait for an answer. A
            // third time would be a storm.
            Failed::Received { message, reset } => {
                self.reset = reset;
                let is_first = self.received.replace(message).is_none();
                let again = is_first && self.is_idempotent && body.is_repeatable();
                again.then_some(body)
            }
            Failed::Unsent { why } => {
                let is_whole = body.is_whole();
                self.unsent = Some(if is_whole {
                    format!("{UNREACHABLE}: {why}")
                } else {
                    "the endpoint is gone".to_owned()
                });
                (is_whole && age <= DEADLINE).then_some(body)
            }
        }
    }

    /// What the application is told. That somebody may have received its
    /// request comes before all that is learnt later.
    fn message(&self) -> &str {
        let unsent = self.unsent.as_deref();
        self.received.or(unsent).unwrap_or(UNREACHABLE)
    }
}

/// Before an attempt, but for those that come at once: even a sleep of no length
/// takes until the timer's next tick.
async fn rest(attempt: usize) {
    let pause = pause_before(attempt);
    if !pause.is_zero() {
        sleep(pause).await;
    }
}

/// The first attempt, and the one after it, come at once.
fn pause_before(attempt: usize) -> Duration {
    PAUSE * u32::try_from(attempt.saturating_sub(1)).unwrap_or(1)
}

/// The answer as the application gets it, counted.
fn answered(
    outbound: &Outbound,
    sending: &Sending<'_>,
    mut response: Response,
    line: &mut Option<Line>,
) -> Response {
    let labels = &sending.backend.labels;
    outbound.metrics.answered(labels, response.status());
    if let Some(changes) = &sending.changes {
        changes.apply_to_answer(&mut response.head);
    }
    if let Some(line) = line {
        line.went(labels, sending.endpoint.endpoint());
    }
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mesh_drive::conduit::Version;
    use mesh_http::head::Head;

    use super::*;

    fn journey(method: &str) -> Journey {
        let head = Head::request(method, "web", "/").unwrap();
        Journey::of(&Asking::prepared(head, Version::Http1).unwrap())
    }

    fn kept() -> RequestBody {
        RequestBody::Kept(Bytes::new())
    }

    fn broken() -> Failed {
        Failed::Received {
            message: "the endpoint broke off",
            reset: None,
        }
    }

    fn unsent() -> Failed {
        Failed::Unsent {
            why: "closed".to_owned(),
        }
    }

    const LATE: Duration = DEADLINE.saturating_mul(2);

    #[test]
    fn r12_what_broke_off_late_is_repeated_once_all_the_same() {
        let mut journey = journey("GET");
        assert!(journey.again(broken(), kept(), LATE).is_some());
        assert!(journey.again(broken(), kept(), LATE).is_none());
        assert_eq!(journey.message(), "the endpoint broke off");
    }

    #[test]
    fn r4_what_somebody_may_have_received_is_never_said_to_be_unsent() {
        let mut repeated = journey("GET");
        assert!(repeated.again(broken(), kept(), LATE).is_some());
        assert!(repeated.again(unsent(), kept(), LATE).is_none());
        assert_eq!(repeated.message(), "the endpoint broke off");
        let mut post = journey("POST");
        assert!(post.again(unsent(), kept(), Duration::ZERO).is_some());
        assert!(post.again(broken(), kept(), Duration::ZERO).is_none());
        assert_eq!(post.message(), "the endpoint broke off");
    }

    #[test]
    fn r3_what_nobody_has_received_is_tried_again_until_the_deadline() {
        let mut journey = journey("POST");
        assert!(journey.again(unsent(), kept(), DEADLINE).is_some());
        assert!(journey.again(unsent(), kept(), LATE).is_none());
        assert_eq!(journey.message(), "no endpoint could be reached: closed");
    }

    #[test]
    fn attempts_come_after_pauses_and_nothing_comes_after_the_last() {
        let pauses: Vec<_> = (0..ATTEMPTS).map(|n| pause_before(n).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 50, 100, 150, 200]);
    }
}
