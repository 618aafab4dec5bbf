//! Opaque bytes: one endpoint for the whole connection.

use std::{sync::Arc, time::Instant};

use mesh_net::replay::Replay;
use tokio::net::TcpStream;
use tracing::debug;

use super::{
    Ended, Outbound, Way,
    balancer::{EndpointState, Tried},
    target::Target,
};
use crate::{
    access::{Line, Went},
    opaque::{self, Opaque},
    plain,
};

/// Endpoints tried before the connection is given up.
const ATTEMPTS: usize = 5;

/// Carries `client` to an endpoint of `target`.
pub(crate) async fn carry(
    outbound: &Arc<Outbound>,
    client: Replay<TcpStream>,
    target: &Target,
) -> Result<(), Ended> {
    let mut tried = Tried::default();
    for _ in 0..ATTEMPTS {
        let state = target.current();
        let Some((route, endpoint)) = state.pick(&tried, Instant::now()) else {
            return Err(Ended::NoEndpoint);
        };
        let labels = route.labels.clone();
        let _pending = endpoint.pending();
        if let Some(server) = connect(outbound, &endpoint).await {
            drop(state);
            outbound.metrics.carried(&labels);
            let went = Went::out(&labels, endpoint.endpoint());
            let mut line = went.and_then(|went| Line::stream("outbound", "", went));
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
