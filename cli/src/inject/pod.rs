//! Adds the sidecar to one pod.

use mesh_api::names;
use mesh_core::{
    authorization::{DefaultPolicy, InvalidDefaultPolicy},
    limits::{Limits, Program},
    ports,
};
use serde_json::{Map, Value, json};

use super::{Outcome, port_list::PortList};
use crate::{
    manifests::{
        images::Images,
        pod::{
            ADMIN_PORT, IDENTITY_VOLUME, ROOTS_VOLUME, container_port, downward_env,
            identity_mounts, identity_volumes, probe, resources, unprivileged,
        },
    },
    text::escaped,
};

/// Why a pod can have no sidecar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPod {
    /// A field has another type than Kubernetes gives it, or is missing.
    #[error("{field} is no {expected}")]
    Malformed {
        /// Its path in the pod.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// An annotation cannot be understood.
    #[error("annotation {name}: {reason}")]
    Annotation {
        /// Its name.
        name: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// Something of the pod's own has a name that the sidecar needs.
    #[error(
        "{what} is called {name}, as one of the sidecar's, but the pod is not labelled as meshed"
    )]
    NameTaken {
        /// `a container`, `a volume`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The application listens where the sidecar does.
    #[error("container {container} uses port {port}, which is the sidecar's")]
    PortTaken {
        /// Which container.
        container: String,
        /// Which port.
        port: u64,
    },
    /// The application's traffic could not be told from the sidecar's.
    #[error("{0} runs as user {uid}, which is the sidecar's", uid = names::PROXY_UID)]
    UserTaken(String),
}

/// Puts the sidecar into `pod`: an object with `metadata` and `spec`. One that
/// is there already is replaced, so that a second pass changes nothing.
///
/// # Errors
/// If the pod is malformed, or would not work with a sidecar.
pub(super) fn inject(pod: &mut Value, images: &Images) -> Result<Outcome, InvalidPod> {
    if let Some(reason) = left_alone(pod)? {
        return Ok(Outcome::LeftAlone(reason));
    }
    let before = pod.clone();
    let settings = Settings::of(pod)?;
    if is_meshed(pod) {
        remove_sidecar(pod)?;
    }
    check(pod)?;
    add_sidecar(pod, &settings, images)?;
    Ok(if *pod == before {
        Outcome::Unchanged
    } else {
        Outcome::Injected
    })
}

fn left_alone(pod: &Value) -> Result<Option<&'static str>, InvalidPod> {
    let spec = pod
        .get("spec")
        .and_then(Value::as_object)
        .ok_or_else(|| malformed("spec", "mapping"))?;
    match spec.get("hostNetwork") {
        None | Some(Value::Null | Value::Bool(false)) => {}
        Some(Value::Bool(true)) => return Ok(Some("it uses its node's network")),
        Some(_) => return Err(malformed("spec.hostNetwork", "boolean")),
    }
    if pod.pointer("/spec/os/name").and_then(Value::as_str) == Some("windows") {
        return Ok(Some("it runs on Windows"));
    }
    match annotation(pod, names::INJECT)? {
        None | Some("enabled") => Ok(None),
        Some("disabled") => Ok(Some("mesh.dev/inject is disabled")),
        Some(other) => Err(InvalidPod::Annotation {
            name: names::INJECT,
            reason: format!("{:?} is neither enabled nor disabled", escaped(other)),
        }),
    }
}

/// What the pod's annotations ask for.
struct Settings {
    /// Ports whose traffic does not pass the sidecar.
    skip_inbound: PortList,
    skip_outbound: PortList,
    /// Who is admitted while the control plane has not said anything.
    default_inbound_policy: Option<DefaultPolicy>,
    /// What the sidecar bears.
    limits: Limits,
}

impl Settings {
    fn of(pod: &Value) -> Result<Self, InvalidPod> {
        let ports = |name| {
            annotation(pod, name)?
                .unwrap_or_default()
                .parse::<PortList>()
                .map_err(|error| InvalidPod::Annotation {
                    name,
                    reason: error.to_string(),
                })
        };
        Ok(Self {
            skip_inbound: ports(names::SKIP_INBOUND_PORTS)?,
            skip_outbound: ports(names::SKIP_OUTBOUND_PORTS)?,
            default_inbound_policy: default_inbound_policy(pod)?,
            limits: limits(pod)?,
        })
    }
}

