//! Who somebody is: trust domains and SPIFFE ids.

use std::{fmt, str::FromStr, sync::Arc};

/// The name of one root of trust, as SPIFFE defines it (SPIFFE-ID §2.1): lower
/// case letters, digits, dots, dashes and underscores, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidIdentity;

    fn from_str(name: &str) -> Result<Self, InvalidIdentity> {
        let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        let bounded = (1..=255).contains(&name.len());
        if bounded && name.bytes().all(legal) && !name.starts_with('.') && !name.ends_with('.') {
            Ok(Self(name.into()))
        } else {
            Err(InvalidIdentity::TrustDomain)
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a workload, in the one form that the mesh issues and
/// accepts: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    uri: Arc<str>,
    trust_domain: TrustDomain,
}

impl SpiffeId {
    /// The identity of a Kubernetes ServiceAccount.
    ///
    /// # Errors
    /// If a part is not a legal Kubernetes name.
    pub fn new(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, InvalidIdentity> {
        if !is_dns_label(namespace) {
            return Err(InvalidIdentity::Namespace);
        }
        if !is_dns_subdomain(service_account) {
            return Err(InvalidIdentity::ServiceAccount);
        }
        let uri = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}");
        Ok(Self {
            uri: uri.into(),
            trust_domain: trust_domain.clone(),
        })
    }

    /// The whole URI.
    #[must_use]
    pub fn as_uri(&self) -> &str {
        &self.uri
    }

    /// The root of trust that vouches for it.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace that it names.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.names().0
    }

    /// The ServiceAccount that it names.
    #[must_use]
    pub fn service_account(&self) -> &str {
        self.names().1
    }

    fn names(&self) -> (&str, &str) {
        let path = "spiffe://".len() + self.trust_domain.as_str().len() + "/ns/".len();
        let names = self
            .uri
            .get(path..)
            .and_then(|path| path.split_once("/sa/"));
        names.unwrap_or_default()
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidIdentity;

    fn from_str(uri: &str) -> Result<Self, InvalidIdentity> {
        let rest = uri
            .strip_prefix("spiffe://")
            .ok_or(InvalidIdentity::Scheme)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [trust_domain, "ns", namespace, "sa", service_account] = parts[..] else {
            return Err(InvalidIdentity::Path);
        };
        Self::new(&trust_domain.parse()?, namespace, service_account)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// Why a name is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// The trust domain has a character that SPIFFE forbids, or a wrong length.
    #[error("not a trust domain: 1 to 255 of a-z, 0-9, '.', '-', '_'")]
    TrustDomain,
    /// Not a `spiffe://` URI.
    #[error("not a spiffe:// URI")]
    Scheme,
    /// The path is not `/ns/<namespace>/sa/<service-account>`.
    #[error("the path is not /ns/<namespace>/sa/<service-account>")]
    Path,
    /// The namespace is not a DNS label.
    #[error("the namespace is not a DNS label")]
    Namespace,
    /// The service account is not a DNS subdomain.
    #[error("the service account is not a DNS subdomain")]
    ServiceAccount,
}

/// RFC 1123 label, as Kubernetes names namespaces and Services.
#[must_use]
pub fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// RFC 1123 subdomain, as Kubernetes names most objects.
#[must_use]
pub fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_text() {
        let id: SpiffeId = "spiffe://west/ns/shop/sa/web".parse().unwrap();
        assert_eq!(id.as_uri(), "spiffe://west/ns/shop/sa/web");
        assert_eq!(id.trust_domain().as_str(), "west");
        assert_eq!((id.namespace(), id.service_account()), ("shop", "web"));
        let named_sa: SpiffeId = "spiffe://sa/ns/sa/sa/sa".parse().unwrap();
        assert_eq!(
            (named_sa.namespace(), named_sa.service_account()),
            ("sa", "sa")
        );
    }

    #[test]
    fn only_the_exact_form_is_an_identity() {
        for bad in [
            "",
            "west/ns/shop/sa/web",
            "SPIFFE://west/ns/shop/sa/web",
            "spiffe://West/ns/shop/sa/web",
            "spiffe://west./ns/shop/sa/web",
            "spiffe:///ns/shop/sa/web",
            "spiffe://west/ns/shop/sa/web/",
            "spiffe://west/ns//sa/web",
            "spiffe://west/ns/shop/sa/",
            "spiffe://west/ns/shop/sa/..",
            "spiffe://west/ns/shop/sa/web%2e",
            "spiffe://west/ns/shop/sa/web?x",
            "spiffe://west/ns/*/sa/web",
            "spiffe://west/ns/shop/sa/web\0",
            "spiffe://west:80/ns/shop/sa/web",
            "spiffe://u@west/ns/shop/sa/web",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad:?}");
        }
    }
}
