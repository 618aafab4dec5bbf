//! The custom resource `Link`: one other cluster that this one is joined to.

use kube::CustomResource;
use mesh_core::link as model;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a Link says of the peer. It holds no secret.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mesh.dev",
    version = "v1alpha1",
    kind = "Link",
    plural = "links",
    status = "LinkStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.cluster"}"#,
    printcolumn = r#"{"name":"Direction","type":"string","jsonPath":".spec.direction"}"#,
    printcolumn = r#"{"name":"Reachable","type":"string","jsonPath":".status.conditions[?(@.type==\"Reachable\")].status"}"#,
    printcolumn = r#"{"name":"Synced","type":"string","jsonPath":".status.conditions[?(@.type==\"Synced\")].status"}"#,
    printcolumn = r#"{"name":"Services","type":"integer","jsonPath":".status.services.mirrored"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Refused","type":"integer","jsonPath":".status.services.refused","priority":1}"#,
    printcolumn = r#"{"name":"Conflicting","type":"integer","jsonPath":".status.services.conflicting","priority":1}"#,
    printcolumn = r#"{"name":"Gateways","type":"string","jsonPath":".status.gateways[*].alive","priority":1}"#,
    printcolumn = r#"{"name":"Changed","type":"date","jsonPath":".status.lastChange","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LinkSpec {
    /// The peer's name, as Services get it as a suffix.
    pub cluster: String,
    /// The peer's trust domain; differs from the local one.
    pub trust_domain: String,
    /// The peer's root certificates, PEM.
    pub bundle: String,
    /// The peer's door.
    pub gateway: LinkGateway,
    /// The peer's programs that may read the export feed.
    pub peers: LinkPeers,
    /// The /64 whose addresses stand for the peer's endpoints.
    pub prefix: String,
    /// What the link is for.
    #[serde(default)]
    pub direction: Direction,
    /// Namespaces that may hold mirror Services; all, if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

/// Where and who the peer's gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkGateway {
    /// IP addresses or host names.
    pub addresses: Vec<String>,
    /// Its public port.
    pub port: u16,
    /// Its SPIFFE id.
    pub identity: String,
    /// The server name sent in the ClientHello.
    pub server_name: String,
}

/// SPIFFE ids of the peer's controllers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkPeers {
    /// Its mesh-control.
    pub control: String,
    /// Its mesh-mirror.
    pub mirror: String,
}

/// What a link is for, seen from the cluster that holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// Import the peer's exports and let it import ours.
    #[default]
    Both,
    /// Import only.
    Import,
    /// Export only.
    Export,
    /// Accept the peer's identities in policies, nothing else.
    TrustOnly,
}

/// What the controllers found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// `Reachable`, `Synced`, `Conflicts`.
    #[serde(default)]
    pub conditions: Vec<LinkCondition>,
    /// All of it in one sentence.
    #[serde(default)]
    pub message: String,
    /// What became of the exported Services.
    #[serde(default, deserialize_with = "counts")]
    pub services: LinkServices,
    /// The peer's gateway, address by address.
    #[serde(default)]
    pub gateways: Vec<LinkGatewayStatus>,
    /// When any of this last changed, RFC 3339.
    #[serde(default)]
    pub last_change: Option<String>,
    /// Uid of the cluster that last answered under this name.
    #[serde(default)]
    pub cluster_uid: Option<String>,
    /// The peer's root certificates as its feed names them, PEM, if they are
    /// not those of the spec.
    #[serde(default)]
    pub bundle: Option<String>,
    /// The gateway's addresses as the feed names them, if they are not those
    /// of the spec.
    #[serde(default)]
    pub gateway_addresses: Vec<String>,
    /// The [`LinkSpec::fingerprint`] for which `bundle` and
    /// `gatewayAddresses` hold: who edits the spec is believed again.
    #[serde(default)]
    pub observed_spec: Option<String>,
}

/// Counts, or none if there is something else: it was a number once, and a
/// Link that cannot be read would keep all others from being read.
fn counts<'de, D: serde::Deserializer<'de>>(from: D) -> Result<LinkServices, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// What became of the exported Services, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkServices {
    /// Mirror Services that exist.
    #[serde(default)]
    pub mirrored: u32,
    /// Exported Services that cannot be mirrored.
    #[serde(default)]
    pub refused: u32,
    /// Mirrors whose names are taken.
    #[serde(default)]
    pub conflicting: u32,
}

/// One address of the peer's gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkGatewayStatus {
    /// An IP address or host name.
    pub address: String,
    /// Whether it answers probes.
    pub alive: bool,
    /// How long a recent probe took, milliseconds.
    #[serde(default)]
    pub latency_ms: Option<u32>,
    /// When `alive` last changed, RFC 3339.
    pub last_change: String,
}

/// One condition, as Kubernetes writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkCondition {
    /// Which one.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When `status` last changed, RFC 3339.
    pub last_transition_time: String,
}

