//! Opaque bytes, and TLS that is the application's own: one endpoint for the whole
//! connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_net::replay::Replay;
use mesh_wire::hello::UNRECOGNIZED_NAME;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use tracing::debug;

use super::{
    Ended, Outbound, Way,
    balancer::{EndpointState, Tried},
    route::{Nowhere, share},
    target::{Kind, Route, State, Target},
};
use crate::{
    access::{Line, Went},
    opaque::{self, Opaque},
    plain,
    protocol::Spoken,
};

/// Endpoints tried before the connection is given up.
const ATTEMPTS: usize = 5;
/// How long a client may take to be told why it is refused: nothing is before it.
const TELLING: Duration = Duration::from_secs(1);

/// Carries `client`, which speaks this, to an endpoint of `target`.
pub(crate) async fn carry(
    outbound: &Arc<Outbound>,
    client: Replay<TcpStream>,
    spoken: Spoken,
    target: &Target,
) -> Result<(), Ended> {
    let mut tried = Tried::default();
    for _ in 0..ATTEMPTS {
        let state = target.current();
        let (route, endpoint) = match pick(&state, &spoken, &tried, Instant::now()) {
            Ok(picked) => picked,
            Err(ended) => {
                drop(state);
                if matches!(ended, Ended::NoRoute) {
                    refuse(client).await;
                }
                return Err(ended);
            }
        };
        let labels = route.labels.clone();
        let _pending = endpoint.pending();
        if let Some(server) = connect(outbound, &endpoint).await {
            drop(state);
            outbound.metrics.carried(&labels);
            let went = Went::out(&labels, endpoint.endpoint());
            let mut line = went.and_then(|went| Line::stream("outbound", "", went));
            if let (Some(line), Spoken::Tls(Some(name))) = (&mut line, &spoken) {
                line.is_for(name);
            }
            let carried = opaque::join(Opaque::of(client), server).await;
            let carried = carried.map_err(Ended::Broken)?;
            if let Some(line) = &mut line {
                line.carried(carried);
            }
            return Ok(());
        }
        tried.add(endpoint.clone());
    }
    Err(Ended::NoEndpoint)
}

/// Tells a TLS client that no server here has the name that it asks for.
async fn refuse(mut client: Replay<TcpStream>) {
    let told = async {
        client.write_all(UNRECOGNIZED_NAME).await?;
        client.shutdown().await
    };
    // Who does not take it is refused all the same.
    let _ = timeout(TELLING, told).await;
}

/// The endpoint for the next attempt: as the TLS routes say if there are any and it is
/// TLS, else as the Service does.
fn pick<'a>(
    state: &'a State,
    spoken: &Spoken,
    tried: &Tried,
    now: Instant,
) -> Result<(&'a Route, Arc<EndpointState>), Ended> {
    match (spoken, &state.kind) {
        (
            Spoken::Tls(name),
            Kind::Service {
                tls_routes, routed, ..
            },
        ) if !tls_routes.is_empty() => {
            let route = tls_routes.pick(name.as_deref()).ok_or(Ended::NoRoute)?;
            Ok(share(&route.shares, routed, tried, now)?)
        }
        _ => state.pick(tried, now).ok_or(Ended::NoEndpoint),
    }
}

impl From<Nowhere> for Ended {
    fn from(nowhere: Nowhere) -> Self {
        match nowhere {
            Nowhere::Missing => Self::MissingBackend,
            Nowhere::NoEndpoint => Self::NoEndpoint,
        }
    }
}

/// A connection to the endpoint; none, noted and counted, if there is none.
async fn connect(outbound: &Arc<Outbound>, state: &Arc<EndpointState>) -> Option<Opaque> {
    // Latency is the endpoint's, not that of the way being opened.
    let mut start = Instant::now();
    let endpoint = state.endpoint();
    let failed = |reason: &'static str| {
        outbound.metrics.attempt_failed(reason);
        state.failed(Instant::now());
    };
    let server = match outbound.way(endpoint) {
        Way::Plain(address) => match mesh_net::socket::connect(address, plain::CONNECT).await {
            Ok(stream) => Opaque::of(stream),
            Err(error) => {
                debug!(%address, %error, "endpoint");
                failed("unreachable");
                return None;
            }
        },
        Way::Mesh(peer) => {
            let connection = outbound.connect(state, peer).await.ok()?;
            start = Instant::now();
            match connection.tcp(endpoint.address.port()).await {
                Ok(stream) => Opaque::on(stream),
                Err(error) => {
                    debug!(%error, "endpoint");
                    failed("refused");
                    return None;
                }
            }
        }
    };
    let now = Instant::now();
    state.answered(now.saturating_duration_since(start), now);
    Some(server)
}

#[cfg(test)]
mod tests;
