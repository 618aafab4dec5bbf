//! The links of this cluster, followed; trust follows them.

use std::sync::{Arc, PoisonError};

use mesh_core::{
    identity::TrustDomain,
    link::{Link, Links},
};
use mesh_proto::{
    convert::links_from_proto,
    v1::{LinksRequest, links_client::LinksClient},
};
use mesh_tls::{InvalidBundle, Trust};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::{control::ControlPlane, stream};

/// What is known of the links; none before the first answer.
pub type LinksReceiver = watch::Receiver<Option<Arc<Links>>>;

/// Follows the links for as long as `tasks` live, and keeps our trust at the
/// local roots and the bundles of all links.
#[must_use]
pub fn watch_links(control: &ControlPlane, tasks: &TaskTracker) -> LinksReceiver {
    let (sender, receiver) = watch::channel(None);
    let client = LinksClient::new(control.channel());
    let open = move || {
        let mut client = client.clone();
        async move { client.watch_links(LinksRequest {}).await }
    };
    let tls = control.tls().clone();
    let last = control.links.clone();
    let convert = move |message| -> anyhow::Result<Arc<Links>> {
        let links = Arc::new(links_from_proto(message)?);
        tls.set_trust(trust(&links.trust_domain, &links.roots, &links.links)?);
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(links.clone());
        Ok(links)
    };
    let certified = control.tls().clone();
    tasks.spawn(async move {
        certified.certified().await;
        stream::follow("links", sender, open, convert).await;
    });
    receiver
}

/// Trust in the local roots, and in those of every link whose bundle can be
/// used.
pub fn trust(
    local: &TrustDomain,
    roots: &[Vec<u8>],
    links: &[Arc<Link>],
) -> Result<Trust, InvalidBundle> {
    let mut trust = Trust::new(local.clone(), roots)?;
    for link in links {
        match trust
            .clone()
            .with_bundle(link.trust_domain.clone(), &link.roots)
        {
            Ok(more) => trust = more,
            Err(error) => warn!(link = %link.name, %error, "the peer's bundle is left out"),
        }
    }
    Ok(trust)
}
