//! What is counted.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    feed::Health,
    plan::Action,
    status::{Findings, Reachable, Synced},
    writer::Outcome,
};

/// The metrics of mesh-mirror. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    writes: Family<Write, Counter>,
    alive: Family<OfLink, Gauge>,
    synced: Family<OfLink, Gauge>,
    mirrors: Family<OfLink, Gauge>,
    conflicts: Family<OfLink, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLink {
    link: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    action: Verb,
    outcome: Fate,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Verb {
    Create,
    Update,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Fate {
    Done,
    Outdated,
    Failed,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("mesh_mirror");
        registry.register(
            "writes",
            "Writes to mirror Services",
            metrics.writes.clone(),
        );
        let help = "Whether the peer's feed is alive";
        registry.register("feed_alive", help, metrics.alive.clone());
        let help = "Whether all that the peer exports is mirrored";
        registry.register("synced", help, metrics.synced.clone());
        let help = "Mirror Services that exist";
        registry.register("services", help, metrics.mirrors.clone());
        let help = "Mirrors whose names are taken";
        registry.register("conflicts", help, metrics.conflicts.clone());
        metrics
    }

    /// Counts a write.
    pub(crate) fn wrote(&self, verb: Verb, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Done => Fate::Done,
            Outcome::Outdated => Fate::Outdated,
            Outcome::Failed(_) => Fate::Failed,
        };
        let write = Write {
            action: verb,
            outcome,
        };
        self.writes.get_or_create(&write).inc();
    }

    /// Shows what a link's controller found.
    pub(crate) fn found(&self, link: &str, findings: &Findings) {
        let link = OfLink { link: link.into() };
        let alive = findings.reachable == Reachable::Feed(Health::Alive);
        let synced = matches!(findings.synced, Synced::Done(_) | Synced::NotImporting);
        self.alive.get_or_create(&link).set(alive.into());
        self.synced.get_or_create(&link).set(synced.into());
        let mirrors = i64::try_from(findings.services).unwrap_or(i64::MAX);
        self.mirrors.get_or_create(&link).set(mirrors);
        if let Some(conflicts) = &findings.conflicts {
            let conflicts = i64::try_from(conflicts.len()).unwrap_or(i64::MAX);
            self.conflicts.get_or_create(&link).set(conflicts);
        }
    }

    /// A link's metrics are shown until the guard is dropped.
    pub(crate) fn show<'a>(&'a self, link: &str) -> Shown<'a> {
        Shown {
            metrics: self,
            link: OfLink { link: link.into() },
        }
    }
}

/// Forgets a link's metrics when it is dropped.
pub(crate) struct Shown<'a> {
    metrics: &'a Metrics,
    link: OfLink,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let Metrics {
            writes: _,
            alive,
            synced,
            mirrors,
            conflicts,
        } = self.metrics;
        for family in [alive, synced, mirrors, conflicts] {
            family.remove(&self.link);
        }
    }
}

impl From<&Action> for Verb {
    fn from(action: &Action) -> Self {
        match action {
            Action::Create { .. } => Self::Create,
            Action::Update { .. } => Self::Update,
            Action::Delete { .. } => Self::Delete,
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn findings_and_writes_are_shown_and_gone_links_are_not() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let findings = Findings {
            reachable: Reachable::Feed(Health::Alive),
            synced: Synced::Stale,
            conflicts: Some(Vec::new()),
            services: 3,
            cluster_uid: None,
            refused: None,
            gateways: None,
            observed: None,
        };
        metrics.found("east", &findings);
        let shown = metrics.show("gone");
        metrics.found("gone", &findings);
        drop(shown);
        metrics.wrote(Verb::Create, &Outcome::Failed("no".into()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "mesh_mirror_feed_alive{link=\"east\"} 1",
            "mesh_mirror_synced{link=\"east\"} 0",
            "mesh_mirror_services{link=\"east\"} 3",
            "mesh_mirror_conflicts{link=\"east\"} 0",
            "mesh_mirror_writes_total{action=\"Create\",outcome=\"Failed\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("gone"));
    }
}
