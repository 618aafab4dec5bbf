//! How a load's requests reach their server.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::check;
use super::pool::Pool;
use super::tally::Outcome;
use crate::args::{LoadArgs, LoadProtocol};
use crate::client::{Call, Protocol};
use crate::dial::Dialer;
use crate::failure::Failure;
use crate::grpc;
use crate::id::RequestId;

/// One server, spoken to in one protocol.
pub(super) struct Route {
    speech: Speech,
    unchecked: bool,
}

enum Speech {
    Http {
        pool: Pool,
        call: Call,
    },
    Grpc {
        pool: Pool,
        call: Call,
        text: String,
    },
    Tcp(Tcp),
}

/// A connection per request.
struct Tcp {
    dialer: Dialer,
    permits: Semaphore,
    host: String,
    port: u16,
    text: String,
}

/// What gRPC and TCP requests say, unless told otherwise.
const TEXT: &str = "hello";

impl Route {
    /// The error says what is wrong with the target.
    pub(super) fn new(args: &LoadArgs) -> Result<Self, String> {
        let dialer = Dialer::from_system();
        let connections = args.connections();
        let text = args.message.data.clone().unwrap_or_else(|| TEXT.to_owned());
        let http = |dialer, protocol| {
            let call = Call::new(args.target.parse()?, protocol, &args.message);
            let pool = Pool::new(dialer, protocol, connections);
            Ok::<_, String>(Speech::Http { pool, call })
        };
        let speech = match args.protocol() {
            LoadProtocol::Http1 => http(dialer, Protocol::Http1)?,
            LoadProtocol::Http2 => http(dialer, Protocol::Http2)?,
            LoadProtocol::Grpc => Speech::Grpc {
                pool: Pool::new(dialer, Protocol::Http2, connections),
                call: grpc::client::say(&args.target, &text, &args.message.headers)?,
                text,
            },
            LoadProtocol::Tcp => {
                let (host, port) = args.target.rsplit_once(':').ok_or("want host:port")?;
                Speech::Tcp(Tcp {
                    dialer,
                    permits: Semaphore::new(connections),
                    host: host.to_owned(),
                    port: port.parse().map_err(|error| format!("port: {error}"))?,
                    text,
                })
            }
        };
        Ok(Self {
            speech,
            unchecked: args.unchecked,
        })
    }

    /// One request, from the wait for a connection to the verdict on its
    /// answer.
    pub(super) async fn send(&self, id: &RequestId, deadline: Instant) -> Outcome {
        match self.answered(id, deadline).await {
            Ok(outcome) if self.unchecked => check::trusting(outcome),
            Ok(outcome) => outcome,
            Err(failure) => check::failed(failure),
        }
    }

    async fn answered(&self, id: &RequestId, deadline: Instant) -> Result<Outcome, Failure> {
        match &self.speech {
            Speech::Http { pool, call } => {
                let answer = pool.send(&call.with_id(id), deadline).await?;
                Ok(check::http(&answer, id, &call.body))
            }
            Speech::Grpc { pool, call, text } => {
                let answer = pool.send(&call.with_id(id), deadline).await?;
                check::grpc(&answer, id, text)
            }
            Speech::Tcp(tcp) if self.unchecked => {
                let said = tcp.text.as_bytes();
                let heard = tcp.send(said, deadline, |heard| !heard.is_empty()).await?;
                Ok(check::tcp(&heard, id, said))
            }
            Speech::Tcp(tcp) => {
                let said = [&id.tcp_line()[..], tcp.text.as_bytes()].concat();
                let whole = |heard: &[u8]| check::is_whole(heard, &said);
                let heard = tcp.send(&said, deadline, whole).await?;
                Ok(check::tcp(&heard, id, &said))
            }
        }
    }
}

impl Tcp {
    /// Says `said` on a connection of its own and gives what is heard until
    /// it is `whole`, or the connection ends.
    async fn send(
        &self,
        said: &[u8],
        deadline: Instant,
        whole: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        let _permit = timeout_at(deadline, self.permits.acquire())
            .await
            .map_err(|_| Failure::Timeout)?;
        let io = self.dialer.connect(&self.host, self.port, deadline).await?;
        timeout_at(deadline, talk(io, said, whole))
            .await
            .map_err(|_| Failure::Timeout)?
    }
}

/// A failure when nothing at all was heard.
async fn talk(
    mut io: TcpStream,
    said: &[u8],
    whole: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, Failure> {
    let write = io.write_all(said).await;
    let mut heard = Vec::new();
    let mut end = write.err();
    while end.is_none() && !whole(&heard) && heard.len() < MAX_HEARD {
        match io.read_buf(&mut heard).await {
            Ok(0) if heard.is_empty() => return Err(Failure::Closed),
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => end = Some(error),
        }
    }
    match end {
        Some(error) if heard.is_empty() => Err(Failure::of_io(&error)),
        _ => Ok(heard),
    }
}

/// Longest answer of a TCP server.
const MAX_HEARD: usize = 1 << 20;
