//! Tunnels in the access log.

use std::time::Instant;

use super::*;
use crate::access::{
    filter,
    tests::{Written, logging},
};

async fn a_tunnel(written: &Written) {
    let world = agreeable(Behind::Sidecar).await;
    let mut client = world.client().await;
    let request = upgrade("POST", "/chat?secret", "SPDY/3.1", "");
    client.say(&request).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(written.text(), "", "it is not over");
    talks(&mut client).await;
    let start = Instant::now();
    while written.text().lines().count() < 2 {
        assert!(start.elapsed() < LONG, "{}", written.text());
        tokio::task::yield_now().await;
    }
}

#[test]
fn h12_a_tunnel_is_a_request_s_line_of_each_sidecar_at_its_end() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let written = Written::default();
    logging(&filter("off", true), &written, || {
        runtime.block_on(a_tunnel(&written));
    });
    let text = written.text();
    let bytes = 2 * ("ahoy".len() + "and more".len()) + BYE.len();
    for direction in ["inbound", "outbound"] {
        let line = text.lines().find(|line| line.contains(direction)).unwrap();
        let expected = format!("method=POST path=/chat status=101 bytes={bytes}");
        assert!(line.contains(&expected), "{line}");
    }
    assert!(!text.contains("secret"), "{text}");
}
