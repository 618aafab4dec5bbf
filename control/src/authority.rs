//! The cluster's root of trust, and the issuer that signs workloads.
//!
//! The root is kept in a Secret that the first control plane makes. Each
//! replica has an issuer of its own, in memory, whose certificate the root
//! signs anew every day. A workload's certificate holds nothing of its request
//! but the public key.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use mesh_core::identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use time::OffsetDateTime;
use tokio::sync::watch;

/// How long a root is valid, and how long before it is made that begins: a
/// replica whose clock is behind is to start with it all the same. It vouches
/// for nothing that was there before it, so this costs nothing.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const ROOT_BACKDATED: Duration = Duration::from_secs(24 * 3600);
/// How long an issuer is valid, and how soon it is replaced: whatever it signed
/// ends before it does.
const ISSUER_LIFE: Duration = Duration::from_secs(72 * 3600);
const ISSUER_FRESH: Duration = Duration::from_secs(24 * 3600);
/// How long a workload's certificate is valid.
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Clocks of a cluster differ by less.
const SKEW: Duration = Duration::from_secs(60);
/// A request is smaller: an ECDSA key and a signature.
const LARGEST_REQUEST: usize = 16 * 1024;

/// A root as its Secret holds it, PEM.
#[derive(Clone)]
pub(crate) struct RootPem {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Makes a root for `trust_domain`.
pub(crate) fn new_root(trust_domain: &TrustDomain, now: SystemTime) -> Result<RootPem> {
    let name = format!("root of {trust_domain}");
    let life = now - ROOT_BACKDATED..now + ROOT_LIFE;
    let params = authority_params(&name, BasicConstraints::Unconstrained, life);
    let key = KeyPair::generate()?;
    Ok(RootPem {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Signs for this cluster. Clones share the issuer.
#[derive(Clone)]
pub(crate) struct Authority(Arc<Inner>);

struct Inner {
    trust_domain: TrustDomain,
    signing: Mutex<Signing>,
    /// How often the root was replaced.
    replaced: watch::Sender<u64>,
}

struct Signing {
    /// The root's certificate, to tell one root from another.
    certificate: String,
    root: Issuer<'static, KeyPair>,
    issuer: Option<Arc<ActiveIssuer>>,
}

impl Signing {
    fn new(root: &RootPem) -> Result<Self> {
        let key = KeyPair::from_pem(&root.key).context("the root's key")?;
        Ok(Self {
            certificate: root.certificate.clone(),
            root: Issuer::from_ca_cert_pem(&root.certificate, key).context("the root")?,
            issuer: None,
        })
    }
}

struct ActiveIssuer {
    issuer: CertifiedIssuer<'static, KeyPair>,
    made: SystemTime,
}

/// A certificate that was issued.
pub(crate) struct Issued {
    pub(crate) leaf: Vec<u8>,
    pub(crate) intermediates: Vec<Vec<u8>>,
    pub(crate) valid_until: SystemTime,
}

/// Why nothing is issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The requester's fault.
    #[error("the request is refused: {0}")]
    Request(&'static str),
    /// Ours.
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
}

impl Authority {
    /// Takes the root that the Secret holds.
    pub(crate) fn new(root: &RootPem, trust_domain: TrustDomain) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            trust_domain,
            signing: Mutex::new(Signing::new(root)?),
            replaced: watch::Sender::new(0),
        })))
    }

    /// Signs with `root` from now on; says whether that is another than before.
    pub(crate) fn sign_with(&self, root: &RootPem) -> Result<bool> {
        if self.lock().certificate == root.certificate {
            return Ok(false);
        }
        *self.lock() = Signing::new(root)?;
        self.0.replaced.send_modify(|count| *count += 1);
        Ok(true)
    }

    /// Changes whenever another root signs.
    pub(crate) fn replaced(&self) -> watch::Receiver<u64> {
        self.0.replaced.subscribe()
    }

    /// Whom it signs for.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// A certificate for `id` and the public key in `request` (a PKCS#10
    /// request, DER). Everything else in the request is ignored.
    pub(crate) fn issue(
        &self,
        id: &SpiffeId,
        request: &[u8],
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        if request.len() > LARGEST_REQUEST {
            return Err(IssueError::Request("it is too large"));
        }
        let request = request.to_vec().into();
        let request = CertificateSigningRequestParams::from_der(&request).map_err(|_| {
            IssueError::Request("it is no certificate request, or its signature is wrong")
        })?;
        if *request.public_key.algorithm() != rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(IssueError::Request("its key is not ECDSA P-256"));
        }
        self.sign(id, &request.public_key, now)
    }

    /// A certificate for `id` and `key`.
    pub(crate) fn sign(
        &self,
        id: &SpiffeId,
        key: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        let active = self.active(now)?;
        let leaf = leaf_params(id, now)?.signed_by(key, &*active.issuer)?;
        Ok(Issued {
            leaf: leaf.der().to_vec(),
            intermediates: vec![active.issuer.der().to_vec()],
            valid_until: now + LEAF_LIFE,
        })
    }

    /// The issuer of today.
    fn active(&self, now: SystemTime) -> Result<Arc<ActiveIssuer>, rcgen::Error> {
        let mut signing = self.lock();
        if let Some(active) = &signing.issuer
            // A clock that went back makes the issuer look as if from the future.
            && now.duration_since(active.made).is_ok_and(|age| age < ISSUER_FRESH)
        {
            return Ok(active.clone());
        }
        let name = format!("issuer of {}", self.0.trust_domain);
        let life = now - SKEW..now + ISSUER_LIFE;
        let params = authority_params(&name, BasicConstraints::Constrained(0), life);
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate()?, &signing.root)?;
        let active = Arc::new(ActiveIssuer { issuer, made: now });
        signing.issuer = Some(active.clone());
        Ok(active)
    }

    fn lock(&self) -> MutexGuard<'_, Signing> {
        let signing = self.0.signing.lock();
        signing.unwrap_or_else(PoisonError::into_inner)
    }
}

