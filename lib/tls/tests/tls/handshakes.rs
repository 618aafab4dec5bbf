//! What two honest sides get from each other.

use mesh_core::identity::SpiffeId;
use mesh_testing::ca::{TestRoot, id};
use mesh_tls::{
    ALPN_H2, ALPN_MESH, Certificate, Clock, HANDSHAKE_TIMEOUT, InvalidBundle, InvalidCertificate,
    KeyRequest, Session, Tls, TlsError, Trust, fingerprint, parse_bundle,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    join,
    time::{Duration, Instant},
};

type Client = Result<Session<DuplexStream>, TlsError>;
type Server = Result<(Session<DuplexStream>, SpiffeId), TlsError>;

const WEB: &str = "spiffe://west/ns/shop/sa/web";
const DB: &str = "spiffe://west/ns/shop/sa/db";
const EAST: &str = "spiffe://east/ns/shop/sa/web";

async fn meet(client: &Tls, expected: &str, server: &Tls) -> (Client, Server) {
    let (left, right) = duplex(64 * 1024);
    let expected = [id(expected)];
    join!(
        client.connect(left, &expected, Some("web.shop"), ALPN_MESH),
        server.accept(right, ALPN_MESH)
    )
}

#[tokio::test]
async fn both_sides_know_each_other_and_bytes_pass() {
    let west = TestRoot::new("west");
    let (client, server) = meet(&west.tls(WEB), DB, &west.tls(DB)).await;
    let (mut client, (mut server, peer)) = (client.unwrap(), server.unwrap());
    assert_eq!(peer, id(WEB));
    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    let mut got = [0; 4];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
}

#[tokio::test]
async fn linked_clusters_vouch_for_their_own() {
    let (west, east) = (TestRoot::new("west"), TestRoot::new("east"));
    let client = west.tls_trusting(WEB, &[&east]);
    let server = east.tls_trusting(EAST, &[&west]);
    let (_, server) = meet(&client, EAST, &server).await;
    assert_eq!(server.unwrap().1, id(WEB));
}

#[tokio::test]
async fn only_the_expected_identity_is_spoken_to() {
    let west = TestRoot::new("west");
    let (client, server) = meet(&west.tls(WEB), EAST, &west.tls(DB)).await;
    assert_eq!(client.unwrap_err().reason(), "unexpected_identity");
    assert_eq!(server.map(drop).unwrap_err().reason(), "refused_by_peer");
}

#[tokio::test]
async fn a_client_without_expectations_speaks_to_nobody() {
    let west = TestRoot::new("west");
    let (web, db) = (west.tls(WEB), west.tls(DB));
    let (left, right) = duplex(64 * 1024);
    let (client, _server) = join!(
        web.connect(left, &[], None, ALPN_MESH),
        db.accept(right, ALPN_MESH)
    );
    assert_eq!(client.unwrap_err().reason(), "unexpected_identity");
}

#[tokio::test]
async fn certify_needs_no_certificate_but_the_server_proves_itself() {
    let west = TestRoot::new("west");
    let newcomer = Tls::new(west.trust(), Clock::SYSTEM);
    let (left, right) = duplex(64 * 1024);
    let (expected, db) = ([id(DB)], west.tls(DB));
    let (client, server) = join!(
        newcomer.connect_unauthenticated(left, &expected, ALPN_H2),
        db.accept_unauthenticated(right, ALPN_H2)
    );
    client.unwrap();
    server.unwrap();
}

#[tokio::test]
async fn without_a_certificate_there_is_no_mutual_handshake() {
    let west = TestRoot::new("west");
    let (client, server) = meet(
        &Tls::new(west.trust(), Clock::SYSTEM),
        DB,
        &Tls::new(west.trust(), Clock::SYSTEM),
    )
    .await;
    assert_eq!(client.unwrap_err().reason(), "not_certified");
    assert_eq!(server.map(drop).unwrap_err().reason(), "not_certified");
}

#[tokio::test]
async fn a_certificate_is_requested_awaited_and_used() {
    let west = TestRoot::new("west");
    let tls = Tls::new(west.trust(), Clock::SYSTEM);
    assert_eq!(tls.id(), None);
    let waiting = tokio::spawn({
        let tls = tls.clone();
        async move { tls.certified().await }
    });
    let request = KeyRequest::generate().unwrap();
    let (leaf, issuers) = west.certify(request.csr_der(), WEB);
    let certificate = request.certify(leaf, issuers).unwrap();
    let valid_until = certificate.valid_until();
    assert!(certificate.not_before() < valid_until);
    tls.set_certificate(certificate);
    waiting.await.unwrap();
    assert_eq!(tls.id(), Some(id(WEB)));
    assert_eq!(tls.valid_until(), Some(valid_until));
    meet(&west.tls(DB), WEB, &tls).await.0.unwrap();
}

