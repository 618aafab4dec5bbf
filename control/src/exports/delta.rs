//! What a client of the Services stream is sent next: a snapshot in parts with
//! a mark at its end, differences after that, or "unchanged" if it comes back
//! with the current version.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use mesh_proto::v1::{
    ExportedService, ExportedServices, ExportedServicesDelta, ExportedServicesRequest,
    ExportedServicesUpdate, ServiceName, SnapshotComplete, Unchanged,
    exported_services_update::Update,
};
use prost::Message as _;

/// Services in one part of a snapshot, and their bytes.
const PART: usize = 500;
const PART_BYTES: usize = 1 << 20;

/// What one client knows.
pub(crate) struct Sent {
    deltas: bool,
    /// What it had when it came.
    resumes: String,
    last: Option<Last>,
}

struct Last {
    version: String,
    content: ExportedServices,
}

impl Sent {
    /// Nothing yet, to a client that asks for this.
    pub(crate) fn nothing(request: ExportedServicesRequest) -> Self {
        Self {
            deltas: request.deltas,
            resumes: request.version,
            last: None,
        }
    }

    /// What the client is sent so that it knows `content`.
    pub(crate) fn next(&mut self, content: ExportedServices) -> Vec<ExportedServicesUpdate> {
        let last = self.last.take();
        if last.as_ref().is_some_and(|last| last.content == content) {
            self.last = last;
            return Vec::new();
        }
        let version = version(&content);
        let updates = match last {
            _ if !self.deltas => vec![Update::Services(content.clone())],
            None if self.resumes == version => vec![Update::Unchanged(Unchanged {
                version: version.clone(),
            })],
            Some(last) if head(&last.content) == head(&content) => {
                vec![Update::Delta(delta(&last, &content, &version))]
            }
            None | Some(_) => snapshot(&content, &version),
        };
        self.last = Some(Last { version, content });
        let updates = updates.into_iter();
        updates
            .map(|update| ExportedServicesUpdate {
                update: Some(update),
            })
            .collect()
    }
}

fn delta(last: &Last, content: &ExportedServices, version: &str) -> ExportedServicesDelta {
    let (before, after) = (by_name(&last.content), by_name(content));
    let changed = after
        .iter()
        .filter(|(name, service)| before.get(*name) != Some(*service));
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    ExportedServicesDelta {
        base: last.version.clone(),
        version: version.to_owned(),
        changed: changed.map(|(_, service)| (*service).clone()).collect(),
        removed: removed
            .map(|(namespace, name)| ServiceName {
                namespace: (*namespace).to_owned(),
                name: (*name).to_owned(),
            })
            .collect(),
        services: count(content),
    }
}

fn snapshot(content: &ExportedServices, version: &str) -> Vec<Update> {
    let mut parts = vec![part(content)];
    let mut bytes = 0;
    for service in &content.services {
        let size = service.encoded_len();
        let full = parts.last().is_none_or(|part| part.services.len() >= PART);
        if full || bytes + size > PART_BYTES {
            parts.push(part(content));
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.services.push(service.clone());
        }
    }
    let complete = SnapshotComplete {
        version: version.to_owned(),
        services: count(content),
    };
    let parts = parts.into_iter().map(Update::Services);
    parts.chain([Update::Complete(complete)]).collect()
}

fn part(content: &ExportedServices) -> ExportedServices {
    ExportedServices {
        partial: true,
        ..head(content)
    }
}

/// All but the Services.
fn head(content: &ExportedServices) -> ExportedServices {
    ExportedServices {
        cluster: content.cluster.clone(),
        cluster_uid: content.cluster_uid.clone(),
        bundle: content.bundle.clone(),
        gateway_hosts: content.gateway_hosts.clone(),
        services: Vec::new(),
        partial: false,
    }
}

fn by_name(content: &ExportedServices) -> BTreeMap<(&str, &str), &ExportedService> {
    let services = content.services.iter();
    services
        .map(|service| ((&*service.namespace, &*service.name), service))
        .collect()
}

fn count(content: &ExportedServices) -> u32 {
    u32::try_from(content.services.len()).unwrap_or(u32::MAX)
}

/// The name of a content: alike from all replicas, since it is made of nothing
/// but the content. Services come in order of their names.
fn version(content: &ExportedServices) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&head(content).encode_length_delimited_to_vec());
    for service in &content.services {
        let plain = ExportedService {
            labels: HashMap::new(),
            annotations: HashMap::new(),
            ..service.clone()
        };
        context.update(&plain.encode_length_delimited_to_vec());
        // A map has no order of its own.
        for map in [&service.labels, &service.annotations] {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            context.update(&(sorted.len() as u64).to_be_bytes());
            for text in sorted.into_iter().flat_map(|(key, value)| [key, value]) {
                context.update(&(text.len() as u64).to_be_bytes());
                context.update(text.as_bytes());
            }
        }
    }
    name_of(&context.finish())
}

