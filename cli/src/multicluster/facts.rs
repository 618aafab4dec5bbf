//! What must be known of a cluster before it can be linked.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::{
    Api,
    api::{ListParams, PartialObjectMeta},
};
use mesh_api::{link::Link, names};
use mesh_core::{cluster::ClusterName, identity::TrustDomain};

use super::dns::{self, DnsFacts};
use crate::{
    cluster::Cluster,
    manifests::control::{CLUSTER_KEY, TRUST_DOMAIN_KEY},
};

/// A cluster as its own objects describe it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The context it was read through.
    pub(crate) context: String,
    /// Its name.
    pub(crate) cluster: ClusterName,
    /// Its root of trust.
    pub(crate) trust_domain: TrustDomain,
    /// The root certificates, PEM.
    pub(crate) bundle: String,
    /// SHA-256 of each of them.
    pub(crate) fingerprints: Vec<String>,
    /// Where others reach its gateway; `None` if it has none.
    pub(crate) gateway: Option<Door>,
    /// Its Links.
    pub(crate) links: Vec<Link>,
    /// Its namespaces.
    pub(crate) namespaces: Vec<String>,
    /// Its DNS.
    pub(crate) dns: DnsFacts,
}

/// Where a gateway can be reached from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// IP addresses or host names.
    pub(crate) addresses: Vec<String>,
    /// The port.
    pub(crate) port: u16,
}

/// A cluster's name and root of trust.
///
/// # Errors
/// If the mesh is not installed there, or its configuration is damaged.
pub(crate) async fn identity(cluster: &Cluster) -> anyhow::Result<(ClusterName, TrustDomain)> {
    let context = &cluster.context;
    let data = config_map(cluster, names::SYSTEM_NAMESPACE, names::CONFIG_CONFIG_MAP)
        .await?
        .ok_or_else(|| {
            anyhow!(
                "context {context}: the mesh is not installed there: run \
                 `mesh install --cluster NAME | kubectl --context {context} apply -f -` first"
            )
        })?;
    let value = |key: &str| data.get(key).map(String::as_str).unwrap_or_default();
    let damaged = |key| format!("context {context}: {key} in ConfigMap mesh-system/mesh-config");
    Ok((
        value(CLUSTER_KEY)
            .parse()
            .with_context(|| damaged(CLUSTER_KEY))?,
        value(TRUST_DOMAIN_KEY)
            .parse()
            .with_context(|| damaged(TRUST_DOMAIN_KEY))?,
    ))
}

/// Everything that linking needs of `cluster`. Waits up to `patience` for what
/// a fresh installation does not have yet: the roots and, if there is a
/// gateway, its address.
///
/// # Errors
/// If the cluster cannot be read, or patience ends.
pub(crate) async fn read(cluster: &Cluster, patience: Duration) -> anyhow::Result<Facts> {
    let (name, trust_domain) = identity(cluster).await?;
    let bundle = until(patience, || published_roots(cluster)).await?;
    let fingerprints = fingerprints(&bundle).with_context(|| {
        format!(
            "context {}: {} in ConfigMap {}",
            cluster.context,
            names::ROOTS_BUNDLE,
            names::ROOTS_CONFIG_MAP
        )
    })?;
    Ok(Facts {
        context: cluster.context.clone(),
        cluster: name,
        trust_domain,
        fingerprints,
        bundle,
        gateway: until(patience, || gateway(cluster)).await?,
        links: links(cluster).await?,
        namespaces: namespaces(cluster).await?,
        dns: dns(cluster).await,
    })
}

/// SHA-256 fingerprints of the certificates in `pem`.
///
/// # Errors
/// If there are none, or they are damaged.
pub(crate) fn fingerprints(pem: &str) -> anyhow::Result<Vec<String>> {
    let roots = mesh_tls::parse_bundle(pem)?;
    Ok(roots
        .iter()
        .map(|root| mesh_tls::fingerprint(root))
        .collect())
}

/// The roots that mesh-control has published, or why there are none yet.
///
/// # Errors
/// If they cannot be read.
pub(crate) async fn published_roots(cluster: &Cluster) -> anyhow::Result<Result<String, String>> {
    for namespace in [names::SYSTEM_NAMESPACE, names::MULTICLUSTER_NAMESPACE] {
        let data = config_map(cluster, namespace, names::ROOTS_CONFIG_MAP).await?;
        if let Some(bundle) = data.and_then(|mut data| data.remove(names::ROOTS_BUNDLE)) {
            return Ok(Ok(bundle));
        }
    }
    Ok(Err(format!(
        "context {0}: mesh-control has not published its roots: see \
         `kubectl --context {0} -n mesh-system logs deploy/mesh-control`",
        cluster.context
    )))
}

