//! A certificate authority with the shape of a cluster's: root, issuer, leaf.

use std::time::SystemTime;

use mesh_core::identity::{SpiffeId, TrustDomain};
use mesh_tls::{Certificate, Clock, Tls, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// The root of trust of one cluster, with an issuer below it.
pub struct TestRoot {
    trust_domain: TrustDomain,
    root: CertifiedIssuer<'static, KeyPair>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A chain (leaf first, without the root) and the leaf's key: what a peer may
/// show, whether or not the mesh accepts it.
#[derive(Clone)]
pub struct Issued {
    /// The certificates, in DER.
    pub chain_der: Vec<Vec<u8>>,
    /// The leaf's private key, in PKCS #8.
    pub key_pkcs8_der: Vec<u8>,
}

impl TestRoot {
    /// A new root for a trust domain.
    #[must_use]
    pub fn new(trust_domain: &str) -> Self {
        let root = authority(&format!("root of {trust_domain}"));
        let root = CertifiedIssuer::self_signed(root, key()).unwrap();
        let issuer = authority(&format!("issuer of {trust_domain}"));
        let issuer = CertifiedIssuer::signed_by(issuer, key(), &root).unwrap();
        Self {
            trust_domain: trust_domain.parse().unwrap(),
            root,
            issuer,
        }
    }

    /// Its trust domain.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its bundle: the root, in DER.
    #[must_use]
    pub fn bundle(&self) -> Vec<Vec<u8>> {
        vec![self.root.der().to_vec()]
    }

    /// Its bundle as the ConfigMap `mesh-roots` holds it.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        self.root.pem()
    }

    /// Trust in this root for its own trust domain, and in nobody else.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trusting(&[])
    }

    /// Trust in this root, and in each of the others for its own trust domain.
    #[must_use]
    pub fn trusting(&self, others: &[&Self]) -> Trust {
        let local = Trust::new(self.trust_domain.clone(), &self.bundle()).unwrap();
        others.iter().fold(local, |trust, other| {
            trust
                .with_bundle(other.trust_domain.clone(), &other.bundle())
                .unwrap()
        })
    }

    /// A certificate as mesh-control would issue it.
    #[must_use]
    pub fn issue(&self, id: &str) -> Certificate {
        self.issue_with(id, |_| ()).certificate()
    }

    /// The same, by a clock that shows `now`.
    #[must_use]
    pub fn issue_at(&self, id: &str, now: SystemTime) -> Certificate {
        self.sign(&leaf_at(id, now), &key()).certificate()
    }

    /// A certificate for `id` with something changed before it is signed.
    #[must_use]
    pub fn issue_with(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = leaf(id);
        change(&mut params);
        self.sign(&params, &key())
    }

    /// Signs `params` for `key`, whatever they say.
    #[must_use]
    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Issued {
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        Issued {
            chain_der: vec![leaf.der().to_vec(), self.issuer.der().to_vec()],
            key_pkcs8_der: key.serialize_der(),
        }
    }

    /// Answers a certificate signing request as mesh-control would: the leaf
    /// for `id`, and the certificates between it and the root, in DER.
    #[must_use]
    pub fn certify(&self, csr_der: &[u8], id: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut request = CertificateSigningRequestParams::from_der(&csr_der.into()).unwrap();
        request.params = leaf(id);
        let leaf = request.signed_by(&self.issuer).unwrap();
        (leaf.der().to_vec(), vec![self.issuer.der().to_vec()])
    }

    /// As [`Self::certify`], for as long as `life` from `now` on.
    #[must_use]
    pub fn certify_for(
        &self,
        csr_der: &[u8],
        id: &str,
        now: SystemTime,
        life: std::time::Duration,
    ) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut request = CertificateSigningRequestParams::from_der(&csr_der.into()).unwrap();
        request.params = leaf_at(id, now);
        request.params.not_after = OffsetDateTime::from(now) + life;
        let leaf = request.signed_by(&self.issuer).unwrap();
        (leaf.der().to_vec(), vec![self.issuer.der().to_vec()])
    }

    /// A workload of this cluster that trusts this cluster only.
    #[must_use]
    pub fn tls(&self, id: &str) -> Tls {
        self.tls_trusting(id, &[])
    }

    /// A workload of this cluster that trusts the others too, as linked ones.
    #[must_use]
    pub fn tls_trusting(&self, id: &str, others: &[&Self]) -> Tls {
        let tls = Tls::new(self.trusting(others), Clock::SYSTEM);
        tls.set_certificate(self.issue(id));
        tls
    }

    /// A workload of this cluster whose clock is off, with a certificate that
    /// was issued by a clock that is right.
    #[must_use]
    pub fn tls_at(&self, id: &str, clock: Clock) -> Tls {
        let tls = Tls::new(self.trust(), clock);
        tls.set_certificate(self.issue(id));
        tls
    }
}

impl Issued {
    /// The certificate, if it is one that the mesh accepts.
    #[must_use]
    pub fn certificate(self) -> Certificate {
        Certificate::from_parts(self.chain_der, self.key_pkcs8_der).unwrap()
    }
}

/// Parses an identity that the test wrote itself.
#[must_use]
pub fn id(uri: &str) -> SpiffeId {
    uri.parse().unwrap()
}

/// A fresh P-256 key.
#[must_use]
pub fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// What [`TestRoot::issue`] signs: a leaf exactly as mesh-control makes them.
#[must_use]
pub fn leaf(id: &str) -> CertificateParams {
    leaf_at(id, Clock::SYSTEM.now())
}

fn leaf_at(id: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::from(now);
    params.not_before = now - Duration::minutes(1);
    params.not_after = now + Duration::hours(24);
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
