//! What mesh-mirror's probe says of a gateway.

use mesh_dataplane::{
    resolve::Resolver,
    tunnel::{Tunnels, probe::Step},
};
use mesh_testing::ca::TestRoot;

use super::world::{WEB, World};

const MIRROR: &str = "spiffe://west/ns/mesh-multicluster/sa/mesh-mirror";

/// The steps to the only address, each with its reason if it failed.
async fn steps(world: &World, tunnels: Tunnels) -> Vec<(&'static str, &'static str)> {
    let reports = tunnels.probe(&world.link()).await;
    assert_eq!(reports.len(), 1);
    let steps = reports[0].steps.iter();
    assert!(
        steps
            .clone()
            .all(|step: &Step| step.ok == step.reason.is_empty())
    );
    steps.map(|step| (step.step, step.reason)).collect()
}

#[tokio::test]
async fn each_step_to_the_peers_mesh_control_is_tried() {
    let world = World::new().await;
    let found = steps(&world, world.tunnels(MIRROR)).await;
    assert_eq!(found[..3], [("dial", ""), ("tls", ""), ("probe", "")]);
    // Behind this gateway is an echo, and no mesh-control.
    assert_eq!(found[3].0, "exports");
    assert!(!found[3].1.is_empty());
}

#[tokio::test]
async fn a_client_that_may_not_read_the_feed_fails_at_that_step() {
    let world = World::new().await;
    let found = steps(&world, world.tunnels(WEB)).await;
    assert_eq!(found[3].0, "exports");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_refused_at_the_first_step() {
    let world = World::new().await;
    world.door.abort();
    while !world.door.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        steps(&world, world.tunnels(MIRROR)).await,
        [("dial", "refused")]
    );
}

#[tokio::test]
async fn other_roots_on_either_side_are_told_from_each_other() {
    let world = World::new().await;
    // West does not have east's roots, but others of the same name.
    let other = TestRoot::new("east");
    let tls = world.west.tls_trusting(MIRROR, &[&other]);
    let tunnels = Tunnels::new(tls, Resolver::from_system().unwrap());
    assert_eq!(steps(&world, tunnels).await[1], ("tls", "signature"));
    // East does not have west's.
    let other = TestRoot::new("west");
    let tls = other.tls_trusting(MIRROR, &[&world.east]);
    let tunnels = Tunnels::new(tls, Resolver::from_system().unwrap());
    let found = steps(&world, tunnels).await;
    assert_eq!(found.last().unwrap().1, "refused_by_peer", "{found:?}");
}
