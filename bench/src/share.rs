//! Threads that get a part of a core and no more, however much is to be done.

use std::{fs, io, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

/// Where the kernel's groups of version 1 are, by which it shares out cores.
/// Version 2 has the same in another place, and only for whole processes.
const GROUPS: &str = "/sys/fs/cgroup/cpu";
/// A group gets its part anew that often: seldom enough to work at a stretch,
/// and much more often than a load is long.
const PERIOD: Duration = Duration::from_millis(10);

/// A group of threads that have `part` of one core together, on whichever they
/// run. They are as free as all others again once it is dropped.
pub(crate) struct Share(PathBuf);

impl Share {
    /// # Errors
    /// Without root, or if the kernel has no such groups.
    pub(crate) fn new(name: &str, part: f64) -> Result<Self> {
        let folder = PathBuf::from(GROUPS).join(name);
        // A bench that was killed leaves its own, which is empty then.
        let _ = fs::remove_dir(&folder);
        let made = || -> io::Result<()> {
            fs::create_dir(&folder)?;
            let microseconds = |part: f64| PERIOD.mul_f64(part).as_micros().to_string();
            fs::write(folder.join("cpu.cfs_period_us"), microseconds(1.0))?;
            fs::write(folder.join("cpu.cfs_quota_us"), microseconds(part))
        };
        made().with_context(|| {
            let folder = folder.display();
            format!("{folder}: no group of version 1 that has a part of a core")
        })?;
        Ok(Self(folder))
    }

    /// # Errors
    /// If the thread has ended.
    pub(crate) fn add(&self, thread: u64) -> Result<()> {
        fs::write(self.0.join("tasks"), thread.to_string()).context("a worker has ended")
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let threads = fs::read_to_string(self.0.join("tasks")).unwrap_or_default();
        for thread in threads.lines() {
            // It may have ended by itself.
            let _ = fs::write(PathBuf::from(GROUPS).join("tasks"), thread);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_groups_of_version_1_it_is_said_what_is_missing() {
        let error = Share::new("no such folder/group", 0.3)
            .map(drop)
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("/sys/fs/cgroup/cpu/no such folder/group: no group of version 1"));
    }
}
