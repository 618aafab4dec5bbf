//! Puts together what a feed says in parts and differences. What does not fit
//! is refused, and a complete snapshot is asked for; nothing is removed on the
//! word of a message that does not fit. No I/O.

use std::collections::BTreeMap;

use mesh_proto::v1::{
    ExportedServices, ExportedServicesDelta, SnapshotComplete, exported_services_update::Update,
};

use crate::{
    export::{Export, Snapshot},
    removal::is_believed_at_once,
};

/// The state of one feed, kept from stream to stream.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// What was said last, completely; none if the peer names no versions.
    whole: Option<Whole>,
    /// A snapshot whose end has not come yet.
    begun: Option<Content>,
}

#[derive(Debug)]
struct Whole {
    version: String,
    content: Content,
}

#[derive(Clone, Debug)]
struct Content {
    /// All but the Services.
    head: ExportedServices,
    services: BTreeMap<Name, Export>,
}

type Name = (String, String);

/// What a message means for those who follow the feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The peer is there, and that is all.
    Alive,
    /// A complete snapshot.
    Complete(Snapshot),
    /// What was said before, with few differences.
    Changed(Snapshot),
    /// What was said before is all there is, still.
    Confirmed,
}

/// Why a message cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    #[error("a difference to something else than what was said before")]
    Base,
    #[error("a difference that contradicts itself")]
    Contradiction,
    #[error("another number of Services than it says")]
    Count,
    #[error("the end of a snapshot that has not begun")]
    NotBegun,
    #[error("more than {MOST_SERVICES} Services, or names of more than {MOST_BYTES} bytes")]
    TooMuch,
    #[error("so many Services gone at once that a complete snapshot has to say so")]
    MassRemoval,
}

impl Assembly {
    /// The version to go on from; empty if a snapshot is needed.
    pub(super) fn version(&self) -> &str {
        self.whole.as_ref().map_or("", |whole| &whole.version)
    }

    /// A new stream has begun.
    pub(super) fn begin(&mut self) {
        self.begun = None;
    }

    /// Takes the next message of the stream.
    ///
    /// # Errors
    /// If it does not fit: the stream is of no use any more, and the next one
    /// begins with a snapshot.
    pub(super) fn take(&mut self, update: Option<Update>) -> Result<Step, Misfit> {
        let step = self.step(update);
        if step.is_err() {
            *self = Self::default();
        }
        step
    }

    fn step(&mut self, update: Option<Update>) -> Result<Step, Misfit> {
        match update {
            Some(Update::Services(all)) if !all.partial => {
                // A peer that knows neither parts nor versions.
                *self = Self::default();
                Ok(Step::Complete(all.into()))
            }
            Some(Update::Services(part)) => self.add(part).map(|()| Step::Alive),
            Some(Update::Complete(mark)) => self.complete(mark).map(Step::Complete),
            Some(Update::Delta(delta)) => self.apply(delta).map(Step::Changed),
            Some(Update::Unchanged(same)) if same.version == self.version() => Ok(Step::Confirmed),
            Some(Update::Unchanged(_)) => Err(Misfit::Base),
            Some(Update::Heartbeat(_)) | None => Ok(Step::Alive),
        }
    }

    fn add(&mut self, mut part: ExportedServices) -> Result<(), Misfit> {
        let services = std::mem::take(&mut part.services);
        let begun = self.begun.get_or_insert_with(|| Content {
            head: part,
            services: BTreeMap::new(),
        });
        for service in services {
            let name = (service.namespace.clone(), service.name.clone());
            begun.services.insert(name, service.into());
        }
        within_bounds(begun)
    }

    fn complete(&mut self, mark: SnapshotComplete) -> Result<Snapshot, Misfit> {
        let content = self.begun.take().ok_or(Misfit::NotBegun)?;
        self.becomes(content, mark.version, mark.services)
    }

