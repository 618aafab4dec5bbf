//! What the demo shows, step by step.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::show::Stage;
use crate::capture::Capture;

/// A step: shows something and checks it.
pub(super) type Step = fn(&Stage) -> Result<()>;

/// The steps in order.
pub(super) const ALL: [(&str, Step); 8] = [
    (
        "Two Kubernetes clusters, same pod and Service networks",
        clusters,
    ),
    ("A mesh in each, with a root of trust of its own", install),
    ("Gateway, mirror, and a link between the two", link),
    ("An unchanged application, with sidecars", applications),
    ("west calls east by name; east sees who calls", cross),
    ("What is not exported has no way in", not_exported),
    ("Fail-over by TrafficSplit, under load", fail_over),
    ("On the wire between the clusters: no plaintext byte", wire),
];

/// A value that travels with requests and must not be seen on the WAN.
const MARKER: &str = "plaintext-marker-7d1f";
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
    for (cluster, name) in [
        ("east", "web"),
        ("east", "vault"),
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

fn cross(stage: &Stage) -> Result<()> {
    // Pods learn the DNS rule of the link when CoreDNS has read it.
    for url in ["http://web-east", "http://web.east"] {
        stage.until(
            &format!("{url} answers"),
            PATIENCE,
            &format!("{CLIENT} get {url}"),
            |_| true,
        )?;
        let text = stage.run(&format!("{CLIENT} get {url}"))?;
        let answer = answer(&text)?;
        ensure!(
            answer["cluster"] == "east",
            "the answer comes from {}",
            answer["cluster"]
        );
        ensure!(
            header(&answer, "l5d-client-id").as_deref() == Some("spiffe://west/ns/shop/sa/client"),
            "east does not see the client's identity"
        );
    }
    Ok(())
}

fn not_exported(stage: &Stage) -> Result<()> {
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

fn fail_over(stage: &Stage) -> Result<()> {
    stage.run("kubectl --context west apply -f split-west.yaml")?;
    stage.until(
        "web is answered by east",
        PATIENCE,
        &format!("{CLIENT} get http://web"),
        |text| answered_by(text, "east"),
    )?;
    let load = stage.start(&format!(
        "{CLIENT} load http://web --rate 100 --duration 30s --json"
    ))?;
    stage.run("kubectl --context east -n shop scale deploy/web --replicas=0")?;
    stage.until(
        "web is answered by west",
        PATIENCE,
        &format!("{CLIENT} get http://web"),
        |text| answered_by(text, "west"),
    )?;
    stage.run("kubectl --context east -n shop scale deploy/web --replicas=2")?;
    stage.until(
        "web is answered by east again",
        PATIENCE,
        &format!("{CLIENT} get http://web"),
        |text| answered_by(text, "east"),
    )?;
    let output = load.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("   {}", text.trim());
    check_load(&text)
}

/// Every request was answered, some by either cluster.
fn check_load(text: &str) -> Result<()> {
    let line = text.lines().last().context("the load reports nothing")?;
    let report: Value = serde_json::from_str(line).context("the load's report")?;
    ensure!(
        report["failed"] == 0,
        "requests failed: {}",
        report["failures"]
    );
    for cluster in ["east", "west"] {
        let answers = report["clusters"][cluster].as_u64().unwrap_or_default();
        ensure!(answers > 0, "no request was answered by {cluster}");
    }
    Ok(())
}

fn wire(stage: &Stage) -> Result<()> {
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

/// The JSON object in what `testapp get` printed.
fn answer(text: &str) -> Result<Value> {
    text.lines()
        .filter_map(|line| line.find('{').map(|at| &line[at..]))
        .find_map(|json| serde_json::from_str(json).ok())
        .with_context(|| format!("no JSON in {text:?}"))
}

fn answered_by(text: &str, cluster: &str) -> bool {
    answer(text).is_ok_and(|answer| answer["cluster"] == cluster)
}

fn header(answer: &Value, name: &str) -> Option<String> {
    let headers = answer["headers"].as_array()?;
    headers.iter().find_map(|pair| {
        let (key, value) = (pair.get(0)?.as_str()?, pair.get(1)?.as_str()?);
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}
