//! Rules about the meshed pods.

use std::collections::BTreeSet;

use mesh_api::names;

use super::{
    report::Section,
    state::{MAX_PODS, MeshedPod, READY_PORT, State},
};

/// How many names a line shows.
const SHOWN: usize = 5;

/// The pods with a sidecar, and what they need.
pub(super) fn section(state: &State) -> Section {
    let mut section = Section::new("Meshed pods");
    match &state.pods {
        Err(error) => section.unreadable(error),
        Ok(pods) if pods.is_empty() => section.warn(
            "there are none",
            "run `mesh inject FILE | kubectl apply -f -` on the manifest of a workload",
        ),
        Ok(pods) => {
            ready(&mut section, state, pods);
            images(&mut section, state, pods);
            if pods.len() >= MAX_PODS as usize {
                section.warn(
                    format!("only {MAX_PODS} pods were looked at"),
                    "there may be more",
                );
            }
        }
    }
    roots(&mut section, state);
    section
}

fn ready(section: &mut Section, state: &State, pods: &[MeshedPod]) {
    let waiting: Vec<String> = pods
        .iter()
        .filter(|pod| !pod.ready)
        .map(full_name)
        .collect();
    if waiting.is_empty() {
        section.good(format!("{} ready", pods.len()));
    } else {
        section.bad(
            format!(
                "the sidecar is not ready in {} of {}: {}",
                waiting.len(),
                pods.len(),
                some_of(&waiting)
            ),
            format!(
                "see `kubectl --context {} -n NAMESPACE logs POD -c {}`; port {READY_PORT} of the \
                 pod has /ready and /metrics",
                state.context,
                names::PROXY_CONTAINER
            ),
        );
    }
}

fn images(section: &mut Section, state: &State, pods: &[MeshedPod]) {
    let Ok(Some(control)) = &state.control else {
        return;
    };
    let version = tag(&control.image);
    let others: Vec<String> = pods
        .iter()
        .filter(|pod| tag(&pod.image) != version)
        .map(full_name)
        .collect();
    if others.is_empty() {
        section.good(format!("all have the control plane's version, {version}"));
    } else {
        section.warn(
            format!(
                "{} have another version than the control plane, {version}: {}",
                others.len(),
                some_of(&others)
            ),
            format!("inject their manifests again with --image-tag {version}"),
        );
    }
}

fn roots(section: &mut Section, state: &State) {
    let roots = match &state.roots {
        Ok(roots) => roots,
        Err(error) => return section.unreadable(error),
    };
    let Some(local) = roots.get(names::SYSTEM_NAMESPACE) else {
        return section.bad(
            "the roots are not published",
            "see the log of mesh-control: it publishes them as ConfigMap mesh-roots",
        );
    };
    let meshed: BTreeSet<&str> = state
        .pods
        .iter()
        .flatten()
        .map(|pod| pod.namespace.as_str())
        .collect();
    let wrong: Vec<String> = meshed
        .iter()
        .filter(|namespace| roots.get(**namespace) != Some(local))
        .map(ToString::to_string)
        .collect();
    if wrong.is_empty() {
        section.good("the roots are in every meshed namespace");
    } else {
        section.bad(
            format!("the roots are missing or old in: {}", some_of(&wrong)),
            "see the log of mesh-control: it keeps ConfigMap mesh-roots there",
        );
    }
}

fn full_name(pod: &MeshedPod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

fn some_of(names: &[String]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The part of an image's name that says its version.
fn tag(image: &str) -> &str {
    let file = image.rsplit('/').next().unwrap_or(image);
    file.split_once(':').map_or("latest", |(_, tag)| tag)
}
