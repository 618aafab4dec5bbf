//! A program whose clock is off. Its setting is read at the start, so that the
//! pods are replaced, and once more at the end.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Fault;
use crate::cluster::Cluster;

/// What programs of the mesh read.
const VARIABLE: &str = "MESH_CLOCK_OFFSET";
/// How long pods may take until they are replaced.
const REPLACED: Duration = Duration::from_secs(90);
/// The containers of a pod; a native sidecar is an init container.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// A program of the mesh: a container of a Deployment's pods.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// The Deployment's namespace.
    pub namespace: &'a str,
    /// The Deployment's name.
    pub deployment: &'a str,
    /// The container's name.
    pub container: &'a str,
}

impl fmt::Display for Program<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            deployment,
            container,
        } = self;
        write!(f, "{namespace}/{deployment}/{container}")
    }
}

/// The program's clock is so many seconds ahead of the machine's in every pod
/// of its Deployment, or behind it, if negative. All pods are replaced at one
/// time: one that does not become ready by such a clock would else be the only
/// one. Returns when the program runs so in all of them, ready or not.
///
/// # Errors
/// If there is no such Deployment or container, or its pods are not replaced in
/// time.
pub fn set_clock(cluster: &Cluster, program: Program<'_>, seconds: i32) -> Result<Fault> {
    let deployment = read(cluster, program, &["deployment", program.deployment])?;
    let before = Before::of(&deployment, program.container)
        .with_context(|| format!("{}: there is no {program}", cluster.name()))?;
    let there = before.patch(program.container, seconds);
    let what = format!(
        "{}: the clock of {program} is off by {seconds} s",
        cluster.name()
    );
    let fault = Fault::new(what, end(cluster, program, &before));
    change(cluster, program, &there)?;
    cluster.wait_for(fault.what(), REPLACED, || {
        read(cluster, program, &["pods", "-l", &before.selector])
            .is_ok_and(|pods| before.all_run(&pods, program.container, seconds))
    })?;
    Ok(fault)
}

/// Makes the Deployment what it was, and waits for its pods.
fn end(
    cluster: &Cluster,
    program: Program<'_>,
    before: &Before,
) -> impl FnOnce() -> Result<()> + Send + use<> {
    let back = before.patch_back(program.container);
    let cluster = cluster.clone();
    let (namespace, name) = (program.namespace.to_owned(), program.deployment.to_owned());
    let container = program.container.to_owned();
    move || {
        let program = Program {
            namespace: &namespace,
            deployment: &name,
            container: &container,
        };
        change(&cluster, program, &back)?;
        let deployment = format!("deploy/{name}");
        let status = ["-n", &namespace, "rollout", "status", &deployment];
        let timeout = format!("--timeout={}s", REPLACED.as_secs());
        cluster.kubectl(&[&status[..], &[&timeout]].concat())?;
        Ok(())
    }
}

fn read(cluster: &Cluster, program: Program<'_>, what: &[&str]) -> Result<Value> {
    let get = ["-n", program.namespace, "get", "-o", "json"];
    let text = cluster.kubectl(&[&get[..], what].concat())?;
    Ok(serde_json::from_str(&text)?)
}

fn change(cluster: &Cluster, program: Program<'_>, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    let words = ["-n", program.namespace, "patch", "deployment"];
    cluster.kubectl(&[&words[..], &[program.deployment, "-p", &patch]].concat())?;
    Ok(())
}

/// What a Deployment was before the fault.
struct Before {
    /// Where the container is.
    list: &'static str,
    /// The variable, if it was set.
    variable: Option<Value>,
    strategy: Value,
    replicas: usize,
    /// Of its pods, as kubectl takes it.
    selector: String,
}

impl Before {
    /// None if the Deployment's pods have no such container.
    fn of(deployment: &Value, container: &str) -> Option<Self> {
        let spec = &deployment["spec"];
        let pod = &spec["template"]["spec"];
        let (list, found) = LISTS.into_iter().find_map(|list| {
            let found = named(&pod[list], container)?;
            Some((list, found))
        })?;
        let labels = spec["selector"]["matchLabels"].as_object()?;
        let labels = labels
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
        Some(Self {
            list,
            variable: named(&found["env"], VARIABLE).cloned(),
            strategy: spec["strategy"].clone(),
            replicas: spec["replicas"]
                .as_u64()
                .map_or(1, |count| usize::try_from(count).unwrap_or(usize::MAX)),
            selector: labels.collect::<Vec<_>>().join(","),
        })
    }

