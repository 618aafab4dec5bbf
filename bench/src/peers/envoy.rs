//! Envoy: HTTP/2 between A and B. Its configuration may be JSON.

use mesh_pair::{
    identity::{CLIENT, SERVER},
    namespace::{B, Side},
};
use serde_json::{Value, json};

use super::{BYTES, GRPC, HTTP1, HTTP2, TLS};
use crate::backend::{BYTES_PORT, HTTP_PORT};

const LOOPBACK: &str = "127.0.0.1";
/// More than any load has at one time: of connections, requests, and so on.
const MOST: u32 = 100_000;

pub(super) fn config(side: Side, certificates: &str) -> String {
    let ports = [HTTP1, HTTP2, GRPC, BYTES];
    let b = B.to_string();
    let listeners: Vec<Value> = ports
        .iter()
        .map(|port| match side {
            Side::A => listener(*port, LOOPBACK, *port, None),
            Side::B => listener(*port, &b, *port + TLS, Some(downstream_tls(certificates))),
        })
        .collect();
    let clusters: Vec<Value> = ports
        .iter()
        .map(|port| match side {
            Side::A => {
                let tls = upstream_tls(certificates, *port);
                cluster(*port, &b, *port + TLS, *port != BYTES, Some(tls))
            }
            Side::B if *port == BYTES => cluster(*port, LOOPBACK, BYTES_PORT, false, None),
            Side::B => cluster(*port, LOOPBACK, HTTP_PORT, *port != HTTP1, None),
        })
        .collect();
    json!({
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
    .to_string()
}

fn address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

fn extension(path: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{path}")
}

fn name(port: u16) -> String {
    format!("to-{port}")
}

fn listener(port: u16, host: &str, listened: u16, tls: Option<Value>) -> Value {
    let filter = if port == BYTES {
        bytes(port)
    } else {
        http(port)
    };
    let mut chain = json!({ "filters": [filter] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({
        "name": format!("from-{port}"),
        "address": address(host, listened),
        "tcp_backlog_size": 4096,
        "filter_chains": [chain],
    })
}

fn bytes(port: u16) -> Value {
    json!({
        "name": "bytes",
        "typed_config": {
            "@type": extension("filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "bytes",
            "cluster": name(port),
        },
    })
}

fn http(port: u16) -> Value {
    json!({
        "name": "http",
        "typed_config": {
            "@type": extension(
                "filters.network.http_connection_manager.v3.HttpConnectionManager"
            ),
            "stat_prefix": name(port),
            "codec_type": "AUTO",
            "http2_protocol_options": { "max_concurrent_streams": 1024 },
            "generate_request_id": false,
            "route_config": {
                "virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{
                        "match": { "prefix": "/" },
                        "route": { "cluster": name(port), "timeout": "0s" },
                    }],
                }],
            },
            "http_filters": [{
                "name": "router",
                "typed_config": { "@type": extension("filters.http.router.v3.Router") },
            }],
        },
    })
}

fn cluster(port: u16, host: &str, to: u16, is_http2: bool, tls: Option<Value>) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(host, to) } });
    let most = json!({
        "max_connections": MOST,
        "max_pending_requests": MOST,
        "max_requests": MOST,
        "max_retries": MOST,
    });
    let mut cluster = json!({
        "name": name(port),
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name(port),
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
        "circuit_breakers": { "thresholds": [most] },
    });
    if is_http2 {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({
            options: {
                "@type": extension("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {
                    "http2_protocol_options": { "max_concurrent_streams": 1024 },
                },
            },
        });
    }
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}

fn downstream_tls(certificates: &str) -> Value {
    json!({
        "name": "tls",
        "typed_config": {
            "@type": extension("transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": common(certificates, "server", CLIENT, &["h2"]),
        },
    })
}

fn upstream_tls(certificates: &str, port: u16) -> Value {
    let alpn: &[&str] = if port == BYTES { &[] } else { &["h2"] };
    json!({
        "name": "tls",
        "typed_config": {
            "@type": extension("transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": common(certificates, "client", SERVER, alpn),
        },
    })
}

fn common(certificates: &str, own: &str, peer: &str, alpn: &[&str]) -> Value {
    let file = |name: &str| json!({ "filename": format!("{certificates}/{name}") });
    json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": file(&format!("{own}.crt")),
            "private_key": file(&format!("{own}.key")),
        }],
        "validation_context": {
            "trusted_ca": file("ca.pem"),
            "match_typed_subject_alt_names": [{
                "san_type": "URI",
                "matcher": { "exact": peer },
            }],
        },
        "alpn_protocols": alpn,
    })
}
