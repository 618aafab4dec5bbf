//! `testapp grpc`: calls to the echo service.

use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use serde_json::json;
use tokio::time::Instant;

use super::{COUNT, EchoReply, EchoRequest, SAY, frame};
use crate::NO_ANSWER;
use crate::args::GrpcArgs;
use crate::client::{Answer, Call, Protocol, Url, exchange};
use crate::dial::Dialer;
use crate::failure::Failure;

/// Prints a JSON line per reply. Exits with 1 when a call ended with an error
/// status, with 3 when one had no answer.
pub(crate) async fn run(args: GrpcArgs) -> anyhow::Result<ExitCode> {
    let call = call(&args).map_err(anyhow::Error::msg)?;
    let calls = if args.stream.is_some() { 1 } else { args.count };
    let dialer = Dialer::from_system();
    let mut connection = None;
    let mut worst = 0;
    for _ in 0..calls {
        let deadline = Instant::now() + args.timeout;
        let outcome = exchange(&mut connection, &dialer, &call, deadline)
            .await
            .and_then(|answer| Outcome::of(&answer));
        worst = worst.max(print(outcome));
    }
    Ok(ExitCode::from(worst))
}

fn call(args: &GrpcArgs) -> Result<Call, String> {
    let path = if args.stream.is_some() { COUNT } else { SAY };
    let replies = args.stream.unwrap_or(1);
    call_of(&args.address, path, &args.message, replies, &args.headers)
}

/// A unary call.
pub(crate) fn say(address: &str, message: &str, headers: &[Metadata]) -> Result<Call, String> {
    call_of(address, SAY, message, 1, headers)
}

type Metadata = (HeaderName, HeaderValue);

fn call_of(
    address: &str,
    path: &'static str,
    message: &str,
    replies: u32,
    headers: &[Metadata],
) -> Result<Call, String> {
    let message = EchoRequest {
        message: message.to_owned(),
        replies,
    };
    let own = [
        (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (
            HeaderName::from_static("te"),
            HeaderValue::from_static("trailers"),
        ),
    ];
    Ok(Call {
        url: Url::at(address, path)?,
        protocol: Protocol::Http2,
        method: Method::POST,
        headers: own.into_iter().chain(headers.iter().cloned()).collect(),
        body: frame::encode(&message),
    })
}

/// How a call ended: its replies, its status and the status's message.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) replies: Vec<EchoReply>,
    pub(crate) status: String,
    message: String,
}

impl Outcome {
    /// The status stands in the trailers, or in the head of an answer without
    /// messages. An answer with none, or with a part of a message, was cut.
    pub(crate) fn of(answer: &Answer) -> Result<Self, Failure> {
        let text = |name: &str| {
            let value = answer
                .trailers
                .get(name)
                .or_else(|| answer.headers.get(name))?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Ok(Self {
            replies: replies(&answer.body)?,
            status: text("grpc-status").ok_or(Failure::Cut)?,
            message: text("grpc-message").unwrap_or_default(),
        })
    }
}

fn replies(body: &Bytes) -> Result<Vec<EchoReply>, Failure> {
    let mut left = BytesMut::from(body.as_ref());
    let mut replies = Vec::new();
    while let Some(reply) = frame::decode(&mut left).map_err(|_| Failure::Protocol)? {
        replies.push(reply);
    }
    if left.is_empty() {
        Ok(replies)
    } else {
        Err(Failure::Cut)
    }
}

fn print(outcome: Result<Outcome, Failure>) -> u8 {
    match outcome {
        Ok(Outcome {
            replies,
            status,
            message,
        }) => {
            for reply in replies {
                println!("{}", json!(reply));
            }
            if status == "0" {
                return 0;
            }
            println!(
                "{}",
                json!({ "error": format!("grpc status {status}"), "message": message })
            );
            1
        }
        Err(failure) => {
            println!("{}", json!({ "error": failure }));
            NO_ANSWER
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode, Version};

    use super::*;

    fn answer(trailers: &[(&'static str, &'static str)], body: &[u8]) -> Answer {
        Answer {
            version: Version::HTTP_2,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            trailers: trailers
                .iter()
                .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect(),
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn replies_and_status_are_read_from_an_answer() {
        let reply = EchoReply {
            message: "hello".into(),
            ..EchoReply::default()
        };
        let body = [frame::encode(&reply), frame::encode(&reply)].concat();
        let outcome = Outcome::of(&answer(&[("grpc-status", "0")], &body)).unwrap();
        assert_eq!(outcome.replies, [reply.clone(), reply]);
        assert_eq!(outcome.status, "0");
    }

    #[test]
    fn a_cut_answer_is_a_failure() {
        let whole = frame::encode(&EchoReply {
            index: 1,
            ..EchoReply::default()
        });
        let cut = &whole[..whole.len() - 1];
        for (trailers, body) in [(&[][..], &whole[..]), (&[("grpc-status", "0")][..], cut)] {
            assert_eq!(Outcome::of(&answer(trailers, body)), Err(Failure::Cut));
        }
    }
}