    fn patch(&self, container: &str, seconds: i32) -> Value {
        let variable = json!({"name": VARIABLE, "value": seconds.to_string()});
        self.patch_to(container, json!({"type": "Recreate"}), variable)
    }

    fn patch_back(&self, container: &str) -> Value {
        let gone = || json!({"name": VARIABLE, "$patch": "delete"});
        let variable = self.variable.clone().unwrap_or_else(gone);
        self.patch_to(container, self.strategy.clone(), variable)
    }

    /// A strategic merge patch.
    fn patch_to(&self, container: &str, mut strategy: Value, variable: Value) -> Value {
        strategy["$patch"] = "replace".into();
        json!({"spec": {
            "strategy": strategy,
            "template": {"spec": {self.list: [{"name": container, "env": [variable]}]}},
        }})
    }

    /// Whether every pod runs the container by a clock that is off so.
    fn all_run(&self, pods: &Value, container: &str, seconds: i32) -> bool {
        let pods = pods["items"].as_array();
        let pods = pods.map_or(&[][..], Vec::as_slice);
        let statuses = match self.list {
            "containers" => "containerStatuses",
            _ => "initContainerStatuses",
        };
        let value = &seconds.to_string();
        let runs = |pod: &Value| {
            let told = named(&pod["spec"][self.list], container)
                .and_then(|found| named(&found["env"], VARIABLE))
                .is_some_and(|variable| variable["value"] == *value);
            let status = named(&pod["status"][statuses], container);
            told && status.is_some_and(|status| status["state"]["running"].is_object())
        };
        pods.len() == self.replicas && pods.iter().all(runs)
    }
}

/// The entry of a list with this name.
fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|entry| entry["name"] == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(env: &Value) -> Value {
        json!({"spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {"spec": {
                "containers": [{"name": "web"}],
                "initContainers": [{"name": "mesh-proxy", "env": env}],
            }},
        }})
    }

    fn pod(value: &str, state: &str) -> Value {
        json!({
            "spec": {"initContainers": [{
                "name": "mesh-proxy",
                "env": [{"name": VARIABLE, "value": value}],
            }]},
            "status": {"initContainerStatuses": [{"name": "mesh-proxy", "state": {state: {}}}]},
        })
    }

    #[test]
    fn a_clock_is_set_in_the_container_that_is_named_and_set_back() {
        let before = Before::of(&deployment(&json!([])), "mesh-proxy").unwrap();
        assert_eq!(before.selector, "app=web");
        let patch = before.patch("mesh-proxy", -3600);
        let strategy = json!({"type": "Recreate", "$patch": "replace"});
        assert_eq!(patch["spec"]["strategy"], strategy);
        let container = &patch["spec"]["template"]["spec"]["initContainers"][0];
        assert_eq!(container["name"], "mesh-proxy");
        assert_eq!(
            container["env"],
            json!([{"name": VARIABLE, "value": "-3600"}])
        );

        let back = before.patch_back("mesh-proxy");
        assert_eq!(back["spec"]["strategy"]["type"], "RollingUpdate");
        let container = &back["spec"]["template"]["spec"]["initContainers"][0];
        assert_eq!(container["env"][0]["$patch"], "delete");

        let set = json!([{"name": VARIABLE, "value": "5"}]);
        let back = Before::of(&deployment(&set), "mesh-proxy").unwrap();
        let back = back.patch_back("mesh-proxy");
        let container = &back["spec"]["template"]["spec"]["initContainers"][0];
        assert_eq!(container["env"], set);
        assert!(Before::of(&deployment(&set), "mesh-poxy").is_none());
    }

    #[test]
    fn a_clock_is_off_when_every_pod_runs_by_it() {
        let before = Before::of(&deployment(&json!([])), "mesh-proxy").unwrap();
        let all = |pods: &[Value]| before.all_run(&json!({"items": pods}), "mesh-proxy", 90_000);
        assert!(all(&[pod("90000", "running"), pod("90000", "running")]));
        assert!(!all(&[pod("90000", "running")]));
        assert!(!all(&[pod("90000", "running"), pod("90000", "waiting")]));
        assert!(!all(&[pod("90000", "running"), pod("0", "running")]));
        assert!(!all(&[]));
    }
}