fn default_inbound_policy(pod: &Value) -> Result<Option<DefaultPolicy>, InvalidPod> {
    let name = names::DEFAULT_INBOUND_POLICY;
    annotation(pod, name)?
        .map(str::parse)
        .transpose()
        .map_err(|error: InvalidDefaultPolicy| InvalidPod::Annotation {
            name,
            reason: error.to_string(),
        })
}

fn limits(pod: &Value) -> Result<Limits, InvalidPod> {
    let name = names::LIMITS;
    let text = annotation(pod, name)?.unwrap_or_default();
    Limits::parse(Program::Sidecar, text).map_err(|error| InvalidPod::Annotation {
        name,
        reason: error.to_string(),
    })
}

fn annotation<'a>(pod: &'a Value, name: &'static str) -> Result<Option<&'a str>, InvalidPod> {
    match pod.pointer("/metadata/annotations") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(annotations)) => match annotations.get(name) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(_) => Err(InvalidPod::Annotation {
                name,
                reason: "its value is no text: put it in quotes".into(),
            }),
        },
        Some(_) => Err(malformed("metadata.annotations", "mapping")),
    }
}

fn is_meshed(pod: &Value) -> bool {
    pod.get("metadata")
        .and_then(|metadata| metadata.get("labels")?.get(names::MESHED)?.as_str())
        == Some("true")
}

const CONTAINERS: [&str; 2] = [names::REDIRECT_CONTAINER, names::PROXY_CONTAINER];
const VOLUMES: [&str; 2] = [ROOTS_VOLUME, IDENTITY_VOLUME];

fn remove_sidecar(pod: &mut Value) -> Result<(), InvalidPod> {
    let spec = entry(pod, "spec")?;
    list(spec, "initContainers", "spec.initContainers")?
        .retain(|container| !has_name(container, &CONTAINERS));
    list(spec, "volumes", "spec.volumes")?.retain(|volume| !has_name(volume, &VOLUMES));
    Ok(())
}

fn add_sidecar(pod: &mut Value, settings: &Settings, images: &Images) -> Result<(), InvalidPod> {
    let spec = entry(pod, "spec")?;
    let containers = [
        redirect_container(settings, images),
        proxy_container(settings, images),
    ];
    // In front of all others: what they send is redirected too, and needs the
    // sidecar to be up.
    list(spec, "initContainers", "spec.initContainers")?.splice(0..0, containers);
    list(spec, "volumes", "spec.volumes")?.extend(identity_volumes());
    let metadata = entry(pod, "metadata")?;
    let labels = metadata.entry("labels").or_insert(Value::Null);
    if labels.is_null() {
        *labels = json!({});
    }
    labels
        .as_object_mut()
        .ok_or_else(|| malformed("metadata.labels", "mapping"))?
        .insert(names::MESHED.into(), "true".into());
    Ok(())
}