async fn gateway(cluster: &Cluster) -> anyhow::Result<Result<Option<Door>, String>> {
    let services: Api<Service> =
        Api::namespaced(cluster.client.clone(), names::MULTICLUSTER_NAMESPACE);
    let service = cluster
        .ask(
            "read the gateway's Service",
            services.get_opt(names::GATEWAY),
        )
        .await?;
    let Some(service) = service else {
        return Ok(Ok(None));
    };
    Ok(match door(&service) {
        Some(door) => Ok(Some(door)),
        None => Err(format!(
            "context {0}: the gateway's Service has no address that other clusters can reach: \
             wait until `kubectl --context {0} -n mesh-multicluster get service mesh-gateway` \
             shows an EXTERNAL-IP, or set spec.externalIPs",
            cluster.context
        )),
    })
}

/// Where others reach the gateway behind `service`, if they can.
pub(crate) fn door(service: &Service) -> Option<Door> {
    let spec = service.spec.as_ref()?;
    let port = u16::try_from(spec.ports.as_ref()?.first()?.port).ok()?;
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let mut addresses: Vec<String> = ingress
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()))
        .chain(spec.external_ips.iter().flatten().cloned())
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort();
    addresses.dedup();
    (!addresses.is_empty()).then_some(Door { addresses, port })
}

/// The Links of `cluster`.
///
/// # Errors
/// If they cannot be read.
pub(crate) async fn links(cluster: &Cluster) -> anyhow::Result<Vec<Link>> {
    let api: Api<Link> = Api::all(cluster.client.clone());
    let listed = cluster
        .ask("list Links", api.list(&ListParams::default()))
        .await?;
    Ok(listed.items)
}

async fn namespaces(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let listed = cluster
        .ask("list namespaces", api.list_metadata(&ListParams::default()))
        .await?;
    let name = |namespace: PartialObjectMeta<Namespace>| namespace.metadata.name;
    Ok(listed.items.into_iter().filter_map(name).collect())
}

/// What can be seen of a cluster's DNS. Whoever may not see it gets the rule
/// to pass on, so nothing here is an error.
pub(crate) async fn dns(cluster: &Cluster) -> DnsFacts {
    let read = async |name, key: &str| {
        let data = config_map(cluster, dns::NAMESPACE, name).await.ok()??;
        data.get(key).cloned()
    };
    DnsFacts {
        corefile: read(dns::COREFILE_CONFIG_MAP, "Corefile").await,
        overrides: read(dns::OVERRIDES_CONFIG_MAP, dns::OVERRIDES_KEY).await,
    }
}

async fn config_map(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Option<BTreeMap<String, String>>> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    let found = cluster
        .ask(
            &format!("read ConfigMap {namespace}/{name}"),
            api.get_opt(name),
        )
        .await?;
    Ok(found.map(|found| found.data.unwrap_or_default()))
}

/// Asks until the answer is there.
///
/// # Errors
/// If asking fails; or, when `patience` ends, with what was missing.
async fn until<T, A>(patience: Duration, mut ask: A) -> anyhow::Result<T>
where
    A: AsyncFnMut() -> anyhow::Result<Result<T, String>>,
{
    let deadline = tokio::time::Instant::now() + patience;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        match ask().await? {
            Ok(answer) => return Ok(answer),
            Err(missing) if tokio::time::Instant::now() >= deadline => {
                return Err(anyhow!("{missing} (waited {} s)", patience.as_secs()));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(spec: serde_json::Value, status: serde_json::Value) -> Service {
        serde_json::from_value(json!({"spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn a_gateway_is_reached_at_what_its_load_balancer_says() {
        let ports = json!({"ports": [{"port": 4143}]});
        let ingress =
            json!({"loadBalancer": {"ingress": [{"hostname": "b.example"}, {"ip": "192.0.2.1"}]}});
        assert_eq!(
            door(&service(ports.clone(), ingress)),
            Some(Door {
                addresses: vec!["192.0.2.1".into(), "b.example".into()],
                port: 4143
            })
        );
        assert_eq!(door(&service(ports, json!({"loadBalancer": {}}))), None);
    }

    #[test]
    fn addresses_that_the_user_gave_count() {
        let spec = json!({"ports": [{"port": 443}], "externalIPs": ["192.0.2.7"]});
        let found = door(&service(spec, json!({}))).unwrap();
        assert_eq!(
            (found.addresses, found.port),
            (vec!["192.0.2.7".into()], 443)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_what_was_missing() {
        let waited: anyhow::Result<()> = until(Duration::from_secs(5), async || {
            Ok(Err("no address".into()))
        })
        .await;
        assert_eq!(waited.unwrap_err().to_string(), "no address (waited 5 s)");
    }
}
