//! Which thread carries a connection. The first worker, on which the program
//! lives, accepts all of them, and shares them out (`mesh_net::spread`). What one
//! connection needs of others is on its own worker: each has a carrier with pooled
//! connections of its own, so that streams that are joined never meet another
//! thread. What is learnt of destinations, links, policy and trust is shared.

use std::{fmt, sync::Arc};

use mesh_core::limits::Limit;
use mesh_dataplane::limits::Bounds;
use mesh_net::{
    accept::{Accepted, Acceptor},
    spread::{Dialler, Spread},
};
use mesh_runtime::Shutdown;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

/// Carries the connections of one direction on one worker.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Whose connection it is that was just accepted.
    fn dialler(&self, stream: &TcpStream) -> Dialler;

    /// What it bears.
    fn bounds(&self) -> &Bounds;

    /// The life of a connection; `tasks` takes what outlives it.
    fn carry(
        self: Arc<Self>,
        accepted: Accepted,
        tasks: TaskTracker,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// A port, and the workers that its connections are shared out among.
pub(crate) struct Door {
    pub(crate) acceptor: Acceptor,
    pub(crate) spread: Spread,
    /// The connections.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: Shutdown,
}

impl Door {
    /// Takes connections until the program is to end; each is carried by the
    /// carrier of the worker that it is given to.
    pub(crate) async fn serve<C: Carrier>(self, carriers: Vec<Arc<C>>) {
        let Some(first) = carriers.first().cloned() else {
            return;
        };
        let carriers: Arc<[Arc<C>]> = carriers.into();
        loop {
            if self.acceptor.is_full() {
                first.bounds().strike(Limit::Connections);
            }
            let accepted = tokio::select! {
                accepted = self.acceptor.accept() => accepted,
                () = self.shutdown.signalled() => return,
            };
            let dialler = |stream: &TcpStream| first.dialler(stream);
            let (carriers, tasks) = (carriers.clone(), self.tasks.clone());
            let shutdown = self.shutdown.clone();
            let carry = move |worker: usize, accepted| {
                let carrier = carriers[worker].clone();
                carrier.carry(accepted, tasks, shutdown)
            };
            self.spread.spawn(&self.tasks, accepted, dialler, carry);
        }
    }
}

/// How many connections each worker has, told when somebody asks.
pub(crate) struct Shares(pub(crate) Spread);

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shares")
    }
}

impl Collector for Shares {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let connections = self.0.connections();
        if connections.len() <= 1 {
            return Ok(());
        }
        let help = "Connections that are open, by the worker that carries them";
        let mut family =
            encoder.encode_descriptor("worker_connections", help, None, MetricType::Gauge)?;
        for (worker, count) in connections.into_iter().enumerate() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let labels = [("worker", worker.to_string())];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
