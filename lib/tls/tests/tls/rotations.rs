//! What a change of trust, or of time, means for those who have met before.

use mesh_testing::ca::{TestRoot, id};
use mesh_tls::{ALPN_MESH, Clock, PeerChain, Tls, Trust};
use time::OffsetDateTime;
use tokio::{io::duplex, join};

const WEB: &str = "spiffe://west/ns/shop/sa/web";
const DB: &str = "spiffe://west/ns/shop/sa/db";

/// How each side remembers the other: the server's view, then the client's.
async fn met(client: &Tls, server: &Tls) -> [PeerChain; 2] {
    let (left, right) = duplex(64 * 1024);
    let (client_trust, server_trust) = (client.trust(), server.trust());
    let expected = [id(DB)];
    let (connected, accepted) = join!(
        client.connect(left, &expected, None, ALPN_MESH),
        server.accept(right, ALPN_MESH)
    );
    let (connected, (accepted, _)) = (connected.expect("trusted"), accepted.expect("trusted"));
    [
        PeerChain::of_client(&accepted, &server_trust, server.clock().now())
            .expect("it showed one"),
        PeerChain::of_server(&connected, &client_trust, client.clock().now())
            .expect("it showed one"),
    ]
}

fn trust(roots: &[&TestRoot]) -> Trust {
    let bundle: Vec<_> = roots.iter().flat_map(|root| root.bundle()).collect();
    Trust::new(id(WEB).trust_domain().clone(), &bundle).expect("roots")
}

#[tokio::test]
async fn t5_who_was_met_under_a_root_is_trusted_until_that_root_is_gone() {
    let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
    for peer in met(&old.tls(WEB), &old.tls(DB)).await {
        for (roots, vouched) in [
            (&[&old][..], true),
            (&[&old, &new], true),
            (&[&new, &old], true),
            (&[&new], false),
        ] {
            assert_eq!(peer.is_vouched_for(&trust(roots)), vouched);
        }
        assert!(!peer.is_vouched_for(&TestRoot::new("east").trust()));
    }
    // Met while both were there, under the new one.
    let (client, server) = (old.tls(WEB), old.tls(DB));
    for tls in [&client, &server] {
        tls.set_trust(trust(&[&old, &new]));
    }
    client.set_certificate(new.issue(WEB));
    server.set_certificate(new.issue(DB));
    for peer in met(&client, &server).await {
        assert!(peer.is_vouched_for(&trust(&[&new])));
        assert!(!peer.is_vouched_for(&trust(&[&old])));
    }
}

#[tokio::test]
async fn t5_a_connection_hears_that_its_peer_s_root_is_gone() {
    let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
    let (client, server) = (old.tls(WEB), old.tls(DB));
    let [seen, _] = met(&client, &server).await;
    let gone = tokio::spawn({
        let server = server.clone();
        async move { server.distrusted(seen).await }
    });
    server.set_trust(trust(&[&old, &new]));
    tokio::task::yield_now().await;
    assert!(!gone.is_finished());
    server.set_trust(trust(&[&new]));
    gone.await.unwrap();
}

#[test]
fn a_certificate_knows_its_root() {
    let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
    let certificate = old.issue(WEB);
    assert!(certificate.is_rooted_in(&old.bundle()[0]));
    assert!(!certificate.is_rooted_in(&new.bundle()[0]));
    assert!(!certificate.is_rooted_in(b"junk"));
}

#[tokio::test]
async fn t6_nobody_shows_a_certificate_that_has_ended() {
    let west = TestRoot::new("west");
    let ended = west.issue_with(WEB, |leaf| {
        leaf.not_after = OffsetDateTime::from(Clock::SYSTEM.now()) - time::Duration::seconds(1);
    });
    let tls = west.tls(WEB);
    tls.set_certificate(ended.certificate());
    let (left, right) = duplex(1024);
    let connected = tls.connect(left, &[id(DB)], None, ALPN_MESH).await;
    assert_eq!(connected.map(drop).unwrap_err().reason(), "own_expired");
    let accepted = tls.accept(right, ALPN_MESH).await;
    assert_eq!(accepted.map(drop).unwrap_err().reason(), "own_expired");
    tls.set_certificate(west.issue(WEB));
    met(&tls, &west.tls(DB)).await;
}
