//! What a client of one Service's endpoints is sent next: all of them,
//! differences after that, or "unchanged" if it comes back with the current
//! version.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use mesh_proto::v1::{
    ExportedEndpoint, ExportedEndpoints, ExportedEndpointsDelta, ExportedEndpointsRequest,
    Unchanged, exported_endpoints_update::Update,
};
use prost::Message as _;

use super::delta::name_of;

/// What one client knows of one Service.
pub(crate) struct SentEndpoints {
    deltas: bool,
    /// What it had when it came.
    resumes: String,
    last: Option<ExportedEndpoints>,
}

impl SentEndpoints {
    /// Nothing yet, to a client that asks for this.
    pub(crate) fn nothing(request: &ExportedEndpointsRequest) -> Self {
        Self {
            deltas: request.deltas,
            resumes: request.version.clone(),
            last: None,
        }
    }

    /// What the client is sent so that it knows `content`; none if it does.
    pub(crate) fn next(&mut self, mut content: ExportedEndpoints) -> Option<Update> {
        content.version = version(&content);
        let update = match &self.last {
            Some(last) if last.version == content.version => return None,
            _ if !self.deltas => Update::Endpoints(content.clone()),
            None if self.resumes == content.version => Update::Unchanged(Unchanged {
                version: content.version.clone(),
            }),
            Some(last) if head(last) == head(&content) => Update::Delta(delta(last, &content)),
            None | Some(_) => Update::Endpoints(content.clone()),
        };
        self.last = Some(content);
        Some(update)
    }
}

fn delta(last: &ExportedEndpoints, content: &ExportedEndpoints) -> ExportedEndpointsDelta {
    let (before, after) = (by_id(last), by_id(content));
    let changed = after
        .iter()
        .filter(|(id, endpoint)| before.get(*id) != Some(*endpoint));
    let removed = before.keys().filter(|id| !after.contains_key(*id));
    ExportedEndpointsDelta {
        base: last.version.clone(),
        version: content.version.clone(),
        changed: changed.map(|(_, endpoint)| (*endpoint).clone()).collect(),
        removed: removed.copied().collect(),
        endpoints: u32::try_from(after.len()).unwrap_or(u32::MAX),
    }
}

fn by_id(content: &ExportedEndpoints) -> BTreeMap<u64, &ExportedEndpoint> {
    let endpoints = content.endpoints.iter();
    endpoints.map(|endpoint| (endpoint.id, endpoint)).collect()
}

/// All but the endpoints and the version.
fn head(content: &ExportedEndpoints) -> ExportedEndpoints {
    ExportedEndpoints {
        exported: content.exported,
        authority: content.authority.clone(),
        endpoints: Vec::new(),
        id: content.id,
        identities: content.identities.clone(),
        ports: content.ports.clone(),
        version: String::new(),
    }
}

/// The name of a content without one: alike from all replicas, since endpoints
/// come in the order of their pods' uids.
fn version(content: &ExportedEndpoints) -> String {
    let bytes = content.encode_to_vec();
    name_of(&digest::digest(&digest::SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(ids: &[u64]) -> ExportedEndpoints {
        let endpoint = |id: &u64| ExportedEndpoint {
            id: *id,
            ..Default::default()
        };
        ExportedEndpoints {
            exported: true,
            endpoints: ids.iter().map(endpoint).collect(),
            ..Default::default()
        }
    }

    fn client(version: &str) -> SentEndpoints {
        SentEndpoints::nothing(&ExportedEndpointsRequest {
            deltas: true,
            version: version.to_owned(),
            ..Default::default()
        })
    }

    #[test]
    fn first_come_all_endpoints_then_the_differences() {
        let mut sent = client("");
        let Some(Update::Endpoints(first)) = sent.next(content(&[1, 2, 3])) else {
            panic!("all of them come first");
        };
        assert_eq!(first.endpoints.len(), 3);
        let mut after = content(&[1, 3, 4]);
        after.endpoints[1].weight = 7;
        let Some(Update::Delta(delta)) = sent.next(after.clone()) else {
            panic!("differences come then");
        };
        let changed: Vec<u64> = delta.changed.iter().map(|endpoint| endpoint.id).collect();
        assert_eq!((changed, delta.removed), (vec![3, 4], vec![2]));
        assert_eq!(delta.base, first.version);
        assert_eq!(delta.endpoints, 3);
        assert_eq!(sent.next(after), None, "nothing has changed");
    }

    #[test]
    fn all_is_said_anew_when_more_than_endpoints_has_changed() {
        let mut sent = client("");
        sent.next(content(&[1]));
        let mut other = content(&[1]);
        other.identities = vec!["spiffe://east/ns/shop/sa/web".into()];
        assert!(matches!(sent.next(other), Some(Update::Endpoints(_))));
        let withdrawn = ExportedEndpoints::default();
        assert!(matches!(sent.next(withdrawn), Some(Update::Endpoints(_))));
    }

    #[test]
    fn who_comes_back_with_the_current_version_is_sent_nothing_anew() {
        let version = version(&content(&[1]));
        let update = client(&version).next(content(&[1]));
        assert_eq!(
            update,
            Some(Update::Unchanged(Unchanged {
                version: version.clone()
            }))
        );
        let update = client(&version).next(content(&[2]));
        assert!(matches!(update, Some(Update::Endpoints(_))));
    }

    #[test]
    fn a_client_that_knows_no_deltas_gets_all_each_time() {
        let mut sent = SentEndpoints::nothing(&ExportedEndpointsRequest::default());
        for ids in [&[1][..], &[1, 2]] {
            let Some(Update::Endpoints(all)) = sent.next(content(ids)) else {
                panic!("all of them");
            };
            assert_eq!(all.endpoints.len(), ids.len());
        }
    }
}
