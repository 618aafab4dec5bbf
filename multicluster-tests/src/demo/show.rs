//! Running a command as a user would type it, showing it, and waiting.

use std::{
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::paths::{self, Paths};

/// How long one command may take.
const COMMAND: &str = "120";
/// How often a condition is looked at again.
const GLANCE: Duration = Duration::from_millis(200);

/// Where the demo plays: programs on the PATH, and the lab's kubeconfig.
pub(super) struct Stage {
    path: String,
    kubeconfig: PathBuf,
    manifests: PathBuf,
}

impl Stage {
    /// Finds the programs beside this one, where the build has put them, and
    /// the lab's kubectl.
    pub(super) fn prepare() -> Result<Self> {
        let programs = std::env::current_exe()?
            .parent()
            .context("a program has a folder")?
            .to_path_buf();
        let paths = Paths::from_env();
        let (lab, old) = (
            paths.kubernetes(),
            std::env::var("PATH").unwrap_or_default(),
        );
        Ok(Self {
            path: format!("{}:{}:{old}", programs.display(), lab.display()),
            kubeconfig: paths.kubeconfig(),
            manifests: paths::sources().join("manifests"),
        })
    }

    pub(super) fn kubeconfig(&self) -> String {
        self.kubeconfig.display().to_string()
    }

    /// How to find the lab's kubectl, where there is no other.
    pub(super) fn path_hint(&self) -> String {
        let users = std::env::var("PATH").unwrap_or_default();
        let there = |folder: &str| Path::new(folder).join("kubectl").exists();
        if users.split(':').any(there) {
            return String::new();
        }
        let lab = Paths::from_env().kubernetes();
        format!("   export PATH=$PATH:{}\n", lab.display())
    }

    pub(super) fn title(&self, text: &str) {
        println!("\n\x1b[1m== {text}\x1b[0m");
    }

    pub(super) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// Runs `line` in a shell, shows it and what it printed, and returns its
    /// standard output. Fails if it fails.
    pub(super) fn run(&self, line: &str) -> Result<String> {
        let output = self.try_run(line)?;
        if !output.status.success() {
            bail!("`{line}` failed: {}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`run`](Self::run), for a command that has to fail; returns all it printed.
    pub(super) fn run_refused(&self, line: &str) -> Result<String> {
        let output = self.try_run(line)?;
        if output.status.success() {
            bail!("`{line}` succeeded, and must not");
        }
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(text)
    }

    /// Shows what is printed line by line, as it comes.
    fn try_run(&self, line: &str) -> Result<Output> {
        println!(" \x1b[36m$ {line}\x1b[0m");
        let mut child = self
            .command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("a shell starts")?;
        let errors = child.stderr.take().context("a pipe")?;
        let errors = thread::spawn(move || shown(errors));
        let stdout = shown(child.stdout.take().context("a pipe")?);
        let stderr = errors.join().unwrap_or_default();
        Ok(Output {
            status: child.wait()?,
            stdout,
            stderr,
        })
    }

    /// Runs `line` in a shell and shows nothing.
    pub(super) fn quiet(&self, line: &str) -> Result<Output> {
        self.command(line).output().context("a shell starts")
    }

    /// Starts `line`; the caller waits for it.
    pub(super) fn start(&self, line: &str) -> Result<std::process::Child> {
        println!(" \x1b[36m$ {line} &\x1b[0m");
        self.command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("a shell starts")
    }

    /// Looks at the output of `line` until `holds` likes it; fails, with the
    /// last output, after `deadline`.
    pub(super) fn until(
        &self,
        what: &str,
        deadline: Duration,
        line: &str,
        holds: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let start = Instant::now();
        loop {
            let output = self.quiet(line)?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && holds(&text) {
                self.say(&format!(
                    "{what}: after {:.1} s",
                    start.elapsed().as_secs_f64()
                ));
                return Ok(text);
            }
            if start.elapsed() > deadline {
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                bail!("{what}: not within {deadline:?}; `{line}` said {text}{error}");
            }
            thread::sleep(GLANCE);
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("timeout");
        command
            .args([COMMAND, "bash", "-o", "pipefail", "-c", line])
            .current_dir(&self.manifests)
            .env("PATH", &self.path)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null());
        command
    }
}

/// Shows every line of `from`, and returns all of them.
fn shown(from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        println!("   {}", String::from_utf8_lossy(&line));
        all.extend_from_slice(&line);
        all.push(b'\n');
    }
    all
}