/// Half of a digest is unlike enough.
pub(super) fn name_of(digest: &digest::Digest) -> String {
    let half = digest.as_ref().first_chunk::<16>();
    format!(
        "{:032x}",
        u128::from_be_bytes(half.copied().unwrap_or_default())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(names: &[&str]) -> ExportedServices {
        let service = |name: &&str| ExportedService {
            namespace: "shop".to_owned(),
            name: (*name).to_owned(),
            ..Default::default()
        };
        ExportedServices {
            cluster_uid: "uid".to_owned(),
            services: names.iter().map(service).collect(),
            ..Default::default()
        }
    }

    fn client(version: &str) -> Sent {
        Sent::nothing(ExportedServicesRequest {
            deltas: true,
            version: version.to_owned(),
        })
    }

    fn next(sent: &mut Sent, content: ExportedServices) -> Vec<Update> {
        let updates = sent.next(content).into_iter();
        updates.filter_map(|update| update.update).collect()
    }

    #[test]
    fn first_comes_a_snapshot_in_parts_and_the_mark_that_it_is_complete() {
        let names: Vec<String> = (0..PART + 1).map(|n| format!("s{n:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let updates = next(&mut client(""), content(&names));
        let [
            Update::Services(first),
            Update::Services(second),
            Update::Complete(mark),
        ] = &updates[..]
        else {
            panic!("{updates:?}");
        };
        assert!(first.partial && second.partial);
        assert_eq!((first.services.len(), second.services.len()), (PART, 1));
        assert_eq!(mark.services as usize, PART + 1);
    }

    #[test]
    fn then_come_the_differences() {
        let mut sent = client("");
        let first = next(&mut sent, content(&["a", "b", "c"]));
        let Some(Update::Complete(mark)) = first.last() else {
            panic!("{first:?}");
        };
        let mut after = content(&["a", "c", "d"]);
        after.services[1].ready_endpoints = 3;
        let updates = next(&mut sent, after.clone());
        let [Update::Delta(delta)] = &updates[..] else {
            panic!("{updates:?}");
        };
        assert_eq!(delta.base, mark.version);
        assert_eq!(delta.version, version(&after));
        let changed: Vec<_> = delta.changed.iter().map(|s| &*s.name).collect();
        let removed: Vec<_> = delta.removed.iter().map(|s| &*s.name).collect();
        assert_eq!((changed, removed), (vec!["c", "d"], vec!["b"]));
        assert_eq!(delta.services, 3);
        assert!(next(&mut sent, after).is_empty(), "nothing has changed");
    }

    #[test]
    fn who_comes_back_with_the_current_version_is_sent_nothing_anew() {
        let now = content(&["a"]);
        let updates = next(&mut client(&version(&now)), now.clone());
        assert!(
            matches!(&updates[..], [Update::Unchanged(_)]),
            "{updates:?}"
        );
        let updates = next(&mut client(&version(&content(&["b"]))), now);
        assert!(matches!(
            &updates[..],
            [Update::Services(_), Update::Complete(_)]
        ));
    }

    #[test]
    fn another_cluster_or_bundle_is_said_by_a_snapshot() {
        let mut sent = client("");
        next(&mut sent, content(&["a"]));
        let mut other = content(&["a"]);
        other.cluster_uid = "other".to_owned();
        let updates = next(&mut sent, other);
        assert!(matches!(
            &updates[..],
            [Update::Services(_), Update::Complete(_)]
        ));
    }

    #[test]
    fn a_client_that_knows_no_deltas_gets_complete_states() {
        let mut sent = Sent::nothing(ExportedServicesRequest::default());
        for names in [&["a"][..], &["a", "b"]] {
            let updates = next(&mut sent, content(names));
            let [Update::Services(services)] = &updates[..] else {
                panic!("{updates:?}");
            };
            assert!(!services.partial);
            assert_eq!(services.services.len(), names.len());
        }
    }

    #[test]
    fn a_version_depends_on_the_content_and_not_on_the_order_of_maps() {
        let with = |pairs: &[(&str, &str)]| {
            let mut content = content(&["a"]);
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            content.services[0].annotations = pairs.collect();
            version(&content)
        };
        let (one, two) = (("a", "1"), ("b", "2"));
        assert_eq!(with(&[one, two]), with(&[two, one]));
        assert_ne!(with(&[one, two]), with(&[one]));
        assert_ne!(with(&[("a", "bc")]), with(&[("ab", "c")]));
        assert_ne!(version(&content(&["a"])), version(&content(&["b"])));
    }
}
