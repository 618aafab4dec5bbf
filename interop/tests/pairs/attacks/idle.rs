//! Many connections of verified peers on which nothing happens, and one moment in
//! which much does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use mesh_core::ports;
use mesh_pair::{
    identity::SERVER,
    namespace::{B, Side},
};
use mesh_testing::ca::id;
use mesh_tls::{ALPN_MESH, Tls};
use tokio::{
    net::TcpStream,
    runtime,
    sync::Semaphore,
    task::{JoinSet, LocalSet, spawn_local},
};

use super::{HONEST, ports};
use crate::{
    origin::Origin,
    place::Place,
    report::{Group, Report},
};

const PEERS: usize = 10_000;
/// Handshakes at one time.
const AT_ONCE: usize = 100;
/// What a sidecar may hold with all of them, in bytes.
const MEMORY: u64 = 160 << 20;
/// Requests in the one moment.
const BURST: usize = 2000;
/// How long what it took may take to come back.
const DEADLINE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(100);

#[test]
fn h18_ten_thousand_idle_peers_cost_little_and_a_burst_leaves_nothing() {
    let mut place = Place::new(&ports());
    let _origin = Origin::http1(&place, HONEST);
    let mut report = Report::new(Group::Idle);
    let site = place.pair.site();
    let tls = place.pair.tls_of_client();
    let outcomes = site.a.enter(|| {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, peers(&place, tls))
    });
    let (held, left) = match outcomes.unwrap() {
        Ok(outcomes) => outcomes,
        Err(error) => panic!("{error:#}\n{}", place.said()),
    };
    report.case(format!("{PEERS} peers"), held);
    report.case("a burst, and nothing left of it", left);
    report.finish(&mut place);
}

async fn peers(place: &Place, tls: Tls) -> Result<(Result<()>, Result<()>)> {
    let resident = || place.pair.sidecar(Side::B).resident();
    let peers = connected(tls).await?;
    let idle = resident()?;
    println!("{} peers, {} MiB", peers.len(), idle >> 20);
    let held = || {
        ensure!(idle <= MEMORY, "{idle} bytes with {PEERS} peers");
        Ok(())
    };
    burst(&peers).await?;
    let (most, start) = (resident()?, Instant::now());
    while resident()? > idle / 4 * 5 && start.elapsed() < DEADLINE {
        tokio::time::sleep(GLANCE).await;
    }
    let now = resident()?;
    println!(
        "{} MiB after the burst, {} MiB {:?} later",
        most >> 20,
        now >> 20,
        start.elapsed()
    );
    let left = || {
        ensure!(
            now <= idle / 4 * 5,
            "{now} bytes are left, of {idle} before"
        );
        Ok(())
    };
    Ok((held(), left()))
}

type Peer = SendRequest<Bytes>;

/// Connections, with all that is said at their beginning.
async fn connected(tls: Tls) -> Result<Vec<Peer>> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut all = JoinSet::new();
    for _ in 0..PEERS {
        let (tls, turns) = (tls.clone(), turns.clone());
        all.spawn_local(async move {
            let _turn = turns.acquire().await?;
            let tcp = TcpStream::connect((B, ports::INBOUND)).await?;
            let session = tls.connect(tcp, &[id(SERVER)], None, ALPN_MESH).await?;
            let (peer, connection) = h2::client::handshake(session).await?;
            spawn_local(connection);
            Ok::<_, anyhow::Error>(peer.ready().await?)
        });
    }
    let mut peers = Vec::with_capacity(PEERS);
    while let Some(peer) = all.join_next().await {
        peers.push(peer?.context("a peer")?);
    }
    Ok(peers)
}

/// Much at one time: a request of some size on each of these connections.
async fn burst(peers: &[Peer]) -> Result<()> {
    const BODY: usize = 100_000;
    let mut all = JoinSet::new();
    for peer in &peers[..BURST] {
        let mut peer = peer.clone();
        all.spawn_local(async move {
            let request = Request::post("http://web/echo")
                .header("mesh-port", HONEST)
                .header("mesh-proto", "http1")
                .body(())?;
            let (answer, mut sending) = peer.send_request(request, false)?;
            sending.send_data(Bytes::from(vec![b'x'; BODY]), true)?;
            let answer = answer.await?;
            let (status, mut body, mut length) = (answer.status(), answer.into_body(), 0);
            while let Some(data) = body.data().await {
                let data = data?;
                length += data.len();
                body.flow_control().release_capacity(data.len())?;
            }
            ensure!(length == BODY, "{status}, {length} bytes came back");
            Ok(())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    Ok(())
}