#[tokio::test]
async fn t5_roots_rotate_without_a_failed_handshake_and_the_old_one_ends() {
    let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
    let (client, server) = (old.tls(WEB), old.tls(DB));
    let both = [old.bundle(), new.bundle()].concat();
    let transition = Trust::new(id(WEB).trust_domain().clone(), &both).unwrap();
    for tls in [&client, &server] {
        tls.set_trust(transition.clone());
        meet(&client, DB, &server).await.1.unwrap();
    }
    server.set_certificate(new.issue(DB));
    meet(&client, DB, &server).await.1.unwrap();
    client.set_certificate(new.issue(WEB));
    meet(&client, DB, &server).await.1.unwrap();
    server.set_trust(new.trust());
    meet(&client, DB, &server).await.1.unwrap();
    let stale = Tls::new(new.trust(), Clock::SYSTEM);
    stale.set_certificate(old.issue(WEB));
    let reason = meet(&stale, DB, &server).await.1.map(drop).unwrap_err();
    let reason = reason.reason();
    assert!(
        ["unknown_issuer", "signature"].contains(&reason),
        "{reason}"
    );
}

#[tokio::test]
async fn a_peer_that_goes_away_is_the_network_s_fault() {
    let west = TestRoot::new("west");
    let (left, right) = duplex(1024);
    drop(right);
    let error = west.tls(WEB).accept(left, ALPN_MESH).await;
    assert_eq!(error.map(drop).unwrap_err().reason(), "io");
}

#[tokio::test(start_paused = true)]
async fn g10_a_silent_peer_is_left_after_the_deadline() {
    let west = TestRoot::new("west");
    let (left, _right) = duplex(1024);
    let started = Instant::now();
    let error = west.tls(WEB).accept(left, ALPN_MESH).await;
    assert_eq!(error.map(drop).unwrap_err().reason(), "timeout");
    assert!(started.elapsed() <= HANDSHAKE_TIMEOUT + Duration::from_secs(1));
}

#[test]
fn a_link_cannot_replace_a_bundle() {
    let (west, other) = (TestRoot::new("west"), TestRoot::new("west"));
    let replaced = west
        .trust()
        .with_bundle(west.trust_domain().clone(), &other.bundle());
    let taken = InvalidBundle::Taken(west.trust_domain().clone());
    assert_eq!(replaced.map(drop), Err(taken));
}

#[test]
fn only_authorities_make_a_bundle() {
    let west = TestRoot::new("west");
    let leaf = west.issue_with(WEB, |_| ()).chain_der.swap_remove(0);
    let bundle = |roots: &[Vec<u8>]| Trust::new(west.trust_domain().clone(), roots).map(drop);
    assert_eq!(bundle(&[]), Err(InvalidBundle::Empty));
    assert_eq!(bundle(&[leaf]), Err(InvalidBundle::NotAnAuthority));
    assert_eq!(bundle(&[vec![0x30, 0]]), Err(InvalidBundle::Malformed));
    let many = vec![west.bundle().swap_remove(0); 17];
    assert_eq!(bundle(&many), Err(InvalidBundle::TooLarge));
}

#[test]
fn a_bundle_is_read_from_pem() {
    let west = TestRoot::new("west");
    let pem = west.bundle_pem();
    assert_eq!(parse_bundle(&pem), Ok(west.bundle()));
    assert_eq!(parse_bundle(""), Err(InvalidBundle::Empty));
    assert_eq!(parse_bundle("roots"), Err(InvalidBundle::Empty));
    let cut = pem.replace("-----END", "");
    assert_eq!(parse_bundle(&cut), Err(InvalidBundle::Malformed));
    assert_eq!(parse_bundle(&pem.repeat(17)), Err(InvalidBundle::TooLarge));
}

#[test]
fn fingerprints_look_as_people_know_them() {
    let empty = fingerprint(b"");
    assert!(empty.starts_with("E3:B0:C4:42:98:FC"), "{empty}");
    assert_eq!(empty.len(), 95);
}

#[test]
fn a_certificate_of_ours_must_be_usable() {
    let west = TestRoot::new("west");
    let good = west.issue_with(WEB, |_| ());
    let other_key = west.issue_with(WEB, |_| ()).key_pkcs8_der;
    let chain = || good.chain_der.clone();
    let refused = |chain, key| Certificate::from_parts(chain, key).map(drop).unwrap_err();
    assert_eq!(refused(chain(), other_key), InvalidCertificate::KeyMismatch);
    assert_eq!(refused(chain(), vec![1]), InvalidCertificate::Key);
    let root = west.bundle();
    let usable = refused(root, good.key_pkcs8_der.clone());
    assert!(matches!(usable, InvalidCertificate::Leaf(_)));
    let nothing = refused(vec![], good.key_pkcs8_der.clone());
    assert!(matches!(nothing, InvalidCertificate::Leaf(_)));
}

#[test]
fn keys_are_never_shown() {
    let west = TestRoot::new("west");
    let request = KeyRequest::generate().unwrap();
    let tls = west.tls(WEB);
    let shown = format!("{request:?} {tls:?} {:?}", west.issue(WEB));
    assert!(!shown.to_lowercase().contains("key:"), "{shown}");
    assert!(shown.contains(WEB));
}