impl Link {
    /// The spec, with what the peer's feed has said since it was written.
    #[must_use]
    pub fn effective_spec(&self) -> LinkSpec {
        effective(&self.spec, self.status.as_ref())
    }

    /// The link as the data plane is to know it now: mesh-control tells it so, and
    /// mesh-mirror knows by it whether it has been told. `parse` reads a bundle.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn to_model<E: std::fmt::Display>(
        &self,
        parse: impl Fn(&str) -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<model::Link, String> {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let spec = self.effective_spec();
        // What the feed said may not be readable: what the owner wrote counts then.
        let roots = parse(&spec.bundle).or_else(|_| parse(&self.spec.bundle));
        let roots = roots.map_err(|error| error.to_string())?;
        spec.to_model(name, roots)
            .map_err(|error| error.to_string())
    }
}

/// `spec` with the bundle and the gateway's addresses of `status`, if that
/// speaks of this very spec.
#[must_use]
pub fn effective(spec: &LinkSpec, status: Option<&LinkStatus>) -> LinkSpec {
    let mut effective = spec.clone();
    let fingerprint = spec.fingerprint();
    let Some(seen) = status.filter(|s| s.observed_spec.as_ref() == Some(&fingerprint)) else {
        return effective;
    };
    if let Some(bundle) = seen.bundle.as_ref().filter(|bundle| !bundle.is_empty()) {
        effective.bundle.clone_from(bundle);
    }
    if !seen.gateway_addresses.is_empty() {
        let addresses = &mut effective.gateway.addresses;
        addresses.clone_from(&seen.gateway_addresses);
    }
    effective
}

impl LinkSpec {
    /// Tells one version of whom and where the peer is from another. It is no
    /// secret and no proof: only the owner of the Link writes what goes in.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let gateway = &self.gateway;
        let port = gateway.port.to_string();
        let fixed = [
            &self.cluster,
            &self.trust_domain,
            &self.bundle,
            &port,
            &gateway.identity,
            &gateway.server_name,
            &self.peers.control,
        ];
        format!("{:016x}", fnv(fixed.into_iter().chain(&gateway.addresses)))
    }

    /// The link as the data plane knows it.
    ///
    /// `roots` are the certificates of [`bundle`](Self::bundle), DER.
    ///
    /// # Errors
    /// Names the field that is wrong, and why.
    pub fn to_model(&self, name: &str, roots: Vec<Vec<u8>>) -> Result<model::Link, InvalidLink> {
        fn parse<T>(field: &'static str, text: &str) -> Result<T, InvalidLink>
        where
            T: std::str::FromStr,
            T::Err: std::fmt::Display,
        {
            text.parse().map_err(|error: T::Err| InvalidLink {
                field,
                reason: error.to_string(),
            })
        }
        if self.gateway.port == 0 {
            return Err(InvalidLink {
                field: "spec.gateway.port",
                reason: "0 is no port".into(),
            });
        }
        let (import, export) = match self.direction {
            Direction::Both => (true, true),
            Direction::Import => (true, false),
            Direction::Export => (false, true),
            Direction::TrustOnly => (false, false),
        };
        let link = model::Link {
            name: name.into(),
            cluster: parse("spec.cluster", &self.cluster)?,
            trust_domain: parse("spec.trustDomain", &self.trust_domain)?,
            roots,
            gateway: model::Gateway {
                hosts: self
                    .gateway
                    .addresses
                    .iter()
                    .map(|a| a.as_str().into())
                    .collect(),
                port: self.gateway.port,
                identity: parse("spec.gateway.identity", &self.gateway.identity)?,
                server_name: self.gateway.server_name.as_str().into(),
            },
            prefix: parse("spec.prefix", &self.prefix)?,
            control: parse("spec.peers.control", &self.peers.control)?,
            mirror: parse("spec.peers.mirror", &self.peers.mirror)?,
            import,
            export,
        };
        let foreign = [&link.gateway.identity, &link.control, &link.mirror]
            .into_iter()
            .find(|id| *id.trust_domain() != link.trust_domain);
        match foreign {
            None => Ok(link),
            Some(id) => Err(InvalidLink {
                field: "spec.trustDomain",
                reason: format!("{id} belongs to another trust domain"),
            }),
        }
    }
}

