//! The links of this cluster, followed; trust follows them.

use std::sync::Arc;

use mesh_core::link::Links;
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
    let convert = move |message| -> anyhow::Result<Arc<Links>> {
        let links = links_from_proto(message)?;
        tls.set_trust(trust(&links)?);
        Ok(Arc::new(links))
    };
    let certified = control.tls().clone();
    tasks.spawn(async move {
        certified.certified().await;
        stream::follow("links", sender, open, convert).await;
    });
    receiver
}

/// The local roots, and those of every link whose bundle can be used.
///
/// # Errors
/// If the local roots cannot be used.
pub fn trust(links: &Links) -> Result<Trust, InvalidBundle> {
    let mut trust = Trust::new(links.trust_domain.clone(), &links.roots)?;
    for link in &links.links {
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
