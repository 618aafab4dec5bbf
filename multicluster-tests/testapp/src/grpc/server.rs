//! The echo service's side of a call.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::BytesMut;
use futures::{Stream, StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, request};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Limited, StreamBody};
use hyper::body::Incoming;

use super::{COUNT, EchoReply, EchoRequest, Header, SAY, frame};
use crate::behaviour::Behaviour;
use crate::echo::{Place, header_list};
use crate::id::RequestId;
use crate::seen::Seen;
use crate::serve::Body;

/// Replies of one `Count`, at most.
const MAX_REPLIES: u32 = 100_000;

/// Longest request that is read.
const MAX_REQUEST: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Ok = 0,
    InvalidArgument = 3,
    Unimplemented = 12,
    Unavailable = 14,
}

/// Answers one call. A behaviour with an error status gives `UNAVAILABLE`;
/// its latency is kept before each reply.
pub(crate) async fn answer(
    place: &Place,
    seen: &Seen,
    peer: SocketAddr,
    behaviour: &Behaviour,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let said = match read(body).await {
        Ok(said) => said,
        Err(reason) => return refusal(Code::InvalidArgument, &reason),
    };
    let replies = match head.uri.path() {
        SAY => 1,
        COUNT => said.replies.min(MAX_REPLIES),
        _ => return refusal(Code::Unimplemented, "no such method"),
    };
    let id = RequestId::of_headers(&head.headers);
    id.iter().for_each(|id| seen.note(id));
    if !behaviour.status(rand::random()).is_success() {
        tokio::time::sleep(behaviour.latency()).await;
        return refusal(Code::Unavailable, "as asked");
    }
    let latency = behaviour.latency();
    let reply = reply(place, peer, &head, said.message);
    let messages = stream::iter(0..replies).then(move |index| {
        let reply = EchoReply {
            index,
            ..reply.clone()
        };
        async move {
            tokio::time::sleep(latency).await;
            Frame::data(frame::encode(&reply))
        }
    });
    response(messages)
}

async fn read(body: Incoming) -> Result<EchoRequest, String> {
    let body = Limited::new(body, MAX_REQUEST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    frame::decode(&mut BytesMut::from(body))
        .map_err(|error| error.to_string())?
        .ok_or_else(|| "the message is not whole".to_owned())
}

fn reply(place: &Place, peer: SocketAddr, head: &request::Parts, message: String) -> EchoReply {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let headers = header_list(&head.headers).into_iter();
    EchoReply {
        message,
        index: 0,
        pod: place.pod.clone(),
        namespace: place.namespace.clone(),
        cluster: place.cluster.clone(),
        node: place.node.clone(),
        peer: peer.to_string(),
        authority: authority.unwrap_or_default().to_owned(),
        headers: headers
            .map(|(name, value)| Header { name, value })
            .collect(),
        id: RequestId::of_headers(&head.headers).map_or_else(String::new, |id| id.to_string()),
    }
}

fn response<S>(messages: S) -> Response<Body>
where
    S: Stream<Item = Frame<bytes::Bytes>> + Send + 'static,
{
    let trailers = stream::once(async { Frame::trailers(status(Code::Ok, "")) });
    let frames = messages.chain(trailers).map(Ok::<_, Infallible>);
    with_content_type(Response::new(StreamBody::new(frames).boxed_unsync()))
}

/// An answer without messages: the status stands in the head.
fn refusal(code: Code, reason: &str) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    response.headers_mut().extend(status(code, reason));
    with_content_type(response)
}

fn with_content_type(mut response: Response<Body>) -> Response<Body> {
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

fn status(code: Code, message: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    if let Ok(message) = HeaderValue::from_str(message)
        && !message.is_empty()
    {
        headers.insert("grpc-message", message);
    }
    headers
}
