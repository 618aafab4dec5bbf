//! The table.

use super::Limit;

/// Who has limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `mesh-proxy`.
    Sidecar,
    /// `mesh-gateway`.
    Gateway,
}

/// What a limit's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Milliseconds.
    Time,
}

/// One line of the table.
#[derive(Debug)]
pub struct Setting {
    /// Command-line flag, without its dashes: `limit-` and the name.
    pub flag: &'static str,
    /// Environment variable.
    pub variable: &'static str,
    /// What the numbers count.
    pub unit: Unit,
    /// The smallest number that it may be set to, and the largest.
    pub range: (u64, u64),
    /// Unless it is set; none where the sidecar has no such limit.
    sidecar: Option<u64>,
    gateway: Option<u64>,
    /// What is bounded.
    pub help: &'static str,
}

const KI: u64 = 1024;
const MI: u64 = 1024 * KI;
const GI: u64 = 1024 * MI;
const MILLION: u64 = 1_000_000;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

impl Limit {
    /// What there is to say of it.
    #[must_use]
    pub const fn setting(self) -> &'static Setting {
        &SETTINGS[self as usize]
    }
}

impl Setting {
    /// The limit's name: `header-bytes`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.flag.strip_prefix("limit-").unwrap_or(self.flag)
    }

    /// The number that holds for a program unless it is set; none if it has no
    /// such limit.
    #[must_use]
    pub const fn default_of(&self, program: Program) -> Option<u64> {
        match program {
            Program::Sidecar => self.sidecar,
            Program::Gateway => self.gateway,
        }
    }
}

/// One line of the table: flag and variable, unit, range, the defaults of sidecar
/// and gateway (`-` where there is no such limit), and what is bounded.
macro_rules! settings {
    ($($flag:literal, $variable:literal, $unit:ident, $least:expr => $most:expr,
       sidecar $sidecar:tt, gateway $gateway:tt: $help:literal;)*) => {
        /// By the order of [`Limit::ALL`].
        static SETTINGS: [Setting; Limit::ALL.len()] = [$(Setting {
            flag: concat!("limit-", $flag),
            variable: concat!("MESH_LIMIT_", $variable),
            unit: Unit::$unit,
            range: ($least, $most),
            sidecar: default!($sidecar),
            gateway: default!($gateway),
            help: $help,
        }),*];
    };
}

macro_rules! default {
    (-) => {
        None
    };
    ($number:tt) => {
        Some($number)
    };
}

settings! {
    "header-bytes", "HEADER_BYTES", Bytes, KI => MI,
        sidecar (64 * KI), gateway (4 * KI):
        "All fields of a head together";
    "header-lines", "HEADER_LINES", Count, 8 => 128,
        sidecar 100, gateway 100:
        "Lines of fields in a head";
    "target-bytes", "TARGET_BYTES", Bytes, 64 => MI,
        sidecar (64 * KI), gateway -:
        "A request's target (URI)";
    "streams", "STREAMS", Count, 1 => 100_000,
        sidecar 2000, gateway 1000:
        "Streams of one HTTP/2 connection at one time";
    "connections", "CONNECTIONS", Count, 1 => MILLION,
        sidecar 20_000, gateway 20_000:
        "Connections at one time, in each direction";
    "connections-per-peer", "CONNECTIONS_PER_PEER", Count, 1 => MILLION,
        sidecar 10_000, gateway 10_000:
        "Inbound connections of one identity, or of one address that shows none";
    "handshakes", "HANDSHAKES", Count, 1 => MILLION,
        sidecar -, gateway 2048:
        "Connections that have not shown an identity yet";
    "handshakes-per-address", "HANDSHAKES_PER_ADDRESS", Count, 1 => MILLION,
        sidecar -, gateway 256:
        "The same from one address";
    "tunnels", "TUNNELS", Count, 1 => MILLION,
        sidecar -, gateway 20_000:
        "Tunnels at one time";
    "stream-bytes", "STREAM_BYTES", Bytes, 64 * KI => GI,
        sidecar (16 * MI), gateway (16 * MI):
        "Bytes under way on one stream: its window grows up to this";
    "connection-bytes", "CONNECTION_BYTES", Bytes, 64 * KI => GI,
        sidecar (32 * MI), gateway (24 * MI):
        "Bytes of one connection's streams that wait for slow readers";
    "process-bytes", "PROCESS_BYTES", Bytes, 0 => 1024 * GI,
        sidecar (64 * MI), gateway (64 * MI):
        "What all streams' windows together have beyond their first 64 KiB";
    "header-time", "HEADER_TIME", Time, 100 => 10 * MINUTE,
        sidecar (10 * SECOND), gateway (10 * SECOND):
        "From a head's first byte to its last";
    "body-time", "BODY_TIME", Time, 100 => HOUR,
        sidecar MINUTE, gateway -:
        "Between bytes of a request's body";
    "idle-time", "IDLE_TIME", Time, SECOND => 24 * HOUR,
        sidecar (15 * MINUTE), gateway -:
        "A client's connection without any message";
    "server-idle-time", "SERVER_IDLE_TIME", Time, 100 => HOUR,
        sidecar (4 * SECOND), gateway -:
        "A connection to a server that nobody uses";
    "write-time", "WRITE_TIME", Time, 100 => HOUR,
        sidecar MINUTE, gateway MINUTE:
        "Without the peer taking a byte of what waits for it";
    "handshake-time", "HANDSHAKE_TIME", Time, 100 => 10 * SECOND,
        sidecar (5 * SECOND), gateway (5 * SECOND):
        "A peer's TLS handshake";
    "settings-time", "SETTINGS_TIME", Time, 100 => MINUTE,
        sidecar (10 * SECOND), gateway (10 * SECOND):
        "Until a peer acknowledges HTTP/2's settings";
    "detect-time", "DETECT_TIME", Time, 10 => MINUTE,
        sidecar (10 * SECOND), gateway -:
        "Until a connection's first bytes have shown what it speaks";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_agrees_with_itself() {
        for limit in Limit::ALL {
            let setting = limit.setting();
            let variable = setting.flag.to_uppercase().replace('-', "_");
            assert_eq!(setting.variable, format!("MESH_{variable}"));
            assert_ne!(setting.name(), setting.flag);
            let defaults = [setting.sidecar, setting.gateway];
            assert!(defaults.iter().any(Option::is_some), "{limit}");
            let (least, most) = setting.range;
            for default in defaults.into_iter().flatten() {
                assert!((least..=most).contains(&default), "{limit}");
            }
        }
    }
}
