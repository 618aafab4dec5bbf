//! Command-line flags and environment variables; nothing else reads them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tracing_subscriber::filter::Targets;

use crate::client::{Protocol, Url};
use crate::duration::parse_duration;
use crate::echo::Place;
use crate::id::Run;
use crate::numbers::Numbers;

/// Echo server and test clients for the mesh's end-to-end tests.
#[derive(Debug, Parser)]
#[command(name = "testapp", version)]
pub(crate) struct Args {
    /// Log filter, for example `info` or `debug`. Logs go to standard error.
    #[arg(long, env = "TESTAPP_LOG", default_value = "warn", global = true)]
    pub(crate) log: Targets,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer HTTP/1, HTTP/2, gRPC and TCP with what was seen.
    Serve(ServeArgs),
    /// Send HTTP requests, print the answers.
    Get(GetArgs),
    /// Call the echo service over gRPC, print the replies as JSON lines.
    Grpc(GrpcArgs),
    /// Send a text over TCP, print who echoed it.
    Tcp(TcpArgs),
    /// Write a file anew.
    Write(WriteArgs),
    /// Send requests at a fixed rate, report how they went.
    Load(LoadArgs),
    /// Ask pods which requests of a load they saw, print what was lost and
    /// what was doubled.
    Audit(AuditArgs),
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct WriteArgs {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its size in bytes.
    #[arg(long, default_value_t = 4096)]
    pub(crate) size: usize,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ServeArgs {
    /// Where HTTP/1 and HTTP/2 (prior knowledge) are served.
    #[arg(long, env = "TESTAPP_HTTP", default_value = "0.0.0.0:8080")]
    pub(crate) http: SocketAddr,
    /// Where gRPC is served.
    #[arg(long, env = "TESTAPP_GRPC", default_value = "0.0.0.0:8081")]
    pub(crate) grpc: SocketAddr,
    /// TCP echo that waits for the client to speak first.
    #[arg(long, env = "TESTAPP_TCP", default_value = "0.0.0.0:9090")]
    pub(crate) tcp: SocketAddr,
    /// TCP echo that sends its JSON line before the client speaks.
    #[arg(long, env = "TESTAPP_BANNER", default_value = "0.0.0.0:9091")]
    pub(crate) banner: SocketAddr,
    /// Delay of each answer.
    #[arg(long, env = "TESTAPP_LATENCY", default_value = "0ms", value_parser = parse_duration)]
    pub(crate) latency: Duration,
    /// Status of the answers; with an error rate, of that share of them.
    #[arg(long, env = "TESTAPP_STATUS")]
    pub(crate) status: Option<StatusCode>,
    /// Share of answers that are errors, 0 to 1.
    #[arg(long, env = "TESTAPP_ERROR_RATE")]
    pub(crate) error_rate: Option<f64>,
    /// Smallest answer in bytes: JSON is padded up to it.
    #[arg(long, env = "TESTAPP_SIZE", default_value_t = 0)]
    pub(crate) size: usize,
    /// Go on accepting for this long after SIGTERM.
    #[arg(long, env = "TESTAPP_LINGER", default_value = "0s", value_parser = parse_duration)]
    pub(crate) linger: Duration,
    /// Time from SIGTERM to exit, at most.
    #[arg(long, env = "TESTAPP_GRACE", default_value = "10s", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// Who answers, as the pod's downward API says it.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct PlaceArgs {
    #[arg(long, env = "POD_NAME", default_value = "")]
    pod: String,
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    namespace: String,
    #[arg(long, env = "CLUSTER", default_value = "")]
    cluster: String,
    #[arg(long, env = "NODE_NAME", default_value = "")]
    node: String,
}

impl From<PlaceArgs> for Place {
    fn from(args: PlaceArgs) -> Self {
        Self {
            pod: args.pod,
            namespace: args.namespace,
            cluster: args.cluster,
            node: args.node,
        }
    }
}

/// What `audit` is told about a run.
#[derive(Debug, ClapArgs)]
pub(crate) struct AuditArgs {
    /// HTTP port of each pod to ask, `host:port`.
    #[arg(required = true)]
    pub(crate) addresses: Vec<String>,
    /// The load's JSON report, `-` for standard input: the run, what was sent
    /// and what was answered.
    #[arg(long, required_unless_present_all = ["run", "sent"])]
    pub(crate) report: Option<PathBuf>,
    /// The run's name.
    #[arg(long, conflicts_with = "report", requires = "sent")]
    pub(crate) run: Option<Run>,
    /// Requests that were sent.
    #[arg(long, conflicts_with = "report", requires = "run")]
    pub(crate) sent: Option<u64>,
    /// Those without any answer, as the report has them: `3,7-9`. All, unless
    /// given.
    #[arg(long, conflicts_with = "report")]
    pub(crate) unanswered: Option<Numbers>,
    /// Time for one pod's answer.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

/// Where `get` sends a request, and what the request is.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RequestArgs {
    /// `http://host[:port][/path][?query]`.
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
}

/// What `get` and `load` say in a request.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct MessageArgs {
    /// Header of the request, `name:value`; may be repeated. `host:` replaces
    /// the authority, not the address that is dialled.
    #[arg(long = "header", short = 'H', value_name = "NAME:VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// GET, or POST when there is data.
    #[arg(long, short = 'X')]
    pub(crate) method: Option<Method>,
    /// Body of the request.
    #[arg(long, short = 'd')]
    pub(crate) data: Option<String>,
    /// HTTP/2 with prior knowledge instead of HTTP/1.
    #[arg(long)]
    http2: bool,
}

impl MessageArgs {
    pub(crate) fn protocol(&self) -> Protocol {
        if self.http2 {
            Protocol::Http2
        } else {
            Protocol::Http1
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// How many requests, one after the other, on one connection.
    #[arg(long, short = 'n', default_value_t = 1)]
    pub(crate) count: u64,
    /// A new connection for each request.
    #[arg(long)]
    pub(crate) new_connections: bool,
    /// Time for one request, connection included.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// One JSON object per request instead of a status line and the body.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GrpcArgs {
    /// `host:port`.
    pub(crate) address: String,
    /// How many unary calls, one after the other, on one connection.
    #[arg(long, short = 'n', default_value_t = 1)]
    pub(crate) count: u32,
    /// One server-streaming call with this many replies instead.
    #[arg(long, value_name = "REPLIES")]
    pub(crate) stream: Option<u32>,
    /// Text that comes back.
    #[arg(long, default_value = "hello")]
    pub(crate) message: String,
    /// Metadata of the call, `name:value`; may be repeated.
    #[arg(long = "header", short = 'H', value_name = "NAME:VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Time for one call, connection included.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TcpArgs {
    /// `host:port`.
    pub(crate) address: String,
    /// Text to send and to get back.
    #[arg(long, default_value = "hello")]
    pub(crate) send: String,
    /// Say nothing before the server has spoken.
    #[arg(long)]
    pub(crate) expect_banner: bool,
    /// Time for everything.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

/// What a load speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadProtocol {
    Http1,
    Http2,
    Grpc,
    Tcp,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LoadArgs {
    /// A URL as for `get`; `host:port` as for `grpc` and `tcp`.
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    /// What is spoken: HTTP/1, unless given. Opaque TCP has a connection per
    /// request; for gRPC and TCP the data are the text that must come back.
    #[arg(long, conflicts_with = "http2")]
    protocol: Option<LoadProtocol>,
    /// Name of the run, part of each request's id; drawn, unless given.
    #[arg(long)]
    pub(crate) run: Option<Run>,
    /// Take any answer that is not an error for right: for servers other than
    /// this program. Over TCP they hear the data alone, no id.
    #[arg(long)]
    pub(crate) unchecked: bool,
    /// Report also which requests each pod answered.
    #[arg(long)]
    pub(crate) answers: bool,
    /// Requests per second. They start by the clock, not by the answers.
    #[arg(long, default_value_t = 10.0, value_parser = parse_rate)]
    pub(crate) rate: f64,
    /// How long to start requests.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Connections, at most: 64 for HTTP/1 and TCP, which use one per request
    /// in flight, and 1 for HTTP/2 and gRPC, unless given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    connections: Option<u16>,
    /// Requests in flight, at most; one more is counted as shed.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) in_flight: u16,
    /// Time for one request, counted from the moment it was due.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// The report as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// A line per second while the load runs.
    #[arg(long, alias = "interval-report")]
    pub(crate) timeline: bool,
}

impl LoadArgs {
    pub(crate) fn connections(&self) -> usize {
        match (self.connections, self.protocol()) {
            (Some(connections), _) => connections.into(),
            (None, LoadProtocol::Http1 | LoadProtocol::Tcp) => 64,
            (None, LoadProtocol::Http2 | LoadProtocol::Grpc) => 1,
        }
    }

    pub(crate) fn protocol(&self) -> LoadProtocol {
        self.protocol
            .unwrap_or_else(|| match self.message.protocol() {
                Protocol::Http1 => LoadProtocol::Http1,
                Protocol::Http2 => LoadProtocol::Http2,
            })
    }
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("want name:value")?;
    let name = name.trim().parse().map_err(|error| format!("{error}"))?;
    let value = value.trim().parse().map_err(|error| format!("{error}"))?;
    Ok((name, value))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if rate > 0.0 && rate <= MAX_RATE {
        Ok(rate)
    } else {
        Err(format!("want a rate above 0 and at most {MAX_RATE}"))
    }
}

/// Requests per second; far above what one client process can do.
const MAX_RATE: f64 = 1_000_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn headers_are_split_at_the_first_colon() {
        let (name, value) = parse_header("Host: web.shop:80").unwrap();
        assert_eq!(
            (name.as_str(), value.to_str().unwrap()),
            ("host", "web.shop:80")
        );
        assert!(parse_header("no colon").is_err());
        assert!(parse_header("bad name:x").is_err());
    }

    #[test]
    fn rates_are_positive_and_finite() {
        assert_eq!(parse_rate("2.5"), Ok(2.5));
        for bad in ["0", "-1", "NaN", "inf", "many"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
