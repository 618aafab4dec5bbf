//! The page `/probe?link=NAME` of the admin port: how the peer's gateway is
//! reached from here, tried now.

use std::sync::Arc;

use mesh_core::link::Link;
use mesh_dataplane::{
    links::LinksReceiver,
    own::Own,
    tunnel::{Tunnels, probe::AddressReport},
};
use mesh_runtime::{PageResult, Query};
use mesh_tls::Tls;
use serde::Serialize;

/// What a probe needs.
#[derive(Clone)]
pub(crate) struct Prober {
    pub(crate) tls: Tls,
    pub(crate) tunnels: Tunnels,
    pub(crate) links: LinksReceiver,
}

/// The page.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    own: Own,
    gateways: Vec<AddressReport>,
}

impl Prober {
    /// Answers the page. Only a link that mesh-control has told us of is tried.
    pub(crate) async fn answer(self, query: Query) -> PageResult {
        let name = query.value("link").ok_or("ask for /probe?link=NAME")?;
        let link = self
            .link(name)
            .ok_or("mesh-control has told of no such link")?;
        let report = Report {
            own: Own::of(&self.tls),
            gateways: self.tunnels.probe(&link).await,
        };
        serde_json::to_string(&report).map_err(|_| "the answer cannot be written")
    }

    fn link(&self, name: &str) -> Option<Arc<Link>> {
        let links = self.links.borrow();
        let mut links = links.as_ref()?.links.iter();
        links.find(|link| *link.name == *name).cloned()
    }
}
