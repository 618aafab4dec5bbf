//! Writes to a cluster what was decided.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use mesh_api::link::Link;
use serde_json::{Map, Value, json};

use super::{
    FIELD_MANAGER,
    dns::{self, DnsChange},
    plan::{Change, Side},
};
use crate::cluster::Cluster;

/// Writes the Link of `side`, unless it is as it should be.
///
/// # Errors
/// If `cluster` refuses it.
pub(super) async fn link(cluster: &Cluster, side: &Side) -> anyhow::Result<()> {
    if side.change == Change::None {
        return Ok(());
    }
    let api: Api<Link> = Api::all(cluster.client.clone());
    let name = side.link.spec.cluster.as_str();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    cluster
        .ask(
            "write the Link",
            api.patch(name, &params, &Patch::Apply(&side.link)),
        )
        .await?;
    Ok(())
}

/// Removes the Link `name`, if there is one.
///
/// # Errors
/// If `cluster` refuses that.
pub(super) async fn unlink(cluster: &Cluster, name: &str) -> anyhow::Result<bool> {
    let api: Api<Link> = Api::all(cluster.client.clone());
    let existing = cluster.ask("read Links", api.get_opt(name)).await?;
    if existing.is_none() {
        return Ok(false);
    }
    cluster
        .ask(
            "delete the Link",
            api.delete(name, &DeleteParams::default()),
        )
        .await?;
    Ok(true)
}

/// Writes our file of DNS rules, if it changes.
///
/// # Errors
/// If `cluster` refuses it.
pub(super) async fn dns(cluster: &Cluster, change: &DnsChange) -> anyhow::Result<()> {
    let DnsChange::Write(text) = change else {
        return Ok(());
    };
    // Of the ConfigMap, which others use too, we own our key alone: applying
    // without it takes away that key and nothing else.
    let data: Map<String, Value> = text
        .iter()
        .map(|text| (dns::OVERRIDES_KEY.into(), text.as_str().into()))
        .collect();
    let config_map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": dns::OVERRIDES_CONFIG_MAP, "namespace": dns::NAMESPACE},
        "data": data,
    });
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), dns::NAMESPACE);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    cluster
        .ask(
            "write ConfigMap kube-system/coredns-custom",
            api.patch(
                dns::OVERRIDES_CONFIG_MAP,
                &params,
                &Patch::Apply(&config_map),
            ),
        )
        .await?;
    Ok(())
}
