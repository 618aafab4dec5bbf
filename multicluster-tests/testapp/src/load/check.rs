//! Whether an answer is the one to the request.

use http::StatusCode;
use serde::Deserialize;

use super::tally::{From, Outcome, Wrong};
use crate::client::Answer;
use crate::failure::Failure;
use crate::grpc::client::Outcome as GrpcOutcome;
use crate::id::RequestId;

/// What an answer says of itself and of the request.
#[derive(Debug, Default, Deserialize)]
struct Echo {
    #[serde(flatten)]
    from: From,
    id: Option<String>,
    body_length: Option<u64>,
    /// Only short text comes back.
    body: Option<String>,
}

/// Checks an HTTP answer to a request with `body`. An error status is an
/// error whatever the body; statuses without a body have nothing to check.
pub(super) fn http(answer: &Answer, id: &RequestId, body: &[u8]) -> Outcome {
    let echo = serde_json::from_slice::<Echo>(&answer.body);
    if answer.status.as_u16() >= 400 {
        return refused(answer.status, echo.unwrap_or_default().from);
    }
    if let StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED = answer.status {
        return Outcome::Answered(From::default());
    }
    let echo = match echo {
        Ok(echo) => echo,
        Err(error) if error.is_eof() => return wrong(Wrong::Cut, From::default()),
        Err(_) => return wrong(Wrong::Body, From::default()),
    };
    let same_text = |text: &String| text.as_bytes() == body;
    if echo.id.as_deref() != Some(&id.to_string()) {
        wrong(Wrong::Id, echo.from)
    } else if echo.body_length != Some(body.len() as u64)
        || !echo.body.as_ref().is_none_or(same_text)
    {
        wrong(Wrong::Body, echo.from)
    } else {
        Outcome::Answered(echo.from)
    }
}

/// Checks the answer to a unary call that said `text`. Fails when the call was
/// not ended as gRPC ends it.
pub(super) fn grpc(answer: &Answer, id: &RequestId, text: &str) -> Result<Outcome, Failure> {
    if answer.status != StatusCode::OK {
        return Ok(refused(answer.status, From::default()));
    }
    match GrpcOutcome::of(answer) {
        Ok(outcome) => Ok(grpc_outcome(outcome, id, text)),
        Err(Failure::Cut) => Err(Failure::Cut),
        Err(_) => Ok(wrong(Wrong::Body, From::default())),
    }
}

fn grpc_outcome(mut outcome: GrpcOutcome, id: &RequestId, text: &str) -> Outcome {
    if outcome.status != "0" {
        return Outcome::Refused {
            cause: format!("grpc status {}", outcome.status),
            from: From::default(),
        };
    }
    let (Some(reply), None) = (outcome.replies.pop(), outcome.replies.pop()) else {
        return wrong(Wrong::Body, From::default());
    };
    let from = From {
        cluster: reply.cluster,
        pod: reply.pod,
    };
    if reply.id != id.to_string() {
        wrong(Wrong::Id, from)
    } else if reply.message != text {
        wrong(Wrong::Body, from)
    } else {
        Outcome::Answered(from)
    }
}

/// Checks what was heard of a TCP server: a line of JSON, and `said` again.
pub(super) fn tcp(heard: &[u8], id: &RequestId, said: &[u8]) -> Outcome {
    let Some((line, echo)) = split_line(heard) else {
        return wrong(Wrong::Cut, From::default());
    };
    let Ok(server) = serde_json::from_slice::<Echo>(line) else {
        return wrong(Wrong::Body, From::default());
    };
    if server.id.as_deref() != Some(&id.to_string()) {
        wrong(Wrong::Id, server.from)
    } else if echo == said {
        Outcome::Answered(server.from)
    } else if said.starts_with(echo) {
        wrong(Wrong::Cut, server.from)
    } else {
        wrong(Wrong::Body, server.from)
    }
}

/// Whether a TCP server has said all that it has to say.
pub(super) fn is_whole(heard: &[u8], said: &[u8]) -> bool {
    split_line(heard).is_some_and(|(_, echo)| echo.len() >= said.len())
}

fn split_line(heard: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = heard.iter().position(|&byte| byte == b'\n')?;
    Some((&heard[..end], &heard[end + 1..]))
}

