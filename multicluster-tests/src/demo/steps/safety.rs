//! What must not happen, and what is said when something is broken.

use anyhow::{Result, ensure};

use super::{super::show::Stage, CLIENT, PATIENCE};
use crate::capture::Capture;

/// A value that travels with requests and must not be seen on the WAN.
const MARKER: &str = "plaintext-marker-7d1f";
/// Somebody of west who is not the front end.
const TOOLS: &str = "kubectl --context west -n shop exec deploy/tools -c tools --";

pub(super) fn not_exported(stage: &Stage) -> Result<()> {
    let services = stage.run("kubectl --context west -n shop get services -o name")?;
    ensure!(
        !services.contains("vault"),
        "vault is not exported and has a mirror"
    );
    // It lives, and answers where it is.
    let web = "kubectl --context east -n shop exec deploy/web -c web -- /testapp";
    stage.run(&format!("{web} get http://vault"))?;
    for url in ["http://vault-east", "http://vault.east"] {
        stage.run_refused(&format!("{CLIENT} get {url} --timeout 5s"))?;
    }
    Ok(())
}

pub(super) fn policy(stage: &Stage) -> Result<()> {
    let curl = format!(
        "{TOOLS} curl -sS -o /dev/null -w '%{{http_code}}\\n' --max-time 5 http://web-east"
    );
    let code = stage.run(&curl)?;
    ensure!(
        code.trim() == "200",
        "without a policy everybody is admitted"
    );
    stage.run("kubectl --context east apply -f policy-east.yaml")?;
    stage.until("another account is refused", PATIENCE, &curl, |code| {
        code.trim() == "403"
    })?;
    stage.run(&curl)?;
    stage.run(&format!("{CLIENT} get http://web-east"))?;
    stage.run("kubectl --context east delete -f policy-east.yaml")?;
    stage.until("it is admitted again", PATIENCE, &curl, |code| {
        code.trim() == "200"
    })?;
    Ok(())
}

pub(super) fn broken_path(stage: &Stage) -> Result<()> {
    let explain = "mesh multicluster explain web-east -n shop --context west";
    stage.until("the path is whole", PATIENCE, explain, |_| true)?;
    stage.run("kubectl --context east -n shop label service web mesh.dev/exported-")?;
    let said = stage.run_refused(explain)?;
    ensure!(said.contains("export"), "the export is not named");
    stage.run("kubectl --context east -n shop label service web mesh.dev/exported=true")?;
    stage.until("the path is whole again", PATIENCE, explain, |_| true)?;
    stage.run(explain)?;
    Ok(())
}

pub(super) fn wire(stage: &Stage) -> Result<()> {
    let capture = Capture::start()?;
    let text = stage.run(&format!(
        "{CLIENT} get http://web-east/{MARKER} --header x-marker:{MARKER} --count 5"
    ))?;
    ensure!(text.contains(MARKER), "the echo does not show the marker");
    let captured = capture.stop()?;
    stage.say(&format!(
        "captured between the clusters: {} packets, {} of them of the gateway's port; \
         the marker occurs {} times",
        captured.count("net 10.99.1.0/24 and net 10.99.2.0/24")?,
        captured.packets_of_port(4143)?,
        captured.occurrences(MARKER.as_bytes())?
    ));
    ensure!(
        captured.packets_of_port(4143)? > 0,
        "nothing crossed the WAN"
    );
    let others = "net 10.99.1.0/24 and net 10.99.2.0/24 and not tcp port 4143";
    ensure!(
        captured.count(others)? == 0,
        "something else crossed the WAN"
    );
    ensure!(
        captured.occurrences(MARKER.as_bytes())? == 0,
        "plaintext crossed the WAN"
    );
    Ok(())
}
