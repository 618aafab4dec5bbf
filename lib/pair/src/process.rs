//! Programs that run beside us: started in a namespace, and what they use.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};

use crate::{namespace::Namespace, wait};

/// Lines of a program's log that are shown when it fails.
const SHOWN: usize = 15;

/// A running program; it ends when it is dropped.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A program that also ends when whoever has started it is killed.
#[must_use]
pub fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Program {
    /// Starts `command` in `namespace`, on `cores`, or on any if none are named.
    /// What it says goes to `log`, whose name is the program's.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(
        namespace: &Namespace,
        cores: &[usize],
        mut command: Command,
        log: &Path,
    ) -> Result<Self> {
        let name = log.file_stem().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let said = File::create(log).with_context(|| log.display().to_string())?;
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            // Ctrl-C is for us; we end it.
            .process_group(0);
        let spawned = namespace.start(cores, command);
        Ok(Self {
            child: spawned.with_context(|| format!("{name} does not start"))?,
            name,
            log: log.to_owned(),
        })
    }

    /// Fails, with the end of what it said, if it has ended.
    ///
    /// # Errors
    /// Then.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended, {status}:\n{}", self.name, self.last_words()),
        }
    }

    /// Asks it to end, by a signal that it knows.
    ///
    /// # Errors
    /// If it does not within `deadline`.
    pub fn stop(&mut self, signal: Signal, deadline: Duration) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        let what = format!("the end of {}", self.name);
        wait::until(&what, deadline, || Ok(self.child.try_wait()?.is_some())).map(drop)
    }

    /// The end of what it said.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// The process and those that it has started.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = pids.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            pids.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
            next += 1;
        }
        pids
    }

    /// What it holds in memory now, in bytes, shared pages included.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resident(&self) -> Result<u64> {
        let mut bytes = 0;
        for pid in self.pids() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("{} is gone", self.name))?;
            bytes += parse_resident(&status).context("no resident size in status")?;
        }
        Ok(bytes)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for pid in self.pids() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// The processor time, user and system, that these processes have had.
///
/// # Errors
/// If one of them is gone: then there is nothing to be measured.
pub fn cpu_time(pids: &[u32]) -> Result<Duration> {
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel's clock has no rate")?;
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} has ended"))?;
        ticks += parse_ticks(&stat).context("no times in stat")?;
    }
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// User and system time of a line of `/proc/PID/stat`, in ticks. The name of the
/// program may hold anything.
fn parse_ticks(stat: &str) -> Option<u64> {
    const USER: usize = 11;
    const SYSTEM: usize = 12;
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(number(USER)? + number(SYSTEM)?)
}

/// `VmRSS` of `/proc/PID/status`, in bytes.
fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_whatever_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 1 0 99 1 1";
        assert_eq!(parse_ticks(stat), Some(300));
        assert_eq!(parse_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn the_resident_size_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t   9 kB\nVmRSS:\t   2048 kB\n";
        assert_eq!(parse_resident(status), Some(2 << 20));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }

    #[test]
    fn our_own_time_goes_up() {
        let me = [std::process::id()];
        let before = cpu_time(&me).unwrap();
        let mut sum = 0_u64;
        while cpu_time(&me).unwrap() == before {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(cpu_time(&me).unwrap() > before, "{sum}");
    }
}
