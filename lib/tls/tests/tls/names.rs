//! T2: only one exact SPIFFE id is a name.

use mesh_testing::ca::{TestRoot, id};
use rcgen::{CertificateParams, CustomExtension, DnType, SanType};

use crate::hostile::{HONEST, honest, refusals};

/// Both sides of an honest workload refuse a leaf changed so.
async fn both_refuse(what: &str, change: impl FnOnce(&mut CertificateParams)) {
    let west = TestRoot::new("west");
    let shown = west.issue_with(HONEST, change);
    let reasons = refusals(&honest(&west, &[]), HONEST, &shown).await;
    assert_eq!(reasons, ["name"; 2], "{what}");
}

async fn both_refuse_names(what: &str, names: Vec<SanType>) {
    both_refuse(what, |leaf| leaf.subject_alt_names = names).await;
}

/// A leaf whose subjectAltName extension holds exactly these bytes.
async fn both_refuse_raw(what: &str, general_names: &[u8]) {
    let mut der = vec![0x30, u8::try_from(general_names.len()).unwrap()];
    der.extend(general_names);
    both_refuse(what, |leaf| {
        leaf.subject_alt_names.clear();
        let extension = CustomExtension::from_oid_content(SUBJECT_ALT_NAME, der);
        leaf.custom_extensions = vec![extension];
    })
    .await;
}

const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

#[tokio::test]
async fn t2_none() {
    both_refuse_names("no extension", vec![]).await;
    both_refuse_raw("an empty list", &[]).await;
    both_refuse("common name only", |leaf| {
        leaf.subject_alt_names.clear();
        leaf.distinguished_name.push(DnType::CommonName, HONEST);
    })
    .await;
}

#[tokio::test]
async fn t2_more_than_one() {
    let other = "spiffe://west/ns/shop/sa/other";
    both_refuse_names("two ids", vec![uri(HONEST), uri(other)]).await;
    both_refuse_names("the same twice", vec![uri(HONEST), uri(HONEST)]).await;
    both_refuse_names("DNS behind", vec![uri(HONEST), dns("web.shop")]).await;
    both_refuse_names("DNS in front", vec![dns("web.shop"), uri(HONEST)]).await;
    let address = SanType::IpAddress([10, 0, 0, 1].into());
    both_refuse_names("an address too", vec![uri(HONEST), address]).await;
    both_refuse("two extensions", |leaf| {
        let second = CustomExtension::from_oid_content(SUBJECT_ALT_NAME, vec![0x30, 0]);
        leaf.custom_extensions = vec![second];
    })
    .await;
}

#[tokio::test]
async fn t2_other_kinds() {
    both_refuse_names("DNS", vec![dns("web.shop")]).await;
    let address = SanType::IpAddress([10, 0, 0, 1].into());
    both_refuse_names("IP address", vec![address]).await;
    let mail = SanType::Rfc822Name("web@shop".try_into().unwrap());
    both_refuse_names("e-mail", vec![mail]).await;
    let id_as_dns = SanType::DnsName(HONEST.try_into().unwrap());
    both_refuse_names("an id as DNS", vec![id_as_dns]).await;
    let other = rcgen::OtherNameValue::Utf8String(HONEST.to_owned());
    let other = SanType::OtherName((vec![1, 3, 6, 1], other));
    both_refuse_names("an id as other name", vec![other]).await;
}

#[tokio::test]
async fn t2_inexact_ids() {
    let long = format!("spiffe://west/ns/shop/sa/{}", "a".repeat(300));
    for name in [
        "spiffe://west/ns/shop/sa/web\0",
        "spiffe://west/ns/shop/sa/web\0.evil",
        "spiffe://west/ns/*/sa/web",
        "spiffe://*/ns/shop/sa/web",
        "spiffe://WEST/ns/shop/sa/web",
        "SPIFFE://west/ns/shop/sa/web",
        "spiffe://west/ns/shop/sa/Web",
        "spiffe://west./ns/shop/sa/web",
        "spiffe://west/ns/shop/sa/web.",
        "spiffe://west/ns/shop/sa/web/",
        "spiffe://west/ns/shop/sa/w%65b",
        "spiffe://west/ns/shop/sa/../web",
        "spiffe://west/ns/../shop/sa/web",
        "spiffe://west/ns/shop/sa/web?x=y",
        "spiffe://west/ns/shop/sa/web#x",
        "spiffe://west:443/ns/shop/sa/web",
        "spiffe://x@west/ns/shop/sa/web",
        "https://west/ns/shop/sa/web",
        "spiffe://west",
        " spiffe://west/ns/shop/sa/web",
        "",
        &long,
    ] {
        both_refuse_names(name, vec![uri(name)]).await;
    }
}

#[tokio::test]
async fn t2_broken_encodings() {
    let with = |tag: u8, text: &[u8]| {
        let mut name = vec![tag, u8::try_from(text.len()).unwrap()];
        name.extend(text);
        name
    };
    let wide: Vec<u8> = HONEST.bytes().flat_map(|b| [0, b]).collect();
    let honest = HONEST.as_bytes();
    both_refuse_raw("two bytes per letter in a URI", &with(0x86, &wide)).await;
    both_refuse_raw("BMPString instead of a name", &with(0x1e, &wide)).await;
    both_refuse_raw("IA5String without its tag", &with(0x16, honest)).await;
    both_refuse_raw("constructed URI", &with(0xa6, &with(0x16, honest))).await;
    both_refuse_raw("not UTF-8", &with(0x86, b"spiffe://west/ns/shop/sa/\xff")).await;
    both_refuse_raw("cut off", &with(0x86, honest)[..20]).await;
    both_refuse_raw("an unknown kind", &with(0x89, honest)).await;
    let behind = [with(0x86, honest), with(0x89, b"x")].concat();
    both_refuse_raw("an unknown kind behind", &behind).await;
    let behind = [with(0x86, honest), vec![0]].concat();
    both_refuse_raw("rubbish behind", &behind).await;
}

#[test]
fn the_honest_name_is_one() {
    assert_eq!(id(HONEST).as_uri(), HONEST);
}
