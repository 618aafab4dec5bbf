//! The gRPC service `testapp.v1.Echo`, written over HTTP/2 by hand: two
//! methods need no generated code.
//!
//! ```proto
//! service Echo {
//!   rpc Say(EchoRequest) returns (EchoReply);
//!   rpc Count(EchoRequest) returns (stream EchoReply);
//! }
//! ```

pub(crate) mod client;
mod frame;
pub(crate) mod server;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use prost::Message;
use serde::Serialize;

/// Path of the unary method.
const SAY: &str = "/testapp.v1.Echo/Say";
/// Path of the server-streaming method.
const COUNT: &str = "/testapp.v1.Echo/Count";

/// Whether a request says that it is gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// What the client says.
#[derive(Clone, PartialEq, Message)]
struct EchoRequest {
    #[prost(string, tag = "1")]
    message: String,
    /// Replies wanted from `Count`.
    #[prost(uint32, tag = "2")]
    replies: u32,
}

/// What the server saw, and who it is.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(crate) struct EchoReply {
    #[prost(string, tag = "1")]
    pub(crate) message: String,
    /// Number of the reply in its call, from 0.
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(string, tag = "3")]
    pub(crate) pod: String,
    #[prost(string, tag = "4")]
    namespace: String,
    #[prost(string, tag = "5")]
    pub(crate) cluster: String,
    #[prost(string, tag = "6")]
    node: String,
    #[prost(string, tag = "7")]
    peer: String,
    #[prost(string, tag = "8")]
    authority: String,
    #[prost(message, repeated, tag = "9")]
    headers: Vec<Header>,
    /// The id of a call of a load.
    #[prost(string, tag = "10")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) id: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}
