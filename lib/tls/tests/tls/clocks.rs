//! Clocks that are off: who refuses whom, and what is said of it.

use mesh_testing::ca::{TestRoot, id};
use mesh_tls::{ALPN_H2, ALPN_MESH, Clock, Tls, TlsError};
use time::{Duration, OffsetDateTime};
use tokio::{io::duplex, join};

const WEB: &str = "spiffe://west/ns/shop/sa/web";
const DB: &str = "spiffe://west/ns/shop/sa/db";
const HOUR: i32 = 3600;

/// What came of a handshake: the client's side, then the server's.
async fn meet(client: &Tls, server: &Tls) -> [Result<(), TlsError>; 2] {
    let (left, right) = duplex(64 * 1024);
    let expected = [id(DB)];
    let (connected, accepted) = join!(
        client.connect(left, &expected, None, ALPN_MESH),
        server.accept(right, ALPN_MESH)
    );
    [connected.map(drop), accepted.map(drop)]
}

/// Somebody whose clock is off, certified by a clock that is off as much.
fn certified_there(root: &TestRoot, id: &str, offset: i32) -> Tls {
    let clock = Clock::off_by(offset);
    let tls = Tls::new(root.trust(), clock);
    tls.set_certificate(root.issue_at(id, clock.now()));
    tls
}

fn reasons([client, server]: [Result<(), TlsError>; 2]) -> [&'static str; 2] {
    [client, server].map(|side| {
        side.map_or_else(
            |error| {
                let about_time = error.is_about_time();
                assert!(about_time || matches!(error, TlsError::Io(_)), "{error:?}");
                error.reason()
            },
            |()| "ok",
        )
    })
}

#[tokio::test]
async fn t7_a_clock_beyond_the_certificates_life_trusts_nobody_and_says_expired() {
    let west = TestRoot::new("west");
    let right = west.tls(DB);
    let ahead = certified_there(&west, WEB, 25 * HOUR);
    let refused = meet(&ahead, &right).await;
    let said = refused[0].as_ref().unwrap_err().to_string();
    assert!(said.contains("expired, by the clock here"), "{said}");
    assert_eq!(reasons(refused), ["expired", "expired_for_peer"]);

    let ahead = certified_there(&west, DB, 25 * HOUR);
    let refused = meet(&west.tls(WEB), &ahead).await;
    let said = refused[0].as_ref().unwrap_err().to_string();
    assert!(said.contains("not valid yet, by the clock here"), "{said}");
    assert_eq!(reasons(refused), ["not_yet_valid", "expired_for_peer"]);
}

#[tokio::test]
async fn t7_a_server_with_a_clock_ahead_refuses_a_client_with_a_certificate_that_ends_before() {
    let west = TestRoot::new("west");
    // Ten hours are left of the client's, and twelve have passed there.
    let client = west.tls(WEB);
    client.set_certificate(
        west.issue_with(WEB, |leaf| {
            leaf.not_after = OffsetDateTime::from(Clock::SYSTEM.now()) + Duration::hours(10);
        })
        .certificate(),
    );
    let server = west.tls_at(DB, Clock::off_by(12 * HOUR));
    let [_, accepted] = meet(&client, &server).await;
    assert_eq!(accepted.unwrap_err().reason(), "expired");
}

#[tokio::test]
async fn t7_whose_own_certificate_has_ended_by_its_clock_shows_it_to_nobody() {
    let west = TestRoot::new("west");
    let ahead = west.tls_at(WEB, Clock::off_by(25 * HOUR));
    let [connected, _] = meet(&ahead, &west.tls(DB)).await;
    let error = connected.unwrap_err();
    assert_eq!(error.reason(), "own_expired");
    assert!(error.is_about_time());
}

#[tokio::test]
async fn t7_clocks_that_differ_by_less_than_the_leeway_meet() {
    let west = TestRoot::new("west");
    for offset in [-50, 50, HOUR] {
        for (client, server) in [
            (west.tls_at(WEB, Clock::off_by(offset)), west.tls(DB)),
            (west.tls(WEB), west.tls_at(DB, Clock::off_by(offset))),
        ] {
            assert_eq!(
                reasons(meet(&client, &server).await),
                ["ok", "ok"],
                "{offset}"
            );
        }
        if offset.abs() < 60 {
            // Issued there a moment ago.
            let there = certified_there(&west, DB, offset);
            assert_eq!(reasons(meet(&west.tls(WEB), &there).await), ["ok", "ok"]);
        }
    }
}

#[tokio::test]
async fn t7_who_asks_for_a_first_certificate_says_that_the_issuer_s_is_not_valid_yet() {
    let west = TestRoot::new("west");
    let issuer = certified_there(&west, DB, HOUR);
    let newcomer = Tls::new(west.trust(), Clock::SYSTEM);
    let (left, right) = duplex(64 * 1024);
    let expected = [id(DB)];
    let (connected, _) = join!(
        newcomer.connect_unauthenticated(left, &expected, ALPN_H2),
        issuer.accept_unauthenticated(right, ALPN_H2)
    );
    assert_eq!(connected.map(drop).unwrap_err().reason(), "not_yet_valid");
}

#[test]
fn the_failure_of_a_handshake_is_found_behind_what_hides_it() {
    #[derive(Debug, thiserror::Error)]
    #[error("no connection")]
    struct NoConnection(#[source] std::io::Error);

    let hidden = NoConnection(std::io::Error::other(TlsError::OwnExpired));
    let found = TlsError::behind(&hidden).map(TlsError::reason);
    assert_eq!(found, Some("own_expired"));
    let other = NoConnection(std::io::ErrorKind::ConnectionReset.into());
    assert!(TlsError::behind(&other).is_none());
    let bare = TlsError::Timeout;
    assert_eq!(
        TlsError::behind(&bare).map(TlsError::reason),
        Some("timeout")
    );
}