/// FNV-1a over texts, each closed by a byte that no text has.
fn fnv<'a>(texts: impl Iterator<Item = &'a String>) -> u64 {
    let bytes = texts.flat_map(|text| text.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A Link that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLink {
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for InvalidLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for InvalidLink {}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LinkSpec {
        LinkSpec {
            cluster: "east".into(),
            trust_domain: "east".into(),
            bundle: String::new(),
            gateway: LinkGateway {
                addresses: vec!["10.99.2.100".into()],
                port: 4143,
                identity: "spiffe://east/ns/mesh-multicluster/sa/mesh-gateway".into(),
                server_name: "gateway.east.mesh".into(),
            },
            peers: LinkPeers {
                control: "spiffe://east/ns/mesh-system/sa/mesh-control".into(),
                mirror: "spiffe://east/ns/mesh-multicluster/sa/mesh-mirror".into(),
            },
            prefix: "fd6d:6573:6800:1::/64".into(),
            direction: Direction::Both,
            namespaces: Vec::new(),
        }
    }

    #[test]
    fn a_whole_link_becomes_a_model() {
        let link = spec().to_model("east", Vec::new()).unwrap();
        assert_eq!(link.cluster.as_str(), "east");
        assert!(link.import && link.export);
    }

    #[test]
    fn a_link_names_identities_of_its_own_trust_domain_only() {
        let mut bad = spec();
        bad.peers.control = "spiffe://west/ns/mesh-system/sa/mesh-control".into();
        let error = bad.to_model("east", Vec::new()).unwrap_err();
        assert_eq!(error.field, "spec.trustDomain");
    }

    #[test]
    fn a_wrong_field_is_named() {
        let mut bad = spec();
        bad.prefix = "10.0.0.0/8".into();
        let error = bad.to_model("east", Vec::new()).unwrap_err();
        assert_eq!(error.field, "spec.prefix");
    }

    /// A status whose feed named another root and address for `spec()`.
    fn seen() -> LinkStatus {
        LinkStatus {
            bundle: Some("new root".into()),
            gateway_addresses: vec!["10.99.2.101".into()],
            observed_spec: Some(spec().fingerprint()),
            ..LinkStatus::default()
        }
    }

    #[test]
    fn what_the_feed_said_holds_for_the_spec_that_it_was_said_of() {
        let said = LinkSpec {
            bundle: "new root".into(),
            gateway: LinkGateway {
                addresses: vec!["10.99.2.101".into()],
                ..spec().gateway
            },
            ..spec()
        };
        assert_eq!(effective(&spec(), Some(&seen())), said);
        assert_eq!(effective(&spec(), None), spec());
        let other_namespaces = LinkSpec {
            namespaces: vec!["shop".into()],
            ..spec()
        };
        let effective = effective(&other_namespaces, Some(&seen()));
        assert_eq!(
            effective.bundle, "new root",
            "that has nothing to do with it"
        );
    }

    #[test]
    fn whoever_edits_the_spec_is_believed_again() {
        let edits: [fn(&mut LinkSpec); 7] = [
            |spec| spec.bundle = "by hand".into(),
            |spec| spec.trust_domain = "other".into(),
            |spec| spec.gateway.addresses = vec!["192.0.2.7".into()],
            |spec| spec.gateway.addresses.push("192.0.2.7".into()),
            |spec| spec.gateway.port = 4144,
            |spec| spec.gateway.identity.push('x'),
            |spec| spec.cluster = "other".into(),
        ];
        for (index, edit) in edits.into_iter().enumerate() {
            let mut edited = spec();
            edit(&mut edited);
            assert_eq!(effective(&edited, Some(&seen())), edited, "edit {index}");
        }
    }

    #[test]
    fn a_status_of_an_older_program_can_be_read() {
        let old = serde_json::json!({ "services": 3, "clusterUid": "east-uid" });
        let status: LinkStatus = serde_json::from_value(old).unwrap();
        assert_eq!(status.cluster_uid.as_deref(), Some("east-uid"));
        assert_eq!(status.services, LinkServices::default());
    }

    #[test]
    fn a_status_that_says_nothing_changes_nothing() {
        let mut nothing = seen();
        nothing.bundle = None;
        nothing.gateway_addresses.clear();
        assert_eq!(effective(&spec(), Some(&nothing)), spec());
        nothing.bundle = Some(String::new());
        assert_eq!(effective(&spec(), Some(&nothing)), spec());
    }

    #[test]
    fn roots_that_a_feed_garbled_leave_those_of_the_owner() {
        let read = |bundle: &str| match bundle {
            "garbled" => Err("not a bundle"),
            bundle => Ok(vec![bundle.as_bytes().to_vec()]),
        };
        let mut link = Link::new("east", spec());
        link.spec.bundle = "owner".into();
        link.status = Some(LinkStatus {
            observed_spec: Some(link.spec.fingerprint()),
            ..seen()
        });
        for (said, roots) in [("peer", "peer"), ("garbled", "owner")] {
            link.status.as_mut().unwrap().bundle = Some(said.into());
            let model = link.to_model(read).unwrap();
            assert_eq!(model.roots, [roots.as_bytes()]);
            assert_eq!(
                (&*model.name, &*model.gateway.hosts[0]),
                ("east", "10.99.2.101")
            );
        }
        link.spec.bundle = "garbled".into();
        assert_eq!(link.to_model(read).unwrap_err(), "not a bundle");
    }
}
