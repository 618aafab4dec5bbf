use std::time::Duration;

use mesh_net::spread::Spread;
use mesh_runtime::Workers;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::world::{EXPORTED, LONG, WEB, World, endpoint};

#[tokio::test]
async fn tunnels_of_all_workers_are_carried_and_waited_for() {
    let workers = Workers::start("2".parse().unwrap()).await.unwrap();
    let spread = Spread::over(workers.runtimes());
    let world = World::over(spread.clone(), |_| ()).await;
    let mut open = Vec::new();
    for client in 0..2 {
        // Each has a connection of its own.
        let tunnels = world.tunnels(WEB);
        let opened = tunnels.open(&world.link(), endpoint(EXPORTED)).await;
        let mut tunnel = opened.unwrap();
        let sent = vec![client; 100_000];
        tunnel.write_all(&sent).await.unwrap();
        let mut back = vec![0; sent.len()];
        let read = timeout(LONG, tunnel.read_exact(&mut back)).await;
        assert!(read.unwrap().is_ok() && back == sent);
        open.push((tunnels, tunnel));
    }
    assert_eq!(spread.connections(), [1, 1]);
    while let Some((tunnels, tunnel)) = open.pop() {
        let is_drained = world.gateway.drain(Duration::from_millis(1)).await;
        assert!(!is_drained, "{} more is open", open.len());
        drop((tunnel, tunnels));
    }
    assert!(world.gateway.drain(LONG).await);
    assert!(workers.stop(LONG).await);
}
