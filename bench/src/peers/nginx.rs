//! nginx: HTTP/1 between A and B, since it has no other for upstreams, but for
//! gRPC. It verifies names only, so B has a certificate with one.

use mesh_pair::namespace::{B, Side};

use super::{GRPC, HTTP1, HTTP2, TLS};
use crate::{backend::HTTP_PORT, pki::SERVER_NAME};

pub(super) fn config(side: Side, workers: usize, certificates: &str) -> String {
    let servers: String = match side {
        Side::A => outbound(certificates),
        Side::B => inbound(certificates),
    };
    format!(
        "daemon off;\nworker_processes {workers};\npid {certificates}/nginx-{side}.pid;\n\
         events {{ worker_connections 12000; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  \
         keepalive_timeout 600s;\n  client_max_body_size 0;\n  \
         http2_max_concurrent_streams 1024;\n  \
         ssl_protocols TLSv1.3;\n  \
         ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n  \
         proxy_http_version 1.1;\n  proxy_set_header Connection \"\";\n  \
         proxy_set_header Host $http_host;\n  \
         client_body_temp_path {certificates}/nginx-{side}-body;\n  \
         proxy_temp_path {certificates}/nginx-{side}-proxy;\n  \
         fastcgi_temp_path {certificates}/nginx-{side}-fastcgi;\n  \
         scgi_temp_path {certificates}/nginx-{side}-scgi;\n  \
         uwsgi_temp_path {certificates}/nginx-{side}-uwsgi;\n{servers}}}\n",
        side = side.as_str()
    )
}

fn outbound(certificates: &str) -> String {
    let tls = |module: &str| {
        format!(
            "    {module}_ssl_certificate {certificates}/client.crt;\n    \
             {module}_ssl_certificate_key {certificates}/client.key;\n    \
             {module}_ssl_trusted_certificate {certificates}/ca.pem;\n    \
             {module}_ssl_verify on;\n    {module}_ssl_verify_depth 3;\n    \
             {module}_ssl_name {SERVER_NAME};\n    {module}_ssl_protocols TLSv1.3;\n    \
             {module}_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n"
        )
    };
    let upstream = |name: &str, port: u16| {
        format!(
            "  upstream {name} {{ server {B}:{}; keepalive 512; keepalive_timeout 600s; \
             keepalive_requests 1000000000; }}\n",
            port + TLS
        )
    };
    let server = |listened: String, module: &str, to: &str| {
        format!(
            "  server {{\n    listen 127.0.0.1:{listened};\n{}    \
             location / {{ {module}_pass {to}; }}\n  }}\n",
            tls(module)
        )
    };
    [
        upstream("b1", HTTP1),
        upstream("b2", HTTP2),
        upstream("b3", GRPC),
        server(HTTP1.to_string(), "proxy", "https://b1"),
        server(format!("{HTTP2} http2"), "proxy", "https://b2"),
        server(format!("{GRPC} http2"), "grpc", "grpcs://b3"),
    ]
    .concat()
}

fn inbound(certificates: &str) -> String {
    let server = |port: u16, flags: &str, module: &str, to: &str| {
        format!(
            "  server {{\n    listen {B}:{} ssl{flags};\n    \
             ssl_certificate {certificates}/named.crt;\n    \
             ssl_certificate_key {certificates}/named.key;\n    \
             ssl_client_certificate {certificates}/ca.pem;\n    ssl_verify_client on;\n    \
             ssl_verify_depth 3;\n    location / {{ {module}_pass {to}; }}\n  }}\n",
            port + TLS
        )
    };
    // Kept connections of one upstream cannot be shared between both protocols.
    let application = |name: &str| {
        format!(
            "  upstream {name} {{ server 127.0.0.1:{HTTP_PORT}; keepalive 512; \
             keepalive_timeout 600s; keepalive_requests 1000000000; }}\n"
        )
    };
    [
        application("pages"),
        application("calls"),
        server(HTTP1, "", "proxy", "http://pages"),
        server(HTTP2, "", "proxy", "http://pages"),
        server(GRPC, " http2", "grpc", "grpc://calls"),
    ]
    .concat()
}
