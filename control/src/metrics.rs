//! What the control plane counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// All counters. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    certificates: Family<Outcome, Counter>,
    streams: Family<Stream, Gauge>,
    refused: Family<Outcome, Counter>,
    root: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stream {
    stream: &'static str,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let control = registry.sub_registry_with_prefix("mesh_control");
        let certificates = metrics.certificates.clone();
        control.register("certify", "Requests for certificates", certificates);
        let streams = metrics.streams.clone();
        control.register("open_streams", "Streams that are open", streams);
        let refused = metrics.refused.clone();
        control.register("refused", "Connections that were refused", refused);
        let root = metrics.root.clone();
        control.register("root", "What came of looks at the root's Secret", root);
        metrics
    }

    pub(crate) fn certified(&self, outcome: &'static str) {
        self.certificates.get_or_create(&Outcome { outcome }).inc();
    }

    /// Something about the root: taken, rotated, or why it was not.
    pub(crate) fn root(&self, outcome: &'static str) {
        self.root.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn refused(&self, outcome: &'static str) {
        self.refused.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a stream as open for as long as the guard lives.
    pub(crate) fn stream(&self, stream: &'static str) -> StreamGuard {
        let gauge = self.streams.get_or_create(&Stream { stream }).clone();
        gauge.inc();
        StreamGuard(gauge)
    }
}

/// An open stream.
pub(crate) struct StreamGuard(Gauge);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
