//! HTTP/1 that ends in another protocol.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::{
    content::{check, content},
    messages::{Case, ask, equal},
    place::Place,
    wire::{Wire, block_on},
};

pub(crate) const CASES: &[(&str, Case)] = &[
    ("an upgrade", upgrade),
    ("an upgrade behind a request", upgrade_behind),
    ("an upgrade whose client ends first", upgrade_half_closed),
    ("an upgrade that is declined", upgrade_declined),
    ("what comes early behind it", upgrade_declined_early),
    ("CONNECT", connect),
    ("CONNECT behind a request", connect_behind),
    ("CONNECT that is refused", connect_refused),
    ("CONNECT in a wrong form", connect_malformed),
];

/// A websocket's handshake; the key is that of RFC 6455 §1.3.
pub(crate) const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn upgrade(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async { switch(&mut Wire::client(socket)?).await })
}

/// Switches, and then says and hears what is no HTTP any more.
pub(crate) async fn switch(wire: &mut Wire) -> Result<()> {
    const LENGTH: usize = 200_000;
    wire.send(UPGRADE).await?;
    let head = wire.some_head().await?;
    equal(&head.status()?, &101)?;
    equal(&head.get("upgrade"), &Some("websocket"))?;
    equal(&head.get("sec-websocket-accept"), &Some(ACCEPT))?;
    // Both at a time: neither side holds all of it.
    for piece in content(LENGTH).chunks(10_000) {
        wire.send(piece).await?;
        let back = wire.exactly(piece.len()).await?;
        ensure!(back == piece, "other bytes came back");
    }
    wire.finish().await?;
    equal(&wire.rest().await?, &Vec::new())
}

fn upgrade_behind(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send("GET /bytes/10 HTTP/1.1\r\nHost: web\r\n\r\n")
            .await?;
        check(&wire.answer("GET").await?.body, 10)?;
        switch(&mut wire).await
    })
}

/// What the client has said comes back after its end.
fn upgrade_half_closed(place: &Place, to: SocketAddr) -> Result<()> {
    const LENGTH: usize = 50_000;
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send(UPGRADE).await?;
        equal(&wire.some_head().await?.status()?, &101)?;
        wire.send(content(LENGTH)).await?;
        wire.finish().await?;
        check(&wire.rest().await?, LENGTH)
    })
}

const DECLINED: &str = "GET /bytes/10 HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\n\r\n";
const NEXT: &str = "GET /bytes/20 HTTP/1.1\r\nHost: web\r\n\r\n";

/// It is a request like any other, and so is the next one.
fn upgrade_declined(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        for (request, length) in [(DECLINED, 10), (DECLINED, 10), (NEXT, 20)] {
            wire.send(request).await?;
            check(&wire.answer("GET").await?.body, length)?;
        }
        switch(&mut wire).await
    })
}

/// It might be of the other protocol, and is not taken for a request.
fn upgrade_declined_early(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send(format!("{DECLINED}{NEXT}")).await?;
        check(&wire.answer("GET").await?.body, 10)?;
        equal(&wire.rest().await?, &Vec::new())
    })
}

const CONNECT: &str = "CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n";

fn connect(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async { lead(&mut Wire::client(socket)?).await })
}

/// Opens a tunnel, and says and hears something.
async fn lead(wire: &mut Wire) -> Result<()> {
    wire.send(CONNECT).await?;
    equal(&wire.some_head().await?.status()?, &200)?;
    wire.send("through the tunnel").await?;
    equal(&&*wire.exactly(18).await?, &&b"through the tunnel"[..])?;
    wire.finish().await?;
    equal(&wire.rest().await?, &Vec::new())
}

fn connect_behind(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        wire.send(NEXT).await?;
        check(&wire.answer("GET").await?.body, 20)?;
        lead(&mut wire).await
    })
}

fn connect_refused(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        let request = CONNECT.replace("shop.example", "refused.example");
        wire.send(format!("{request}{NEXT}")).await?;
        let answer = wire.answer("CONNECT").await?;
        equal(&answer.head.status()?, &403)?;
        equal(&&*answer.body, &&b"no"[..])?;
        equal(&wire.rest().await?, &Vec::new())
    })
}

fn connect_malformed(place: &Place, to: SocketAddr) -> Result<()> {
    for target in ["shop.example", "/", "http://shop.example:443/"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: web\r\n\r\n");
        let answers = ask(place, to, &request, &["GET"])?;
        equal(&answers[0].head.status()?, &400)?;
    }
    Ok(())
}
