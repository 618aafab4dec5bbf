//! Rules about Kubernetes and our own programs.

use mesh_api::names;

use super::{
    report::Section,
    state::{Program, Read, State, Version},
};

/// Native sidecars are on by default from here on.
const MIN_MINOR: u32 = 29;

/// Kubernetes itself.
pub(super) fn kubernetes(version: &Version) -> Section {
    let mut section = Section::new("Kubernetes");
    if version.minor >= MIN_MINOR {
        section.good(format!("the API server answers, version {}", version.name));
    } else {
        section.bad(
            format!("version {} has no native sidecars", version.name),
            format!("use Kubernetes 1.{MIN_MINOR} or newer"),
        );
    }
    section
}

/// What `mesh install` brings.
pub(super) fn control_plane(state: &State) -> Section {
    let mut section = Section::new("Control plane");
    definitions(&mut section, &state.definitions);
    match &state.identity {
        Ok((cluster, trust_domain)) => {
            section.good(format!("cluster {cluster}, trust domain {trust_domain}"));
        }
        Err(error) => section.unreadable(error),
    }
    program(
        &mut section,
        state,
        (names::SYSTEM_NAMESPACE, names::CONTROL),
        &state.control,
    );
    section
}

fn definitions(section: &mut Section, definitions: &Read<Vec<String>>) {
    let wanted = ["links.mesh.dev", "trafficsplits.split.smi-spec.io"];
    match definitions {
        Err(error) => section.unreadable(error),
        Ok(found) => {
            let missing: Vec<_> = wanted
                .into_iter()
                .filter(|name| !found.iter().any(|found| found == name))
                .collect();
            if missing.is_empty() {
                section.good("the custom resources are defined");
            } else {
                section.bad(
                    format!("not defined: {}", missing.join(", ")),
                    "run `mesh install --cluster NAME | kubectl apply -f -`",
                );
            }
        }
    }
}

/// What `mesh multicluster install` brings, if it was run.
pub(super) fn multicluster(state: &State) -> Option<Section> {
    if matches!((&state.gateway, &state.mirror), (Ok(None), Ok(None))) {
        return None;
    }
    let mut section = Section::new("Gateway and mirror");
    for (name, found) in [
        (names::GATEWAY, &state.gateway),
        (names::MIRROR, &state.mirror),
    ] {
        let place = (names::MULTICLUSTER_NAMESPACE, name);
        program(&mut section, state, place, found);
    }
    Some(section)
}

fn program(
    section: &mut Section,
    state: &State,
    (namespace, name): (&str, &str),
    found: &Read<Option<Program>>,
) {
    let kubectl = format!("kubectl --context {} -n {namespace}", state.context);
    match found {
        Err(error) => section.unreadable(error),
        Ok(None) => section.bad(
            format!("{name} is not installed"),
            match namespace {
                names::MULTICLUSTER_NAMESPACE => {
                    "run `mesh multicluster install | kubectl apply -f -`"
                }
                _ => "run `mesh install --cluster NAME | kubectl apply -f -`",
            },
        ),
        Ok(Some(program)) if program.ready >= program.wanted && program.wanted > 0 => {
            section.good(format!(
                "{name} is ready ({} of {}), {}",
                program.ready, program.wanted, program.image
            ));
        }
        Ok(Some(program)) => section.bad(
            format!("{name}: {} of {} ready", program.ready, program.wanted),
            format!("see `{kubectl} describe pods` and `{kubectl} logs deploy/{name}`"),
        ),
    }
}
