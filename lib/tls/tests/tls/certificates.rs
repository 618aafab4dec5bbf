//! Chains that must be refused, shown by clients and by servers.

use mesh_testing::ca::{Issued, TestRoot, id, key, leaf};
use mesh_tls::{ALPN_MESH, Clock};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize,
};
use time::{Duration, OffsetDateTime};

use crate::hostile::{
    TLS13_ONLY, client, honest, refusals, refused_client, refused_server, server,
};

const CALLER: &str = "spiffe://west/ns/shop/sa/caller";

async fn both_refuse(reason: &str, west: &TestRoot, shown: &Issued) {
    let got = refusals(&honest(west, &[]), CALLER, shown).await;
    assert_eq!(got, [reason, reason]);
}

async fn both_refuse_changed(reason: &str, change: impl FnOnce(&mut CertificateParams)) {
    let west = TestRoot::new("west");
    let shown = west.issue_with(CALLER, change);
    both_refuse(reason, &west, &shown).await;
}

#[tokio::test]
async fn g5_t1_no_certificate() {
    let west = TestRoot::new("west");
    let config = client(TLS13_ONLY, None, &[ALPN_MESH]);
    let error = refused_client(&honest(&west, &[]), config).await;
    assert_eq!(error.reason(), "no_certificate");
    // A server has to show some, which may be none at all.
    let mut shown = west.issue_with(CALLER, |_| ());
    shown.chain_der.clear();
    both_refuse("no_certificate", &west, &shown).await;
}

#[tokio::test]
async fn t1_self_signed() {
    let west = TestRoot::new("west");
    let mut shown = west.issue_with(CALLER, |_| ());
    let mut params = CertificateParams::default();
    let caller = rcgen::SanType::URI(CALLER.try_into().unwrap());
    params.subject_alt_names = vec![caller];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let own = key();
    shown.chain_der = vec![params.self_signed(&own).unwrap().der().to_vec()];
    shown.key_pkcs8_der = own.serialize_der();
    both_refuse("unknown_issuer", &west, &shown).await;
}

#[tokio::test]
async fn g5_t1_another_root_of_the_same_name() {
    let (west, impostor) = (TestRoot::new("west"), TestRoot::new("west"));
    let shown = impostor.issue_with(CALLER, |_| ());
    let got = refusals(&honest(&west, &[]), CALLER, &shown).await;
    for reason in got {
        assert!(
            ["unknown_issuer", "signature"].contains(&reason),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn g5_unknown_trust_domain() {
    let (west, north) = (TestRoot::new("west"), TestRoot::new("north"));
    let caller = "spiffe://north/ns/shop/sa/caller";
    let shown = north.issue_with(caller, |_| ());
    let got = refusals(&honest(&west, &[]), caller, &shown).await;
    assert_eq!(got, ["unknown_trust_domain"; 2]);
}

#[tokio::test]
async fn g6_an_identity_of_one_trust_domain_signed_by_the_root_of_another() {
    let (west, east) = (TestRoot::new("west"), TestRoot::new("east"));
    let tls = honest(&west, &[&east]);
    let shown = east.issue_with(CALLER, |_| ());
    assert_eq!(refusals(&tls, CALLER, &shown).await, ["unknown_issuer"; 2]);
    let caller = "spiffe://east/ns/shop/sa/caller";
    let shown = west.issue_with(caller, |_| ());
    assert_eq!(refusals(&tls, caller, &shown).await, ["unknown_issuer"; 2]);
}

#[tokio::test]
async fn g5_t1_expired() {
    both_refuse_changed("expired", |leaf| {
        leaf.not_after = OffsetDateTime::from(Clock::SYSTEM.now()) - Duration::seconds(2);
    })
    .await;
}

#[tokio::test]
async fn g5_t1_not_yet_valid() {
    both_refuse_changed("not_yet_valid", |leaf| {
        leaf.not_before = OffsetDateTime::from(Clock::SYSTEM.now()) + Duration::minutes(1);
    })
    .await;
}

#[tokio::test]
async fn t1_an_authority_as_leaf() {
    both_refuse_changed("authority", |leaf| {
        leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    })
    .await;
    both_refuse_changed("authority", |leaf| {
        leaf.key_usages.push(KeyUsagePurpose::KeyCertSign);
    })
    .await;
}

#[tokio::test]
async fn t1_a_leaf_signed_by_a_leaf() {
    let west = TestRoot::new("west");
    let (thief_key, victim_key) = (key(), key());
    let thief = west.sign(&leaf(CALLER), &thief_key);
    let mut pretence = leaf(CALLER);
    pretence.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let signer = rcgen::Issuer::new(pretence, thief_key);
    let victim = leaf(CALLER).signed_by(&victim_key, &signer).unwrap();
    let shown = Issued {
        chain_der: [vec![victim.der().to_vec()], thief.chain_der].concat(),
        key_pkcs8_der: victim_key.serialize_der(),
    };
    both_refuse("chain", &west, &shown).await;
}

#[tokio::test]
async fn t1_missing_purpose() {
    both_refuse_changed("purpose", |leaf| leaf.extended_key_usages.clear()).await;
    both_refuse_changed("purpose", |leaf| {
        leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    })
    .await;
}

#[tokio::test]
async fn t1_the_other_side_s_purpose() {
    let west = TestRoot::new("west");
    let tls = honest(&west, &[]);
    let shown = west.issue_with(CALLER, |leaf| {
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let config = client(TLS13_ONLY, Some(&shown), &[ALPN_MESH]);
    assert_eq!(refused_client(&tls, config).await.reason(), "purpose");
    let shown = west.issue_with(CALLER, |leaf| {
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let config = server(TLS13_ONLY, &shown, &[ALPN_MESH]);
    let error = refused_server(&tls, &[id(CALLER)], config).await;
    assert_eq!(error.reason(), "purpose");
}

#[tokio::test]
async fn t1_a_chain_of_100() {
    let west = TestRoot::new("west");
    let mut shown = west.issue_with(CALLER, |_| ());
    let issuer = shown.chain_der[1].clone();
    shown.chain_der.resize(100, issuer);
    both_refuse("chain_too_long", &west, &shown).await;
}

#[tokio::test]
async fn t1_a_huge_certificate() {
    both_refuse_changed("chain_too_long", |leaf| {
        let padding = rcgen::CustomExtension::from_oid_content(&[1, 3, 9], vec![4; 8000]);
        leaf.custom_extensions = vec![padding];
    })
    .await;
}

#[tokio::test]
async fn t1_an_rsa_key() {
    let west = TestRoot::new("west");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let mut shown = west.sign(&leaf(CALLER), &rsa);
    // With its own key rustls would not show it: we offer no scheme of RSA.
    shown.key_pkcs8_der = key().serialize_der();
    both_refuse("key", &west, &shown).await;
}

#[tokio::test]
async fn t1_a_key_that_is_not_the_certificate_s() {
    let west = TestRoot::new("west");
    let mut shown = west.issue_with(CALLER, |_| ());
    shown.key_pkcs8_der = key().serialize_der();
    both_refuse("signature", &west, &shown).await;
}

#[tokio::test]
async fn t1_a_certificate_with_changed_bytes() {
    let west = TestRoot::new("west");
    let mut shown = west.issue_with(CALLER, |_| ());
    *shown.chain_der[0].last_mut().unwrap() ^= 1;
    both_refuse("signature", &west, &shown).await;
    shown.chain_der[0] = b"not a certificate".to_vec();
    both_refuse("malformed", &west, &shown).await;
}
