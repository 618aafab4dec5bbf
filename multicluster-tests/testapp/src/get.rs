//! `testapp get`: requests one after the other, answers on standard output.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::NO_ANSWER;
use crate::args::GetArgs;
use crate::client::{Answer, Call, exchange};
use crate::dial::Dialer;
use crate::echo::{header_list, version_name};
use crate::failure::Failure;

/// Exits with 0 when every answer's status was below 400, with 1 when one was
/// not, with 3 when a request had no answer.
pub(crate) async fn run(args: GetArgs) -> anyhow::Result<ExitCode> {
    let dialer = Dialer::from_system();
    let call = Call::from(&args.request);
    let render = if args.json { as_json } else { as_text };
    let mut connection = None;
    let mut worst = 0;
    for _ in 0..args.count {
        if args.new_connections {
            connection = None;
        }
        let start = Instant::now();
        let outcome = exchange(&mut connection, &dialer, &call, start + args.timeout).await;
        print!("{}", render(&outcome, start.elapsed()));
        worst = worst.max(severity(&outcome));
    }
    Ok(ExitCode::from(worst))
}

fn severity(outcome: &Result<Answer, Failure>) -> u8 {
    match outcome {
        Ok(answer) if answer.status.as_u16() < 400 => 0,
        Ok(_) => 1,
        Err(_) => NO_ANSWER,
    }
}

fn as_text(outcome: &Result<Answer, Failure>, took: Duration) -> String {
    let mut text = String::new();
    let written = match outcome {
        Ok(answer) => {
            let body = String::from_utf8_lossy(&answer.body);
            let version = version_name(answer.version);
            writeln!(text, "{version} {}\n{}", answer.status, body.trim_end())
        }
        Err(failure) => writeln!(text, "error: {failure} after {}ms", took.as_millis()),
    };
    written.expect("a string takes any text");
    text
}

fn as_json(outcome: &Result<Answer, Failure>, took: Duration) -> String {
    let latency_ms = took.as_secs_f64() * 1e3;
    let line = match outcome {
        Ok(answer) => json!({
            "status": answer.status.as_u16(),
            "version": version_name(answer.version),
            "headers": header_list(&answer.headers),
            "trailers": header_list(&answer.trailers),
            "body": body_value(&answer.body),
            "latency_ms": latency_ms,
        }),
        Err(failure) => json!({ "error": failure, "latency_ms": latency_ms }),
    };
    format!("{line}\n")
}

/// The body's JSON, or its text when it is none.
fn body_value(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode, Version};

    use super::*;

    fn answer(status: StatusCode, body: &'static str) -> Result<Answer, Failure> {
        Ok(Answer {
            version: Version::HTTP_11,
            status,
            headers: HeaderMap::from_iter([(
                http::header::SERVER,
                http::HeaderValue::from_static("x"),
            )]),
            trailers: HeaderMap::new(),
            body: body.into(),
        })
    }

    #[test]
    fn text_is_a_status_line_and_the_body() {
        let took = Duration::from_millis(12);
        let ok = answer(StatusCode::OK, "{\"pod\":\"a\"}");
        assert_eq!(as_text(&ok, took), "HTTP/1.1 200 OK\n{\"pod\":\"a\"}\n");
        let refused = as_text(&Err(Failure::Refused), took);
        assert_eq!(refused, "error: connection refused after 12ms\n");
    }

    #[test]
    fn json_is_one_line_with_the_body_inside() {
        let took = Duration::from_millis(2);
        let line = as_json(&answer(StatusCode::OK, "{\"pod\":\"a\"}"), took);
        let got: Value = serde_json::from_str(&line).unwrap();
        let want = json!({
            "status": 200, "version": "HTTP/1.1", "headers": [["server", "x"]], "trailers": [],
            "body": {"pod": "a"}, "latency_ms": 2.0,
        });
        assert_eq!(got, want);
        let line = as_json(&Err(Failure::Refused), took);
        assert_eq!(
            line,
            "{\"error\":\"connection refused\",\"latency_ms\":2.0}\n"
        );
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_outcome() {
        assert_eq!(severity(&answer(StatusCode::FOUND, "")), 0);
        assert_eq!(severity(&answer(StatusCode::SERVICE_UNAVAILABLE, "")), 1);
        assert_eq!(severity(&Err(Failure::Reset)), 3);
    }
}
