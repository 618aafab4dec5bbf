//! What has no way in.

use std::time::{Duration, Instant};

use mesh_core::endpoint::EndpointId;
use mesh_dataplane::{peer::StreamError, tunnel::Target};
use mesh_lab::capture::Capture;
use mesh_testing::ca::TestRoot;
use mesh_tls::ALPN_MESH;
use mesh_wire::mesh1::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    installed::{CLIENT, EAST, WEST, answer, client, linked, with_stranger},
    intruder::{ask, cluster_ip, intrude, knock},
};
use crate::shared::eventually;

/// Ports of the exported pod that its Service does not have: an echo of the
/// application, the sidecar's own, and one where nobody listens.
const UNEXPORTED: [u16; 3] = [9091, 4191, 1];

#[test]
fn g1_a_service_without_the_label_has_no_mirror_and_its_ids_are_unknown() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    let mirror = || west.kubectl(&["-n", "shop", "get", "service", "vault-east"]);
    assert!(mirror().is_err(), "vault is not exported");

    // Exported, it has a way in, and its ids are known.
    let label = |text: &str| {
        east.kubectl(&["-n", "shop", "label", "service", "vault", text])
            .unwrap();
    };
    label("mesh.dev/exported=true");
    eventually("vault-east answers", west, || {
        client(&shared, &["get", "http://vault-east"]).is_ok()
    });
    let address = cluster_ip(&shared, "shop", "vault-east");
    let id = intrude(&shared, async |intruder| {
        let endpoints = intruder.endpoints(&address, 80).await;
        let id = intruder.id(endpoints.first().expect("vault's pod"));
        intruder.knock(id).await.expect("a tunnel while exported");
        id
    });

    label("mesh.dev/exported-");
    eventually("vault-east is gone", west, || mirror().is_err());
    assert!(client(&shared, &["get", "http://vault-east"]).is_err());
    let refused = || intrude(&shared, async |intruder| intruder.knock(id).await.err());
    eventually("the id is refused", west, || {
        refused().is_some_and(|error| error.to_string().contains("unknown-endpoint"))
    });
}

#[test]
fn g2_guessed_ids_lead_nowhere() {
    let shared = linked();
    let web = cluster_ip(&shared, "shop", "web-east");
    intrude(&shared, async |intruder| {
        let endpoints = intruder.endpoints(&web, 80).await;
        let real = intruder.id(endpoints.first().expect("web's pod"));
        intruder.knock(real).await.expect("a tunnel");
        for guess in [0, 1, real.0 ^ 1, !real.0, u64::MAX] {
            let refused = intruder.knock(EndpointId(guess)).await.err();
            let error = refused.unwrap_or_else(|| panic!("{guess} leads somewhere"));
            assert!(error.to_string().contains("unknown-endpoint"), "{error}");
        }
    });
}

#[test]
fn an_unexported_port_of_an_exported_pod_is_refused() {
    let shared = linked();
    let web = cluster_ip(&shared, "shop", "web-east");
    intrude(&shared, async |intruder| {
        let endpoints = intruder.endpoints(&web, 80).await;
        let endpoint = endpoints.first().expect("web's pod");
        let peer = intruder.peer(endpoint).await;
        let exported = ask(&peer, endpoint.address.port()).await;
        assert_eq!(exported, (200, None));
        for port in UNEXPORTED {
            let refused = (403, Some(Reason::NotAllowed));
            assert_eq!(ask(&peer, port).await, refused, "port {port}");
            let refused = peer.tcp(port).await.expect_err("no stream");
            assert!(
                matches!(&refused, StreamError::Refused(Some(reason)) if reason.as_str() == "not-allowed"),
                "port {port}: {refused}"
            );
        }
    });
}

#[test]
fn a_client_without_a_certificate_gets_nowhere() {
    let shared = linked();
    intrude(&shared, async |intruder| {
        let gateway = &intruder.link.gateway;
        let host = gateway.hosts.first().expect("an address");
        let address = format!("{host}:{}", gateway.port);
        let stream = TcpStream::connect(&address).await.unwrap();
        let expected = [gateway.identity.clone()];
        let session = intruder
            .tls()
            .connect_unauthenticated(stream, &expected, ALPN_MESH)
            .await;
        // The server may refuse before or after our side of the handshake.
        if let Ok(mut session) = session {
            // What it thinks of our bytes shows at the read.
            let _ = session.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            let read = timeout(Duration::from_secs(5), session.read_u8()).await;
            assert!(read.expect("an answer").is_err(), "it speaks with nobody");
        }

        let mut plain = TcpStream::connect(&address).await.unwrap();
        let request = b"CONNECT probe HTTP/1.1\r\nhost: probe\r\n\r\n";
        plain.write_all(request).await.unwrap();
        let mut said = Vec::new();
        let read = timeout(Duration::from_secs(15), plain.read_to_end(&mut said)).await;
        // An alert and the end, or a reset: no HTTP.
        let _ = read.expect("the gateway ends the connection");
        assert!(!said.starts_with(b"HTTP"), "{said:?}");
    });
}

#[test]
fn a_client_of_a_stranger_s_root_is_refused() {
    let shared = linked();
    let web = cluster_ip(&shared, "shop", "web-east");
    intrude(&shared, async |intruder| {
        let endpoints = intruder.endpoints(&web, 80).await;
        let id = intruder.id(endpoints.first().expect("web's pod"));
        // Somebody who calls himself west's client, and trusts east.
        let root = TestRoot::new("west");
        let trust = root
            .trust()
            .with_bundle(intruder.link.trust_domain.clone(), &intruder.link.roots);
        let stranger = root.tls(CLIENT);
        stranger.set_trust(trust.unwrap());
        for target in [Target::Probe, Target::Exports, Target::Endpoint(id)] {
            let refused = knock(&stranger, &intruder.link, target).await.err();
            let error = refused.unwrap_or_else(|| panic!("{target:?} is open to strangers"));
            // By TLS: the gateway has not even read what he wants.
            assert!(!error.to_string().contains("refused the tunnel"), "{error}");
        }
        intruder.knock(id).await.expect("the true client may");
    });
}

#[test]
fn an_unmeshed_pod_that_calls_a_mirror_is_refused_at_once() {
    let shared = linked();
    with_stranger(&shared, |stranger| {
        // It can call what is in its own cluster.
        let local = stranger("http://web").expect("web in west");
        assert_eq!(answer(&local)["cluster"], "west");

        let west = shared.cluster(WEST);
        let ip = [
            "-n",
            "shop",
            "get",
            "pod",
            "stranger",
            "-o=jsonpath={.status.podIP}",
        ];
        let ip = west.kubectl(&ip).expect("its address");
        // Where it still has an address of its own: others may dial gateways now.
        let capture = Capture::on_node(west).unwrap();
        let start = Instant::now();
        let refused = stranger("http://web-east").expect_err("no way");
        let took = start.elapsed();
        assert!(refused.contains("refused"), "{refused}");
        assert!(took < Duration::from_secs(2), "refused after {took:?}");
        let captured = capture.stop().expect("a capture");
        let of_it = format!("src host {ip} and tcp[tcpflags] == tcp-syn");
        let count = |filter: &str| captured.count(filter).expect("a filter");
        assert!(count(&of_it) > 0, "it has dialled nobody");
        let gateways = format!("{of_it} and dst port 4143");
        assert_eq!(count(&gateways), 0, "something left the cluster");
    });
}
