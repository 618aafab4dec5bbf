//! Full mutual TLS 1.3 handshakes with B, without A: nothing is resumed.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use mesh_core::identity::SpiffeId;
use mesh_tls::Tls;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    task::LocalSet,
    time::timeout,
};

use super::{closed::Done, window::Window};
use crate::interrupt;

/// Handshakes at one time.
const LANES: usize = 16;
const STALLED: Duration = Duration::from_secs(10);
/// How an HTTP/2 client begins: its preface and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The length of a frame's head, and the type of SETTINGS in it.
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;

/// The server, and who we are.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Tls,
    pub(crate) identity: SpiffeId,
    pub(crate) alpn: &'static [u8],
}

/// One handshake after the other on each lane until the window is over.
///
/// # Errors
/// If one fails.
pub(crate) fn run(peer: &Peer, window: Window) -> Result<Done> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let counter = Rc::new(std::cell::RefCell::new((0, window)));
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            lanes.push(tokio::task::spawn_local(lane(
                peer.clone(),
                counter.clone(),
            )));
        }
        for lane in lanes {
            lane.await.context("a lane has panicked")??;
        }
        let (requests, window) = &*counter.borrow();
        Ok(Done {
            requests: *requests,
            bytes: 0,
            used: window.used().context("the window is over")?,
        })
    })
}

async fn lane(peer: Peer, counter: Rc<std::cell::RefCell<(u64, Window)>>) -> Result<()> {
    while !counter.borrow().1.is_over() {
        interrupt::check()?;
        match timeout(STALLED, handshake(&peer)).await {
            Ok(result) => result?,
            Err(_) => bail!("no handshake within {STALLED:?}"),
        }
        let (done, window) = &mut *counter.borrow_mut();
        *done += u64::from(window.is_open(Instant::now())?);
    }
    Ok(())
}

/// A server may refuse our certificate after the client is done, so its first
/// frame is waited for.
async fn handshake(peer: &Peer) -> Result<()> {
    let socket = TcpStream::connect(peer.address).await?;
    let expected = [peer.identity.clone()];
    let mut session = peer.tls.connect(socket, &expected, None, peer.alpn).await?;
    session.write_all(PREFACE).await?;
    let mut first = [0; FRAME_HEAD];
    session
        .read_exact(&mut first)
        .await
        .context("the server does not say anything")?;
    ensure!(first[3] == SETTINGS, "the server does not speak HTTP/2");
    Ok(())
}

/// What was agreed on with the server: cipher suite and key exchange.
///
/// # Errors
/// If there is no handshake.
pub(crate) fn agreed(peer: &Peer) -> Result<String> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = TcpStream::connect(peer.address).await?;
        let expected = [peer.identity.clone()];
        let session = peer.tls.connect(socket, &expected, None, peer.alpn).await?;
        let (suite, group) = (session.cipher_suite(), session.key_exchange());
        Ok(format!("{suite}, {group}"))
    })
}