/// The outcome of a request whose answer did not come, or not as a whole.
pub(super) fn failed(failure: Failure) -> Outcome {
    match failure {
        Failure::Cut => wrong(Wrong::Cut, From::default()),
        failure => Outcome::Failed(failure),
    }
}

/// Takes the answer for right whatever it says: only the protocol knows
/// whether another program's answer is whole.
pub(super) fn trusting(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Wrong { from, .. } => Outcome::Answered(from),
        other => other,
    }
}

fn refused(status: StatusCode, from: From) -> Outcome {
    Outcome::Refused {
        cause: format!("status {}", status.as_u16()),
        from,
    }
}

fn wrong(wrong: Wrong, from: From) -> Outcome {
    Outcome::Wrong { wrong, from }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Version};

    use super::*;

    fn id() -> RequestId {
        "r/7".parse().unwrap()
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            version: Version::HTTP_11,
            status: status.try_into().unwrap(),
            headers: HeaderMap::new(),
            trailers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    /// The words that an outcome is counted under.
    fn words(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Answered(from) => format!("ok from {}", from.pod),
            Outcome::Refused { cause, from } => format!("{cause} from {}", from.pod),
            Outcome::Wrong { wrong, .. } => wrong.to_string(),
            Outcome::Failed(failure) => format!("lost: {failure}"),
        }
    }

    #[test]
    fn http_answers_are_checked() {
        for (status, body, want) in [
            (
                200,
                r#"{"pod":"a","id":"r/7","body_length":2,"body":"hi"}"#,
                "ok from a",
            ),
            (
                200,
                r#"{"pod":"a","id":"r/7","body_length":2,"body":null}"#,
                "ok from a",
            ),
            (204, "", "ok from "),
            (
                200,
                r#"{"id":"r/8","body_length":2,"body":"hi"}"#,
                "wrong id",
            ),
            (200, r#"{"body_length":2,"body":"hi"}"#, "wrong id"),
            (
                200,
                r#"{"id":"r/7","body_length":2,"body":"ho"}"#,
                "wrong body",
            ),
            (200, r#"{"id":"r/7","body_length":3}"#, "wrong body"),
            (200, "ok", "wrong body"),
            (200, r#"{"id":"r/7","body_len"#, "answer cut short"),
            (200, "", "answer cut short"),
            (503, "no", "status 503 from "),
            (500, r#"{"pod":"a","id":"r/8"}"#, "status 500 from a"),
        ] {
            let got = http(&answer(status, body), &id(), b"hi");
            assert_eq!(words(&got), want, "{status} {body}");
        }
    }

    #[test]
    fn tcp_answers_are_checked() {
        let line = "{\"pod\":\"a\",\"id\":\"r/7\"}\n";
        for (heard, want) in [
            (format!("{line}hello"), "ok from a"),
            (format!("{line}hel"), "answer cut short"),
            (line.to_owned(), "answer cut short"),
            (line[..5].to_owned(), "answer cut short"),
            (format!("{line}holla"), "wrong body"),
            (format!("{line}hello!"), "wrong body"),
            ("what\n".to_owned(), "wrong body"),
            ("{\"id\":\"r/8\"}\nhello".to_owned(), "wrong id"),
        ] {
            let got = tcp(heard.as_bytes(), &id(), b"hello");
            assert_eq!(words(&got), want, "{heard}");
        }
    }

    #[test]
    fn an_answer_without_a_grpc_status_was_cut() {
        let cut = grpc(&answer(200, ""), &id(), "").unwrap_err();
        assert_eq!(words(&failed(cut)), "answer cut short");
        let refused = grpc(&answer(503, ""), &id(), "").unwrap();
        assert_eq!(words(&refused), "status 503 from ");
    }

    #[test]
    fn unchecked_answers_are_right_unless_they_are_errors() {
        for (status, body, want) in [
            (200, "ok", "ok from "),
            (200, "", "ok from "),
            (200, "[1, 2", "ok from "),
            (200, r#"{"pod":"a","id":"r/8"}"#, "ok from a"),
            (404, "", "status 404 from "),
        ] {
            let got = trusting(http(&answer(status, body), &id(), b""));
            assert_eq!(words(&got), want, "{status} {body}");
        }
    }
}
