//! The two clusters that all tests share.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh_lab::{cluster::Cluster, lab::Lab, paths::Paths};

use crate::evidence;

/// How long a pod, an address or a name may take to appear.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Set: clusters that are up are used as they are.
const REUSE: &str = "MESH_LAB_REUSE";

/// The lab of this run.
pub(crate) struct Shared {
    pub(crate) lab: Lab,
}

impl Shared {
    pub(crate) fn cluster(&self, name: &str) -> &Cluster {
        self.lab.cluster(name).expect("the cluster is up")
    }
}

enum State {
    Untouched,
    Up(Arc<Shared>),
    Failed(String),
    Released,
}

static STATE: Mutex<State> = Mutex::new(State::Untouched);

/// The clusters; the first test that asks starts them.
pub(crate) fn shared() -> Arc<Shared> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, State::Untouched) {
        evidence::keep_of_failures();
        *state = match start() {
            Ok(shared) => State::Up(Arc::new(shared)),
            Err(said) => State::Failed(said),
        };
    }
    match &*state {
        State::Up(shared) => Arc::clone(shared),
        State::Failed(said) => panic!("the clusters did not start: {said}"),
        State::Untouched | State::Released => panic!("the clusters were given up"),
    }
}

/// Ends this run's claim to the lab, so that `lab` commands may change it.
pub(crate) fn release() {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    *state = State::Released;
}

/// What takes long once, and is no part of a start, comes first.
fn start() -> Result<Shared, String> {
    if std::env::var_os(REUSE).is_some() && evidence::are_up(&["west", "east"]) {
        return reuse();
    }
    for arguments in [&["down"][..], &["binaries"], &["images"]] {
        lab_command(arguments)?;
    }
    lab_command(&["up", "west", "east"])?;
    attach()
}

/// The clusters that are up, with the programs as they are built now.
fn reuse() -> Result<Shared, String> {
    lab_command(&["images"])?;
    attach()
}

fn attach() -> Result<Shared, String> {
    let lab = Lab::attach(&Paths::from_env()).map_err(|error| format!("{error:#}"))?;
    Ok(Shared { lab })
}

/// Runs the `lab` command to its end; the error is what it said.
pub(crate) fn lab_command(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// The application, to run outside of pods.
pub(crate) fn testapp() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("testapp")
}

/// Waits until `holds`.
pub(crate) fn eventually(what: &str, cluster: &Cluster, holds: impl FnMut() -> bool) -> Duration {
    cluster
        .wait_for(what, PATIENCE, holds)
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// Waits until `holds`, as long as a link may be left alone that was lost often.
pub(crate) fn patiently(what: &str, cluster: &Cluster, holds: impl FnMut() -> bool) -> Duration {
    cluster
        .wait_for(what, PATIENCE * 2, holds)
        .unwrap_or_else(|error| panic!("{error:#}"))
}
