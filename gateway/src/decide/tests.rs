use super::*;
use crate::fixtures::{endpoint, id, links, table};

const WEST_WEB: &str = "spiffe://west/ns/shop/sa/web";
const WEST_CONTROL: &str = "spiffe://west/ns/mesh-system/sa/mesh-control";
const WEST_MIRROR: &str = "spiffe://west/ns/mesh-multicluster/sa/mesh-mirror";

fn decided(client: &str, target: Target) -> Result<Upstream, Reason> {
    decide(&table(), &links(), &id(client), target)
}

fn connect(authority: &str, headers: &[(&str, &str)]) -> Head {
    let mut request = Head::request("CONNECT", authority, "").unwrap();
    for (name, value) in headers {
        request.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    request
}

#[test]
fn an_exported_endpoint_is_reached_by_its_importer() {
    let upstream = decided(WEST_WEB, Target::Endpoint(EndpointId(1)));
    let route = table().route(EndpointId(1)).unwrap().clone();
    assert_eq!(upstream, Ok(Upstream::Endpoint(EndpointId(1), route)));
}

#[test]
fn g1_an_endpoint_of_others_is_as_unknown_as_one_that_is_not_there() {
    let (exported_to_north, not_there) = (EndpointId(2), EndpointId(99));
    for target in [exported_to_north, not_there] {
        assert_eq!(
            decided(WEST_WEB, Target::Endpoint(target)),
            Err(Reason::UnknownEndpoint)
        );
    }
}

#[test]
fn g1_callers_without_a_link_that_exports_reach_nothing() {
    for client in [
        "spiffe://east/ns/shop/sa/web",    // our own trust domain
        "spiffe://south/ns/shop/sa/web",   // linked, not exported to; id 3 is its
        "spiffe://nowhere/ns/shop/sa/web", // not linked; id 4 is its
    ] {
        for target in 0..5 {
            assert_eq!(
                decided(client, Target::Endpoint(EndpointId(target))),
                Err(Reason::UnknownEndpoint),
                "{client} {target}"
            );
        }
    }
}

#[test]
fn the_feed_is_for_the_control_and_mirror_of_an_importer() {
    for (client, expected) in [
        (WEST_CONTROL, Ok(Upstream::Exports)),
        (WEST_MIRROR, Ok(Upstream::Exports)),
        (WEST_WEB, Err(Reason::NotAllowed)),
        (
            "spiffe://south/ns/mesh-system/sa/mesh-control",
            Err(Reason::NotAllowed),
        ),
        (
            "spiffe://east/ns/mesh-system/sa/mesh-control",
            Err(Reason::NotAllowed),
        ),
        (
            "spiffe://nowhere/ns/mesh-system/sa/mesh-control",
            Err(Reason::NotAllowed),
        ),
    ] {
        assert_eq!(decided(client, Target::Exports), expected, "{client}");
    }
}

#[test]
fn whoever_is_known_may_ask_whether_the_gateway_lives() {
    for (client, expected) in [
        (WEST_WEB, Ok(Upstream::Probe)),
        ("spiffe://south/ns/shop/sa/web", Ok(Upstream::Probe)),
        ("spiffe://east/ns/shop/sa/web", Ok(Upstream::Probe)),
        ("spiffe://nowhere/ns/shop/sa/web", Err(Reason::NotAllowed)),
    ] {
        assert_eq!(decided(client, Target::Probe), expected, "{client}");
    }
}

#[test]
fn the_three_targets_are_understood() {
    let hops = ("mesh-hops", "1");
    for (request, expected) in [
        (connect("probe", &[hops]), Target::Probe),
        (connect("exports", &[hops]), Target::Exports),
        (
            connect("endpoint", &[hops, endpoint("00000000000000ff")]),
            Target::Endpoint(EndpointId(255)),
        ),
    ] {
        assert_eq!(asked(&request), Ok(expected));
    }
}

#[test]
fn g2_g3_nothing_else_is_a_target() {
    for authority in [
        "localhost",
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:4191",
        "[::1]:4143",
        "10.42.0.7:4143",
        "169.254.169.254:80",
        "kubernetes.default:443",
        "mesh-control.mesh-system.svc:8086",
        "endpoint:4143",
        "probe:80",
        "Probe",
        "exports.",
    ] {
        let hops = ("mesh-hops", "1");
        for headers in [vec![hops], vec![hops, endpoint("0000000000000001")]] {
            assert_eq!(
                asked(&connect(authority, &headers)),
                Err(Refusal::Connect(Reason::BadRequest)),
                "{authority}"
            );
        }
    }
    // These do not even get here.
    for authority in ["endpoint@probe", "http://endpoint/", "/endpoint", "*"] {
        assert!(Head::request("CONNECT", authority, "").is_err());
    }
}

#[test]
fn g15_an_extended_connect_is_no_tunnel() {
    for authority in ["probe", "exports", "endpoint"] {
        let mut request = connect(authority, &[("mesh-hops", "1")]);
        request.set_protocol(Some(b"websocket")).unwrap();
        request.set_scheme(b"https").unwrap();
        request.set_path(b"/").unwrap();
        let refused = Err(Refusal::Connect(Reason::BadRequest));
        assert_eq!(asked(&request), refused, "{authority}");
    }
}

#[test]
fn g2_an_endpoint_is_named_once_and_exactly() {
    let id = "0000000000000001";
    for headers in [
        vec![],
        vec![endpoint("1")],
        vec![endpoint("000000000000000G")],
        vec![endpoint("+000000000000001")],
        vec![endpoint(id), endpoint(id)],
    ] {
        let mut headers = headers;
        headers.push(("mesh-hops", "1"));
        let request = connect("endpoint", &headers);
        assert_eq!(
            asked(&request),
            Err(Refusal::Connect(Reason::BadRequest)),
            "{headers:?}"
        );
    }
    for authority in ["probe", "exports"] {
        let request = connect(authority, &[("mesh-hops", "1"), endpoint(id)]);
        assert_eq!(asked(&request), Err(Refusal::Connect(Reason::BadRequest)));
    }
}

#[test]
fn g8_a_stream_that_has_passed_too_many_gateways_is_cut() {
    for (hops, expected) in [
        (None, Err(Reason::BadRequest)),
        (Some("0"), Err(Reason::BadRequest)),
        (Some("1"), Ok(Target::Probe)),
        (Some("2"), Ok(Target::Probe)),
        (Some("3"), Err(Reason::TooManyHops)),
        (Some("65535"), Err(Reason::TooManyHops)),
        (Some("65536"), Err(Reason::BadRequest)),
        (Some("-1"), Err(Reason::BadRequest)),
    ] {
        let headers: Vec<_> = hops.map(|hops| ("mesh-hops", hops)).into_iter().collect();
        let asked = asked(&connect("probe", &headers));
        assert_eq!(asked, expected.map_err(Refusal::Connect), "{hops:?}");
    }
}

#[test]
fn g15_only_connect_is_a_request() {
    for method in ["GET", "POST", "OPTIONS", "PUT", "TRACE", "connect"] {
        let mut request = connect("probe", &[("mesh-hops", "1")]);
        request.set_method(method.as_bytes()).unwrap();
        let refusal = asked(&request).unwrap_err();
        assert_eq!(refusal, Refusal::Method, "{method}");
        assert_eq!(refusal.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
