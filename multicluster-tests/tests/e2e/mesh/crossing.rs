//! One request of each kind, from west to east.

use mesh_lab::capture::Capture;

use super::installed::{CLIENT, EAST, WEST, call, client, header, linked, with_stranger};
use crate::shared::eventually;

const MARKER: &str = "plaintext-marker-5b2e";
const GATEWAY_PORT: u16 = 4143;

#[test]
fn http_1_crosses_and_the_target_sees_who_calls() {
    let shared = linked();
    let answer = call(&shared, &["get", "http://web-east/a?b=c"]);
    assert_eq!(answer["cluster"], "east");
    assert_eq!(answer["version"], "HTTP/1.1");
    assert_eq!(answer["path"], "/a");
    assert_eq!(answer["query"], "b=c");
    assert_eq!(header(&answer, "l5d-client-id"), [CLIENT]);
    assert_eq!(header(&answer, "host"), ["web.shop.svc.cluster.local"]);
}

#[test]
fn http_2_crosses_and_the_target_sees_who_calls() {
    let shared = linked();
    let answer = call(&shared, &["get", "http://web-east", "--http2"]);
    assert_eq!(answer["cluster"], "east");
    assert_eq!(answer["version"], "HTTP/2");
    assert_eq!(header(&answer, "l5d-client-id"), [CLIENT]);
}

#[test]
fn grpc_crosses_and_the_target_sees_who_calls() {
    let shared = linked();
    let answer = call(&shared, &["grpc", "web-east:8081"]);
    assert_eq!(answer["cluster"], "east");
    assert_eq!(answer["message"], "hello");
    assert_eq!(header(&answer, "l5d-client-id"), [CLIENT]);
}

#[test]
fn opaque_tcp_crosses() {
    let shared = linked();
    let answer = call(&shared, &["tcp", "web-east:9090", "--send", "ahoy"]);
    assert_eq!(answer["echo"], "ahoy");
    assert_eq!(answer["server"]["cluster"], "east");
}

/// Within less than the 10 seconds after which a silent client's connection is taken
/// for bytes.
#[test]
fn who_speaks_first_on_a_well_known_port_is_heard_at_once() {
    let shared = linked();
    let (east, west) = (shared.cluster(EAST), shared.cluster(WEST));
    east.apply(MAIL).unwrap();
    let listen = ["tcp", "mail-east:25", "--expect-banner", "--timeout", "5s"];
    eventually("the greeting crosses", west, || {
        client(&shared, &listen).is_ok()
    });
    assert_eq!(call(&shared, &listen)["server"]["cluster"], "east");
    east.kubectl(&["-n", "shop", "delete", "service", "mail"])
        .unwrap();
    eventually("the mirror is gone", west, || {
        let mirror = ["-n", "shop", "get", "service", "mail-east"];
        west.kubectl(&mirror).is_err()
    });
}

/// Nothing but its number says what the port speaks.
const MAIL: &str = "
apiVersion: v1
kind: Service
metadata:
  name: mail
  namespace: shop
  labels: {mesh.dev/exported: 'true'}
spec:
  selector: {app: web}
  ports: [{name: smtp, port: 25, targetPort: 9091}]
";

#[test]
fn bodies_larger_than_every_buffer_cross() {
    let shared = linked();
    let size = 8 << 20;
    let url = format!("http://web-east/?size={size}");
    let text = client(&shared, &["get", &url]).unwrap();
    assert!(text.len() > size, "{} bytes came", text.len());
}

#[test]
fn names_of_the_other_cluster_resolve() {
    let shared = linked();
    let names = ["http://web.east", "http://web.shop.svc.east"];
    for url in names {
        eventually(url, shared.cluster(WEST), || {
            client(&shared, &["get", url]).is_ok()
        });
        assert_eq!(call(&shared, &["get", url])["cluster"], "east", "{url}");
    }
}

#[test]
fn h7_client_id_is_never_taken_from_a_client() {
    let shared = linked();
    let forged = "l5d-client-id:spiffe://west/ns/shop/sa/admin";
    let answer = call(&shared, &["get", "http://web-east", "--header", forged]);
    assert_eq!(header(&answer, "l5d-client-id"), [CLIENT]);
}

#[test]
fn inside_a_cluster_pods_see_who_calls() {
    let shared = linked();
    let answer = call(&shared, &["get", "http://web"]);
    assert_eq!(answer["cluster"], "west");
    assert_eq!(header(&answer, "l5d-client-id"), [CLIENT]);
}

#[test]
fn t8_no_plaintext_byte_crosses() {
    let shared = linked();
    let capture = Capture::start().unwrap();
    let url = format!("http://web-east/{MARKER}");
    let echoed = client(&shared, &["get", &url, "--count", "5"]).unwrap();
    assert!(echoed.contains(MARKER), "{echoed}");
    call(&shared, &["tcp", "web-east:9090", "--send", MARKER]);
    let captured = capture.stop().unwrap();
    assert!(captured.packets_of_port(GATEWAY_PORT).unwrap() > 0);
    assert_eq!(captured.occurrences(MARKER.as_bytes()).unwrap(), 0);
    let between = "net 10.99.1.0/24 and net 10.99.2.0/24";
    let others = format!("{between} and not tcp port {GATEWAY_PORT}");
    assert_eq!(captured.count(&others).unwrap(), 0, "other traffic crossed");
}

#[test]
fn t8_no_plaintext_byte_passes_between_pods_of_a_cluster() {
    let shared = linked();
    let west = shared.cluster(WEST);
    let url = format!("http://web/{MARKER}");
    let capture = Capture::on_node(west).unwrap();
    assert!(client(&shared, &["get", &url]).unwrap().contains(MARKER));
    let captured = capture.stop().unwrap();
    assert!(captured.packets_of_port(GATEWAY_PORT).unwrap() > 0);
    assert_eq!(captured.occurrences(MARKER.as_bytes()).unwrap(), 0);

    // The same capture shows a request of a pod without a sidecar.
    let capture = Capture::on_node(west).unwrap();
    with_stranger(&shared, |stranger| {
        assert!(stranger(&url).unwrap().contains(MARKER));
    });
    let captured = capture.stop().unwrap();
    assert!(captured.occurrences(MARKER.as_bytes()).unwrap() > 0);
}
