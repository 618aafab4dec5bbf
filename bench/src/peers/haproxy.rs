//! HAProxy: HTTP/2 between A and B.

use mesh_pair::namespace::{B, Side};

use super::{BYTES, GRPC, HTTP1, HTTP2, TLS};
use crate::backend::{BYTES_PORT, HTTP_PORT};

pub(super) fn config(side: Side, workers: usize, certificates: &str) -> String {
    let mut text = format!(
        "global\n  nbthread {workers}\n  maxconn 5900\n  \
         ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n  \
         ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  \
         timeout server 600s\n  timeout http-keep-alive 600s\n  http-reuse always\n  \
         maxconn 5900\n"
    );
    for port in [HTTP1, HTTP2, GRPC, BYTES] {
        text += &match side {
            Side::A => outbound(port, certificates),
            Side::B => inbound(port, certificates),
        };
    }
    text
}

fn outbound(port: u16, certificates: &str) -> String {
    let (mode, heard, alpn) = match port {
        BYTES => ("tcp", "", ""),
        HTTP1 => ("http", "", "alpn h2"),
        _ => ("http", "proto h2", "alpn h2"),
    };
    format!(
        "listen to-{port}\n  mode {mode}\n  bind 127.0.0.1:{port} {heard}\n  \
         server b {B}:{} ssl crt {certificates}/client.pem ca-file {certificates}/ca.pem \
         verify required ssl-min-ver TLSv1.3 {alpn}\n",
        port + TLS
    )
}

fn inbound(port: u16, certificates: &str) -> String {
    let (mode, alpn, spoken, application) = match port {
        BYTES => ("tcp", "", "", BYTES_PORT),
        HTTP1 => ("http", "alpn h2", "", HTTP_PORT),
        _ => ("http", "alpn h2", "proto h2", HTTP_PORT),
    };
    format!(
        "listen from-{port}\n  mode {mode}\n  bind {B}:{} ssl crt {certificates}/server.pem \
         ca-file {certificates}/ca.pem verify required ssl-min-ver TLSv1.3 {alpn}\n  \
         server application 127.0.0.1:{application} {spoken}\n",
        port + TLS
    )
}
