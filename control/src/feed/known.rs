//! Puts together what a peer says of one Service's endpoints. What does not fit
//! is refused, and all of it is asked for. No I/O.

use std::{collections::BTreeMap, sync::Arc};

use mesh_proto::v1::{
    ExportedEndpoints, ExportedEndpointsDelta, exported_endpoints_update::Update,
};
use prost::Message as _;

/// More than any Service has: nothing is kept of a peer that says so much.
const MOST_ENDPOINTS: usize = 20_000;
/// What one message may hold: differences come to no more than that.
const MOST_BYTES: usize = 4 << 20;
/// Ports of one Service, or of one endpoint: they take more memory than bytes.
const MOST_PORTS: usize = 250;

/// What was said last, kept from stream to stream.
#[derive(Debug, Default)]
pub(super) struct Known(Option<Arc<ExportedEndpoints>>);

/// Why a message cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    #[error("a difference to something else than what was said before")]
    Base,
    #[error("a difference that contradicts itself")]
    Contradiction,
    #[error("more of one Service than is kept")]
    TooMuch,
}

impl Known {
    /// The version to go on from; empty if all is needed.
    pub(super) fn version(&self) -> &str {
        self.0.as_ref().map_or("", |known| &known.version)
    }

    /// Takes the next message of the stream: what is known then, or nothing if
    /// the message only says that the peer is there.
    ///
    /// # Errors
    /// If it does not fit: the stream is of no use any more, and the next one
    /// begins with all.
    pub(super) fn take(
        &mut self,
        update: Option<Update>,
    ) -> Result<Option<Arc<ExportedEndpoints>>, Misfit> {
        let known = self.0.take();
        self.0 = match update {
            Some(Update::Heartbeat(_)) | None => {
                self.0 = known;
                return Ok(None);
            }
            Some(Update::Endpoints(all)) => Some(Arc::new(bounded(all)?)),
            Some(Update::Unchanged(same)) => {
                Some(of_version(known, &same.version).ok_or(Misfit::Base)?)
            }
            Some(Update::Delta(delta)) => {
                let base = of_version(known, &delta.base).ok_or(Misfit::Base)?;
                Some(Arc::new(bounded(changed(&base, delta)?)?))
            }
        };
        Ok(self.0.clone())
    }
}

fn of_version(
    known: Option<Arc<ExportedEndpoints>>,
    version: &str,
) -> Option<Arc<ExportedEndpoints>> {
    known.filter(|known| !version.is_empty() && known.version == version)
}

fn changed(
    base: &ExportedEndpoints,
    delta: ExportedEndpointsDelta,
) -> Result<ExportedEndpoints, Misfit> {
    let endpoints = base.endpoints.iter().cloned();
    let mut by_id: BTreeMap<u64, _> = endpoints.map(|endpoint| (endpoint.id, endpoint)).collect();
    for id in &delta.removed {
        by_id.remove(id).ok_or(Misfit::Contradiction)?;
    }
    by_id.extend(
        delta
            .changed
            .into_iter()
            .map(|endpoint| (endpoint.id, endpoint)),
    );
    if u32::try_from(by_id.len()) != Ok(delta.endpoints) {
        return Err(Misfit::Contradiction);
    }
    Ok(ExportedEndpoints {
        endpoints: by_id.into_values().collect(),
        version: delta.version,
        ..ExportedEndpoints {
            endpoints: Vec::new(),
            ..base.clone()
        }
    })
}

fn bounded(all: ExportedEndpoints) -> Result<ExportedEndpoints, Misfit> {
    let mut ports = all.endpoints.iter().map(|endpoint| endpoint.ports.len());
    let is_bounded = all.endpoints.len() <= MOST_ENDPOINTS
        && all.identities.len() <= MOST_ENDPOINTS
        && all.ports.len() <= MOST_PORTS
        && ports.all(|ports| ports <= MOST_PORTS)
        && all.encoded_len() <= MOST_BYTES;
    is_bounded.then_some(all).ok_or(Misfit::TooMuch)
}

#[cfg(test)]
mod tests {
    use mesh_proto::v1::{ExportedEndpoint, ExportedEndpointPort, Heartbeat, Unchanged};

