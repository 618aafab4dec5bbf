//! The programs of a cluster: started in its node's namespace, logged, and
//! found again by a later run.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a program may take to end after SIGTERM, and then after SIGKILL.
/// Nothing is lost: what the lab stops, it removes.
const GRACE: Duration = Duration::from_millis(1500);
const KILLED: Duration = Duration::from_secs(10);

/// A cluster's folder, as far as programs are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    namespace: String,
}

impl Programs {
    pub(crate) fn new(folder: &Path, namespace: &str) -> Result<Self> {
        for sub in ["log", "pid"] {
            fs::create_dir_all(folder.join(sub))?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            namespace: namespace.to_owned(),
        })
    }

    /// Starts `program` in the node's network namespace under the name `name`.
    /// It outlives this process.
    pub(crate) fn start(&self, name: &str, program: &Path, arguments: &[String]) -> Result<()> {
        let log = File::create(self.log(name))?;
        let mut command = Command::new("nsenter");
        // Not `ip netns exec`: it mounts /sys anew and hides the cgroups.
        command
            .arg(format!("--net=/run/netns/{}", self.namespace))
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        fs::write(self.pid_file(name), child.id().to_string())?;
        Ok(())
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("log/{name}.log"))
    }

    /// Fails, with the end of the log, if the program has ended.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        let Some(pid) = self.pid(name) else {
            bail!("{name} was not started");
        };
        if is_alive(pid) {
            return Ok(());
        }
        let log = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n");
        bail!(
            "{name} has ended; the end of {}:\n{end}",
            self.log(name).display()
        )
    }

    /// The names of the programs that were started, and their process ids.
    pub(crate) fn all(&self) -> Vec<(String, Pid)> {
        let entries = fs::read_dir(self.folder.join("pid")).into_iter().flatten();
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        names
            .filter_map(|name| Some((name.clone(), self.pid(&name)?)))
            .collect()
    }

    pub(crate) fn pid(&self, name: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.pid_file(name)).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("pid/{name}"))
    }
}

/// Whether the process exists and is more than a zombie.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Asks all to end, waits, and kills those that do not.
pub(crate) fn stop(pids: &[Pid]) {
    for pid in pids {
        let _ = kill(*pid, Signal::SIGTERM);
    }
    if !wait_gone(pids, GRACE) {
        for pid in pids {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        wait_gone(pids, KILLED);
    }
}

/// Waits until none is left; says whether that was within `limit`.
pub(crate) fn wait_gone(pids: &[Pid], limit: Duration) -> bool {
    let start = Instant::now();
    while pids.iter().any(|pid| is_alive(*pid)) {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
