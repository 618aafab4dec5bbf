//! What the demo shows, step by step.

mod answers;
mod safety;
mod traffic;

use std::time::Duration;

use anyhow::Result;

use self::{
    safety::{broken_path, not_exported, policy, wire},
    traffic::{canary, cross, fail_over, redis},
};
use super::show::Stage;

/// A step: shows something and checks it.
pub(super) type Step = fn(&Stage) -> Result<()>;

/// The steps in order.
pub(super) const ALL: [(&str, Step); 12] = [
    (
        "Two Kubernetes clusters, same pod and Service networks",
        clusters,
    ),
    ("A mesh in each, with a root of trust of its own", install),
    ("Gateway, mirror, and a link between the two", link),
    ("An unchanged application, with sidecars", applications),
    ("west calls east by name; east sees who calls", cross),
    ("A redis as Debian ships it, in east, used from west", redis),
    ("What is not exported has no way in", not_exported),
    (
        "A policy in east: the front end of west, and nobody else",
        policy,
    ),
    ("Fail-over by TrafficSplit, under load", fail_over),
    (
        "A canary across clusters: one of ten requests to east",
        canary,
    ),
    (
        "A path broken on purpose, and what is wrong with it",
        broken_path,
    ),
    ("On the wire between the clusters: no plaintext byte", wire),
];

/// How long a pod, a Service or an answer may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);
const CLIENT: &str = "kubectl --context west -n shop exec deploy/client -c client -- /testapp";

pub(super) fn things_to_try(stage: &Stage) -> String {
    format!(
        "   export KUBECONFIG={}\n{}   \
         {CLIENT} get http://web.east\n   \
         kubectl --context east -n shop label service vault mesh.dev/exported=true   # then: get http://vault-east\n   \
         kubectl --context west get links -o yaml\n   \
         (make demo-down removes everything)",
        stage.kubeconfig(),
        stage.path_hint()
    )
}

fn clusters(stage: &Stage) -> Result<()> {
    stage.run("lab up west east")?;
    for cluster in ["west", "east"] {
        stage.run(&format!("kubectl --context {cluster} get nodes -o wide"))?;
    }
    Ok(())
}

fn install(stage: &Stage) -> Result<()> {
    for cluster in ["west", "east"] {
        stage.run(&format!(
            "mesh install --cluster {cluster} | kubectl --context {cluster} apply -f -"
        ))?;
    }
    for cluster in ["west", "east"] {
        stage.run(&format!(
            "kubectl --context {cluster} -n mesh-system rollout status deploy/mesh-control --timeout=60s"
        ))?;
    }
    Ok(())
}

fn link(stage: &Stage) -> Result<()> {
    for cluster in ["west", "east"] {
        stage.run(&format!(
            "mesh multicluster install | kubectl --context {cluster} apply -f -"
        ))?;
    }
    for cluster in ["west", "east"] {
        for program in ["mesh-gateway", "mesh-mirror"] {
            stage.run(&format!(
                "kubectl --context {cluster} -n mesh-multicluster rollout status deploy/{program} --timeout=60s"
            ))?;
        }
    }
    stage.run("mesh multicluster link --context west --cluster east --yes")?;
    Ok(())
}

fn applications(stage: &Stage) -> Result<()> {
    for cluster in ["east", "west"] {
        stage.run(&format!(
            "mesh inject shop-{cluster}.yaml | kubectl --context {cluster} apply -f -"
        ))?;
    }
    stage.run("lab images third-party redis tools")?;
    for (cluster, file) in [("east", "redis"), ("west", "tools")] {
        stage.run(&format!(
            "mesh inject {file}-{cluster}.yaml | kubectl --context {cluster} apply -f -"
        ))?;
    }
    for (cluster, name) in [
        ("east", "web"),
        ("east", "vault"),
        ("east", "redis"),
        ("west", "tools"),
        ("west", "web"),
        ("west", "client"),
    ] {
        stage.run(&format!(
            "kubectl --context {cluster} -n shop rollout status deploy/{name} --timeout=60s"
        ))?;
    }
    stage.until(
        "the mirror Service web-east is there",
        PATIENCE,
        "kubectl --context west -n shop get service web-east",
        |_| true,
    )?;
    stage.run("kubectl --context west -n shop get services")?;
    stage.run("kubectl --context west get links")?;
    Ok(())
}
