//! What the first control plane of a cluster makes, and every other finds: the
//! root, and the key of endpoint ids.

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::{Context as _, Result};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use mesh_api::names;
use mesh_core::identity::TrustDomain;
use tracing::info;

use crate::{
    authority::new_root,
    exports::EndpointKey,
    rotation::{Held, secret},
};

/// The cluster's root as of `now`; made if there is none.
pub(crate) async fn root(
    client: &Client,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<Held> {
    let make = || {
        let root = new_root(trust_domain, now)?;
        Ok(BTreeMap::from([
            (secret::BUNDLE, root.certificate.clone()),
            (secret::CERTIFICATE, root.certificate),
            (secret::KEY, root.key),
        ]))
    };
    let secret = get_or_make(client, names::ROOT_SECRET, "kubernetes.io/tls", make).await?;
    secret::read(&secret, now).context("the Secret mesh-system/mesh-root")
}

/// The key of endpoint ids; made if there is none.
pub(crate) async fn endpoint_key(client: &Client) -> Result<EndpointKey> {
    let make = || {
        let mut key = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| anyhow::anyhow!("no random bytes"))?;
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(BTreeMap::from([("key", hex)]))
    };
    let secret = get_or_make(client, names::ENDPOINT_KEY_SECRET, "Opaque", make).await?;
    EndpointKey::new(text(&secret, "key")?.as_bytes())
}

/// Creates, never replaces: of several that start at once one makes it, and
/// the others take that.
async fn get_or_make(
    client: &Client,
    name: &str,
    kind: &str,
    make: impl Fn() -> Result<BTreeMap<&'static str, String>>,
) -> Result<Secret> {
    let api: Api<Secret> = Api::namespaced(client.clone(), names::SYSTEM_NAMESPACE);
    if let Some(secret) = api.get_opt(name).await.context("reading a Secret")? {
        return Ok(secret);
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(kind.to_owned()),
        string_data: Some(
            make()?
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect(),
        ),
        ..Secret::default()
    };
    match api.create(&PostParams::default(), &secret).await {
        Ok(secret) => {
            info!(name, "made");
            Ok(secret)
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            api.get(name).await.context("reading a Secret")
        }
        Err(error) => Err(error).with_context(|| format!("making the Secret {name}")),
    }
}

fn text(secret: &Secret, key: &str) -> Result<String> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    let ByteString(bytes) = data.with_context(|| format!("the Secret {name} has no {key}"))?;
    String::from_utf8(bytes.clone()).with_context(|| format!("{key} of the Secret {name}"))
}