    use super::*;

    fn endpoint(id: u64) -> ExportedEndpoint {
        ExportedEndpoint {
            id,
            ..Default::default()
        }
    }

    fn all(version: &str, ids: impl IntoIterator<Item = u64>) -> Option<Update> {
        Some(Update::Endpoints(ExportedEndpoints {
            exported: true,
            authority: "web".into(),
            endpoints: ids.into_iter().map(endpoint).collect(),
            version: version.into(),
            ..Default::default()
        }))
    }

    fn delta(base: &str, changed: &[u64], removed: &[u64], endpoints: u32) -> Option<Update> {
        Some(Update::Delta(ExportedEndpointsDelta {
            base: base.into(),
            version: "2".into(),
            changed: changed.iter().copied().map(endpoint).collect(),
            removed: removed.to_vec(),
            endpoints,
        }))
    }

    fn unchanged(version: &str) -> Option<Update> {
        let version = version.into();
        Some(Update::Unchanged(Unchanged { version }))
    }

    fn ids(known: &ExportedEndpoints) -> Vec<u64> {
        known.endpoints.iter().map(|endpoint| endpoint.id).collect()
    }

    fn known() -> Known {
        let mut known = Known::default();
        let said = known.take(all("1", [1, 2, 3])).unwrap().unwrap();
        assert_eq!(ids(&said), [1, 2, 3]);
        known
    }

    #[test]
    fn differences_change_the_endpoints_and_nothing_else() {
        let mut known = known();
        let said = known.take(delta("1", &[2, 4], &[1], 3)).unwrap().unwrap();
        assert_eq!(ids(&said), [2, 3, 4]);
        assert!(said.exported);
        assert_eq!(said.authority, "web");
        assert_eq!(known.version(), "2");
    }

    #[test]
    fn what_is_known_outlives_the_stream() {
        let mut known = known();
        assert_eq!(known.take(Some(Update::Heartbeat(Heartbeat {}))), Ok(None));
        let said = known.take(unchanged("1")).unwrap().unwrap();
        assert_eq!(ids(&said), [1, 2, 3]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_all_is_asked_for() {
        for (bad, expected) in [
            (delta("0", &[4], &[], 4), Misfit::Base),
            (delta("", &[4], &[], 4), Misfit::Base),
            (delta("1", &[4], &[9], 4), Misfit::Contradiction),
            (delta("1", &[4], &[], 3), Misfit::Contradiction),
            (unchanged("0"), Misfit::Base),
            (all("2", 0..=MOST_ENDPOINTS as u64), Misfit::TooMuch),
        ] {
            let mut known = known();
            assert_eq!(known.take(bad.clone()).unwrap_err(), expected, "{bad:?}");
            assert_eq!(known.version(), "");
        }
    }

    #[test]
    fn differences_do_not_add_up_to_more_than_one_message_holds() {
        let mut known = known();
        let large = |id: u64, base: &str, version: &str| {
            Some(Update::Delta(ExportedEndpointsDelta {
                base: base.into(),
                version: version.into(),
                changed: vec![ExportedEndpoint {
                    zone: "z".repeat(MOST_BYTES / 2),
                    ..endpoint(id)
                }],
                removed: Vec::new(),
                endpoints: u32::try_from(id).unwrap(),
            }))
        };
        known.take(large(4, "1", "2")).unwrap();
        assert_eq!(known.take(large(5, "2", "3")), Err(Misfit::TooMuch));
        let mut ports = ExportedEndpoints::default();
        ports.endpoints.push(ExportedEndpoint {
            ports: vec![ExportedEndpointPort::default(); MOST_PORTS + 1],
            ..endpoint(1)
        });
        let said = known.take(Some(Update::Endpoints(ports)));
        assert_eq!(said, Err(Misfit::TooMuch));
    }

    #[test]
    fn a_peer_without_versions_says_all_each_time() {
        let mut known = Known::default();
        known.take(all("", [1])).unwrap();
        assert_eq!(known.version(), "");
        assert_eq!(known.take(unchanged("")), Err(Misfit::Base));
    }
}