fn redirect_container(settings: &Settings, images: &Images) -> Value {
    let env: Vec<Value> = [
        ("MESH_SKIP_INBOUND_PORTS", &settings.skip_inbound),
        ("MESH_SKIP_OUTBOUND_PORTS", &settings.skip_outbound),
    ]
    .into_iter()
    .filter(|(_, ports)| !ports.is_empty())
    .map(|(name, ports)| json!({"name": name, "value": ports.to_string()}))
    .collect();
    let mut container = json!({
        "name": names::REDIRECT_CONTAINER,
        "image": images.of(names::REDIRECT_CONTAINER),
        "imagePullPolicy": "IfNotPresent",
        "resources": resources("10m", "10Mi", "32Mi"),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    if !env.is_empty() {
        container["env"] = Value::Array(env);
    }
    container
}

fn proxy_container(settings: &Settings, images: &Images) -> Value {
    let mut env = downward_env();
    let policy = settings.default_inbound_policy;
    env.extend(
        policy
            .map(|policy| json!({"name": "MESH_DEFAULT_INBOUND_POLICY", "value": policy.as_str()})),
    );
    let changed = settings.limits.changed();
    env.extend(
        changed.map(|(limit, value)| json!({"name": limit.setting().variable, "value": value})),
    );
    json!({
        "name": names::PROXY_CONTAINER,
        "image": images.of(names::PROXY_CONTAINER),
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "env": env,
        "ports": [
            container_port(&(names::PROXY_CONTAINER, ports::INBOUND)),
            container_port(&(ADMIN_PORT, ports::ADMIN)),
        ],
        // The application starts when the sidecar has its certificate; while
        // mesh-control is away that waits, and a restart would not help.
        "startupProbe": probe("/ready", 1, 3600),
        "readinessProbe": probe("/ready", 2, 3),
        "resources": resources("20m", "32Mi", "256Mi"),
        "securityContext": unprivileged(),
        "volumeMounts": identity_mounts(),
    })
}

/// What a sidecar would break.
fn check(pod: &mut Value) -> Result<(), InvalidPod> {
    let pod_user = pod.pointer("/spec/securityContext/runAsUser").cloned();
    let spec = entry(pod, "spec")?;
    if list(spec, "containers", "spec.containers")?.is_empty() {
        return Err(malformed("spec.containers", "list of one or more"));
    }
    if is_proxy_user(pod_user.as_ref()) {
        return Err(InvalidPod::UserTaken("the pod".into()));
    }
    for field in ["initContainers", "containers"] {
        for container in list(spec, field, "spec.containers")?.iter() {
            check_container(container)?;
        }
    }
    let taken = list(spec, "volumes", "spec.volumes")?
        .iter()
        .find(|volume| has_name(volume, &VOLUMES));
    taken.map_or(Ok(()), |volume| {
        Err(InvalidPod::NameTaken {
            what: "a volume",
            name: name(volume).into(),
        })
    })
}

fn check_container(container: &Value) -> Result<(), InvalidPod> {
    if !container.is_object() {
        return Err(malformed("spec.containers[]", "mapping"));
    }
    if has_name(container, &CONTAINERS) {
        return Err(InvalidPod::NameTaken {
            what: "a container",
            name: name(container).into(),
        });
    }
    if is_proxy_user(container.pointer("/securityContext/runAsUser")) {
        return Err(InvalidPod::UserTaken(format!(
            "container {}",
            escaped(name(container))
        )));
    }
    let no_ports = Vec::new();
    let ports = container
        .get("ports")
        .and_then(Value::as_array)
        .unwrap_or(&no_ports);
    let taken = ports
        .iter()
        .filter_map(|port| port.get("containerPort")?.as_u64())
        .find(|port| u16::try_from(*port).is_ok_and(ports::is_proxy_port));
    taken.map_or(Ok(()), |port| {
        Err(InvalidPod::PortTaken {
            container: escaped(name(container)),
            port,
        })
    })
}

fn is_proxy_user(user: Option<&Value>) -> bool {
    user.and_then(Value::as_i64) == Some(names::PROXY_UID)
}

fn has_name(item: &Value, names: &[&str]) -> bool {
    names.contains(&name(item))
}

fn name(item: &Value) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The mapping `field` of `pod`, made if it is not there.
fn entry<'a>(
    pod: &'a mut Value,
    field: &'static str,
) -> Result<&'a mut Map<String, Value>, InvalidPod> {
    let value = pod
        .as_object_mut()
        .ok_or_else(|| malformed("the pod", "mapping"))?
        .entry(field)
        .or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .ok_or_else(|| malformed(field, "mapping"))
}

/// The list `field` of `spec`, made if it is not there.
fn list<'a>(
    spec: &'a mut Map<String, Value>,
    field: &'static str,
    path: &'static str,
) -> Result<&'a mut Vec<Value>, InvalidPod> {
    let value = spec.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or_else(|| malformed(path, "list"))
}

const fn malformed(field: &'static str, expected: &'static str) -> InvalidPod {
    InvalidPod::Malformed { field, expected }
}