    fn apply(&mut self, delta: ExportedServicesDelta) -> Result<Snapshot, Misfit> {
        let whole = self
            .whole
            .take()
            .filter(|whole| whole.version == delta.base);
        let mut content = whole.ok_or(Misfit::Base)?.content;
        if !is_believed_at_once(delta.removed.len(), content.services.len()) {
            return Err(Misfit::MassRemoval);
        }
        for gone in delta.removed {
            let gone = (gone.namespace, gone.name);
            content
                .services
                .remove(&gone)
                .ok_or(Misfit::Contradiction)?;
        }
        for service in delta.changed {
            let name = (service.namespace.clone(), service.name.clone());
            content.services.insert(name, service.into());
        }
        within_bounds(&content)?;
        self.becomes(content, delta.version, delta.services)
    }

    fn becomes(
        &mut self,
        content: Content,
        version: String,
        services: u32,
    ) -> Result<Snapshot, Misfit> {
        if u32::try_from(content.services.len()) != Ok(services) {
            return Err(Misfit::Count);
        }
        let snapshot = content.snapshot();
        self.whole = (!version.is_empty()).then_some(Whole { version, content });
        Ok(snapshot)
    }
}

impl Content {
    fn snapshot(&self) -> Snapshot {
        let head = Snapshot::from(self.head.clone());
        Snapshot {
            services: self.services.values().cloned().collect(),
            ..head
        }
    }
}

fn within_bounds(content: &Content) -> Result<(), Misfit> {
    // Nothing else of a Service is kept that has no bound of its own.
    let names = content.services.keys();
    let bytes: usize = names
        .map(|(namespace, name)| namespace.len() + name.len())
        .sum();
    if content.services.len() > MOST_SERVICES || bytes > MOST_BYTES {
        return Err(Misfit::TooMuch);
    }
    Ok(())
}

/// More than the quota of any link, and than one message held before there
/// were parts.
const MOST_SERVICES: usize = 50_000;
/// What their names have if all are as long as Kubernetes lets them be.
const MOST_BYTES: usize = MOST_SERVICES * 2 * 63;

#[cfg(test)]
mod tests {
    use mesh_proto::v1::{ExportedService, Heartbeat, ServiceName, Unchanged};

    use super::*;

    fn service(name: &str) -> ExportedService {
        ExportedService {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            ..Default::default()
        }
    }

    fn part(names: &[&str]) -> Option<Update> {
        Some(Update::Services(ExportedServices {
            cluster_uid: "uid".to_owned(),
            services: names.iter().map(|name| service(name)).collect(),
            partial: true,
            ..Default::default()
        }))
    }

    fn end(version: &str, services: u32) -> Option<Update> {
        Some(Update::Complete(SnapshotComplete {
            version: version.to_owned(),
            services,
        }))
    }

    fn delta(base: &str, changed: &[&str], removed: &[&str], services: u32) -> Option<Update> {
        Some(Update::Delta(ExportedServicesDelta {
            base: base.to_owned(),
            version: "2".to_owned(),
            changed: changed.iter().map(|name| service(name)).collect(),
            removed: removed
                .iter()
                .map(|name| ServiceName {
                    namespace: "shop".to_owned(),
                    name: (*name).to_owned(),
                })
                .collect(),
            services,
        }))
    }

    fn unchanged(version: &str) -> Option<Update> {
        let version = version.to_owned();
        Some(Update::Unchanged(Unchanged { version }))
    }

