//! T1: keys that are too long to check anything by, a peer's own and its issuer's.

use mesh_testing::ca::{Issued, TestRoot, key, leaf};
use mesh_tls::{Clock, Tls, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm,
    SigningKey,
};

use crate::hostile::{HONEST, refusals};

const CALLER: &str = "spiffe://west/ns/shop/sa/caller";

/// The public part of a key. Nobody has the other: who checks what it has signed has done
/// too much already.
struct HugeKey {
    algorithm: &'static SignatureAlgorithm,
    public: Vec<u8>,
}

impl HugeKey {
    /// A modulus of 16,384 bits, with the usual exponent.
    fn rsa() -> Self {
        let mut public = vec![0x30, 0x82, 0x08, 0x0a, 0x02, 0x82, 0x08, 0x01, 0];
        public.extend([0xa5; 2048]);
        public.extend([2, 3, 1, 0, 1]);
        Self {
            algorithm: &PKCS_RSA_SHA256,
            public,
        }
    }

    /// A point of P-256, it says, in 2,048 bytes.
    fn point() -> Self {
        Self {
            algorithm: &PKCS_ECDSA_P256_SHA256,
            public: vec![4; 2048],
        }
    }
}

impl PublicKeyData for HugeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for HugeKey {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![0x5a; 2048])
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A root that signs whatever it is asked to, and somebody honest who trusts it.
fn compliant() -> (CertifiedIssuer<'static, KeyPair>, Tls) {
    let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
    let west = TestRoot::new("west");
    let trust = Trust::new(west.trust_domain().clone(), &[root.der().to_vec()]).unwrap();
    let tls = Tls::new(trust, Clock::SYSTEM);
    tls.set_certificate(west.issue(HONEST));
    (root, tls)
}

/// A leaf below an issuer that has this key, and that `root` has signed.
fn below(root: &CertifiedIssuer<'_, KeyPair>, issuers: impl SigningKey) -> Issued {
    let issuer = CertifiedIssuer::signed_by(authority("issuer"), issuers, root).unwrap();
    let own = key();
    let shown = leaf(CALLER).signed_by(&own, &issuer).unwrap();
    Issued {
        chain_der: vec![shown.der().to_vec(), issuer.der().to_vec()],
        key_pkcs8_der: own.serialize_der(),
    }
}

#[tokio::test]
async fn t1_a_huge_key() {
    let (root, tls) = compliant();
    for huge in [HugeKey::rsa(), HugeKey::point()] {
        let shown = leaf(CALLER).signed_by(&huge, &root).unwrap();
        let shown = Issued {
            chain_der: vec![shown.der().to_vec()],
            key_pkcs8_der: key().serialize_der(),
        };
        assert_eq!(refusals(&tls, CALLER, &shown).await, ["key"; 2]);
    }
}

#[tokio::test]
async fn t1_a_huge_key_of_the_issuer() {
    let (root, tls) = compliant();
    let another = below(&root, key()).certificate();
    assert!(
        another.is_rooted_in(root.der()),
        "with another key it is good"
    );
    let shown = below(&root, HugeKey::rsa());
    assert_eq!(refusals(&tls, CALLER, &shown).await, ["signature"; 2]);
}