fn authority_params(
    name: &str,
    constraints: BasicConstraints,
    life: Range<SystemTime>,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::from(life.start);
    params.not_after = OffsetDateTime::from(life.end);
    params
}

/// The template of every workload certificate.
fn leaf_params(id: &SpiffeId, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_uri().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.not_before = OffsetDateTime::from(now - SKEW);
    params.not_after = OffsetDateTime::from(now + LEAF_LIFE);
    params.use_authority_key_identifier_extension = true;
    let serial: [u8; 16] = std::array::from_fn(|_| 0);
    params.serial_number = Some(SerialNumber::from(random_serial(serial)));
    Ok(params)
}

/// Positive and unique (RFC 5280 §4.1.2.2).
fn random_serial(mut bytes: [u8; 16]) -> Vec<u8> {
    // Without randomness the serial is constant, which nobody here relies on.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes[0] &= 0x7f;
    bytes.to_vec()
}

#[cfg(test)]
mod tests {
    use mesh_tls::{Clock, KeyRequest, Tls, TlsError, Trust, parse_bundle};

    use super::*;

    const WEB: &str = "spiffe://west/ns/shop/sa/web";

    fn authority() -> (Authority, Vec<Vec<u8>>) {
        let west: TrustDomain = "west".parse().unwrap();
        let root = new_root(&west, Clock::SYSTEM.now()).unwrap();
        let bundle = parse_bundle(&root.certificate).unwrap();
        (Authority::new(&root, west).unwrap(), bundle)
    }

    /// `WEB`, with a certificate that was signed at `now`.
    fn web(authority: &Authority, bundle: &[Vec<u8>], now: SystemTime) -> Tls {
        let key = KeyRequest::generate().unwrap();
        let id: SpiffeId = WEB.parse().unwrap();
        let issued = authority.issue(&id, key.csr_der(), now).unwrap();
        let trust = Trust::new("west".parse().unwrap(), bundle).unwrap();
        let tls = Tls::new(trust, Clock::SYSTEM);
        tls.set_certificate(key.certify(issued.leaf, issued.intermediates).unwrap());
        tls
    }

    /// How a client gets on with a server whose certificate was signed at `now`.
    async fn client_of_one_signed(now: SystemTime) -> Result<(), TlsError> {
        let (authority, bundle) = authority();
        let server = web(&authority, &bundle, now);
        let client = web(&authority, &bundle, Clock::SYSTEM.now());
        let (near, far) = tokio::io::duplex(65_536);
        let expected = [WEB.parse().unwrap()];
        let (accepted, connected) = tokio::join!(
            server.accept(far, b"mesh/1"),
            client.connect(near, &expected, None, b"mesh/1")
        );
        connected?;
        assert_eq!(accepted.unwrap().1, expected[0]);
        Ok(())
    }

    #[tokio::test]
    async fn a_certificate_is_accepted_by_those_who_trust_the_root() {
        client_of_one_signed(Clock::SYSTEM.now()).await.unwrap();
    }

    #[tokio::test]
    async fn t7_what_is_signed_by_a_clock_ahead_is_not_valid_yet_beyond_the_leeway() {
        let now = Clock::SYSTEM.now();
        client_of_one_signed(now + SKEW / 2).await.unwrap();
        let early = client_of_one_signed(now + 2 * SKEW).await.unwrap_err();
        assert_eq!(early.reason(), "not_yet_valid");
    }

    #[test]
    fn i1_nothing_of_a_request_but_its_key_is_used() {
        let (authority, _) = authority();
        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = greedy.serialize_request(&key);
        let id: SpiffeId = "spiffe://west/ns/shop/sa/web".parse().unwrap();
        // A request that asks for more than rcgen can read is refused as well.
        let Ok(request) = request else { return };
        if let Ok(issued) = authority.issue(&id, request.der(), Clock::SYSTEM.now()) {
            let certificate = mesh_tls::Certificate::from_parts(
                [vec![issued.leaf], issued.intermediates].concat(),
                key.serialize_der(),
            );
            assert_eq!(*certificate.unwrap().id(), id);
        }
    }

    #[test]
    fn i3_keys_and_requests_that_we_do_not_use_are_refused() {
        let (authority, _) = authority();
        let id: SpiffeId = "spiffe://west/ns/shop/sa/web".parse().unwrap();
        let now = Clock::SYSTEM.now();
        assert!(authority.issue(&id, b"junk", now).is_err());
        assert!(authority.issue(&id, &vec![0; 1 << 20], now).is_err());
        let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&ed25519)
            .unwrap();
        assert!(authority.issue(&id, request.der(), now).is_err());
        let good = KeyRequest::generate().unwrap();
        let mut broken = good.csr_der().to_vec();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        assert!(authority.issue(&id, &broken, now).is_err());
    }

    #[test]
    fn the_issuer_is_replaced_after_a_day() {
        let (authority, _) = authority();
        let now = Clock::SYSTEM.now();
        let der = |at| authority.active(at).unwrap().issuer.der().to_vec();
        let first = der(now);
        assert_eq!(first, der(now + Duration::from_secs(3600)));
        assert_ne!(first, der(now + ISSUER_FRESH + SKEW));
    }
}