    fn names(step: Result<Step, Misfit>) -> Vec<String> {
        match step {
            Ok(Step::Complete(snapshot) | Step::Changed(snapshot)) => {
                assert_eq!(snapshot.cluster_uid, "uid");
                snapshot.services.into_iter().map(|s| s.name).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// After a snapshot of a, b and c, version 1.
    fn assembly() -> Assembly {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(part(&["a", "b"])), Ok(Step::Alive));
        assert_eq!(assembly.take(part(&["c"])), Ok(Step::Alive));
        assert_eq!(names(assembly.take(end("1", 3))), ["a", "b", "c"]);
        assembly
    }

    #[test]
    fn parts_are_nothing_until_the_mark_that_they_are_all() {
        let mut assembly = assembly();
        assert_eq!(assembly.version(), "1");
        assert_eq!(assembly.take(part(&["z"])), Ok(Step::Alive));
        // Cut off here: the next stream begins anew.
        assembly.begin();
        assert_eq!(assembly.version(), "1");
        assert_eq!(assembly.take(end("2", 1)), Err(Misfit::NotBegun));
    }

    #[test]
    fn m8_names_are_bounded_in_bytes_over_all_parts() {
        let mut assembly = Assembly::default();
        let half = "n".repeat(MOST_BYTES / 2);
        assert_eq!(assembly.take(part(&[&half])), Ok(Step::Alive));
        let other = format!("{half}m");
        assert_eq!(assembly.take(part(&[&other])), Err(Misfit::TooMuch));
    }

    #[test]
    fn differences_change_what_was_said() {
        let mut assembly = assembly();
        let step = assembly.take(delta("1", &["b", "d"], &["a"], 3));
        assert_eq!(names(step), ["b", "c", "d"]);
        assert_eq!(assembly.version(), "2");
    }

    #[test]
    fn m6_a_difference_that_does_not_fit_removes_nothing() {
        for (bad, expected) in [
            (delta("0", &[], &["a"], 2), Misfit::Base),
            (delta("1", &[], &["x"], 2), Misfit::Contradiction),
            (delta("1", &[], &["a", "a"], 2), Misfit::Contradiction),
            (delta("1", &[], &["a"], 1), Misfit::Count),
            (delta("1", &["d"], &[], 3), Misfit::Count),
            (unchanged("0"), Misfit::Base),
        ] {
            let mut assembly = assembly();
            assert_eq!(assembly.take(bad), Err(expected));
            assert_eq!(assembly.version(), "", "a snapshot is asked for");
        }
        let first = Assembly::default().take(delta("", &[], &[], 0));
        assert_eq!(first, Err(Misfit::Base), "before any snapshot");
    }

    #[test]
    fn m6_many_removals_at_once_are_said_by_a_snapshot_only() {
        let all: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut assembly = Assembly::default();
        assembly.take(part(&all)).unwrap();
        assembly.take(end("1", 10)).unwrap();
        let step = assembly.take(delta("1", &[], &all[..6], 4));
        assert_eq!(step, Err(Misfit::MassRemoval));
    }

    #[test]
    fn who_goes_on_from_a_version_is_told_that_it_still_holds() {
        let mut assembly = assembly();
        assembly.begin();
        assert_eq!(assembly.take(unchanged("1")), Ok(Step::Confirmed));
        let step = assembly.take(delta("1", &["d"], &[], 4));
        assert_eq!(names(step), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_peer_that_knows_no_parts_says_everything_each_time() {
        let mut assembly = assembly();
        let Some(Update::Services(mut all)) = part(&["x"]) else {
            unreachable!("a part");
        };
        all.partial = false;
        assert_eq!(names(assembly.take(Some(Update::Services(all)))), ["x"]);
        assert_eq!(assembly.version(), "");
    }

    #[test]
    fn a_sign_of_life_and_what_is_not_understood_change_nothing() {
        let mut assembly = assembly();
        let heartbeat = Some(Update::Heartbeat(Heartbeat {}));
        assert_eq!(assembly.take(heartbeat), Ok(Step::Alive));
        assert_eq!(assembly.take(None), Ok(Step::Alive));
        assert_eq!(assembly.version(), "1");
    }

    #[test]
    fn m8_a_snapshot_without_end_is_bounded() {
        let mut assembly = Assembly::default();
        let step = (0..).find_map(|n| {
            let names: Vec<String> = (0..1000).map(|m| format!("{n}-{m}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assembly.take(part(&names)).err().map(|error| (n, error))
        });
        assert_eq!(step, Some((MOST_SERVICES / 1000, Misfit::TooMuch)));
    }
}
