//! What decides, as the control plane last said it.

use std::sync::Arc;

use mesh_core::{identity::SpiffeId, link::Links};
use mesh_dataplane::{links::LinksReceiver, tunnel::Target};
use mesh_wire::mesh1::Reason;

use crate::{
    decide::{Upstream, decide, is_known},
    table::{Table, TableReceiver},
};

/// The table and the links, followed.
#[derive(Clone)]
pub(crate) struct State {
    table: TableReceiver,
    links: LinksReceiver,
}

impl State {
    pub(crate) const fn new(table: TableReceiver, links: LinksReceiver) -> Self {
        Self { table, links }
    }

    /// Waits until both have been said once.
    pub(crate) async fn known(&mut self) {
        // An error means that the sender is gone, which ends the program anyway.
        let _ = self.table.wait_for(Option::is_some).await;
        let _ = self.links.wait_for(Option::is_some).await;
    }

    /// Whether `client` gets what it asks for, now. As long as nothing is known
    /// nobody gets anything.
    pub(crate) fn decide(&self, client: &SpiffeId, target: Target) -> Result<Upstream, Reason> {
        let table = self.table.borrow().clone();
        let links = self.links.borrow().clone();
        match (table, links) {
            (Some(table), Some(links)) => decide(&table, &links, client, target),
            (None::<Arc<Table>>, _) | (_, None::<Arc<Links>>) => Err(Reason::Overloaded),
        }
    }

    /// The name of the link over which `client` comes, for metrics; empty for
    /// our own trust domain.
    pub(crate) fn link(&self, client: &SpiffeId) -> String {
        let links = self.links.borrow();
        let link = links
            .as_ref()
            .and_then(|links| links.by_trust_domain(client.trust_domain()));
        link.map_or_else(String::new, |link| link.cluster.to_string())
    }

    /// Waits until something has changed since the last time this returned. It
    /// may return once too often, never too seldom.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.table.changed() => {}
            Ok(()) = self.links.changed() => {}
            // Nobody is left who could change anything.
            else => std::future::pending().await,
        }
    }

    /// Waits until the trust domain of `client` is neither linked nor ours.
    pub(crate) async fn unlinked(mut self, client: &SpiffeId) {
        let known = |links: &Option<Arc<Links>>| {
            links.as_ref().is_some_and(|links| is_known(links, client))
        };
        if self.links.wait_for(|links| !known(links)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
