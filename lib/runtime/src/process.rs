//! Metrics about the process itself, read from /proc when they are asked for.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};

/// A registry that holds `mesh_build_info` and the usual `process_*` metrics.
#[must_use]
pub fn registry(program: &'static str, version: &'static str) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![("program", program), ("version", version)]);
    registry.register("mesh_build", "Which program this is", build);
    registry.register_collector(Box::new(Process));
    registry
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = read("stat").as_deref().and_then(cpu_seconds) {
            let help = "CPU time spent, user and system";
            counter(&mut encoder, "process_cpu_seconds", help, seconds)?;
        }
        if let Some(seconds) = start_time() {
            let help = "Start of the process, seconds since 1970";
            gauge(&mut encoder, "process_start_time_seconds", help, seconds)?;
        }
        if let Some(status) = read("status") {
            if let Some(kib) = field(&status, "VmRSS:") {
                let help = "Resident memory";
                let bytes = kib * 1024;
                gauge(&mut encoder, "process_resident_memory_bytes", help, bytes)?;
            }
            if let Some(threads) = field(&status, "Threads:") {
                gauge(&mut encoder, "process_threads", "Threads", threads)?;
            }
        }
        if let Some(open) = open_files() {
            gauge(
                &mut encoder,
                "process_open_fds",
                "Open file descriptors",
                open,
            )?;
        }
        if let Some(max) = read("limits").as_deref().and_then(max_open_files) {
            let help = "File descriptors allowed";
            gauge(&mut encoder, "process_max_fds", help, max)?;
        }
        Ok(())
    }
}

fn counter(e: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(e.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(e: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(e.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{file}")).ok()
}

/// utime and stime of /proc/pid/stat (proc_pid_stat(5)), fields 14 and 15. The
/// second field is the program's name and may hold blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = after_name(stat)?.skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

fn start_time() -> Option<i64> {
    let stat = read("stat")?;
    let ticks: f64 = after_name(&stat)?.nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted = field(&system, "btime")?;
    Some(booted + (ticks / TICKS_PER_SECOND) as i64)
}

/// The fields of /proc/pid/stat from the third on.
fn after_name(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn field(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<i64> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the listing's own.
    i64::try_from(listed).ok().map(|n| n - 1)
}

fn max_open_files(limits: &str) -> Option<i64> {
    field(limits, "Max open files")
}

/// USER_HZ, which is 100 on every architecture that Linux has kept.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_program_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (cut"), None);
    }

    #[test]
    fn a_registry_reports_the_process() {
        let mut text = String::new();
        let registry = registry("mesh-test", "1.2.3");
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for wanted in [
            "mesh_build_info{program=\"mesh-test\",version=\"1.2.3\"} 1",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
            "process_open_fds ",
            "process_max_fds ",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    }
}
