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

/// By the order of [`Limit::ALL`].
static SETTINGS: [Setting; Limit::ALL.len()] = [
    Setting {
        flag: "limit-header-bytes",
        variable: "MESH_LIMIT_HEADER_BYTES",
        unit: Unit::Bytes,
        range: (KI, MI),
        sidecar: Some(64 * KI),
        gateway: Some(4 * KI),
        help: "All fields of a head together",
    },
    Setting {
        flag: "limit-header-lines",
        variable: "MESH_LIMIT_HEADER_LINES",
        unit: Unit::Count,
        range: (8, 128),
        sidecar: Some(100),
        gateway: Some(100),
        help: "Lines of fields in a head",
    },
    Setting {
        flag: "limit-target-bytes",
        variable: "MESH_LIMIT_TARGET_BYTES",
        unit: Unit::Bytes,
        range: (64, MI),
        sidecar: Some(64 * KI),
        gateway: None,
        help: "A request's target (URI)",
    },
    Setting {
        flag: "limit-streams",
        variable: "MESH_LIMIT_STREAMS",
        unit: Unit::Count,
        range: (1, 100_000),
        sidecar: Some(2000),
        gateway: Some(1000),
        help: "Streams of one HTTP/2 connection at one time",
    },
    Setting {
        flag: "limit-connections",
        variable: "MESH_LIMIT_CONNECTIONS",
        unit: Unit::Count,
        range: (1, 1_000_000),
        sidecar: Some(20_000),
        gateway: Some(20_000),
        help: "Connections at one time, in each direction",
    },
    Setting {
        flag: "limit-connections-per-peer",
        variable: "MESH_LIMIT_CONNECTIONS_PER_PEER",
        unit: Unit::Count,
        range: (1, 1_000_000),
        sidecar: Some(10_000),
        gateway: Some(10_000),
        help: "Inbound connections of one identity, or of one address that shows none",
    },
    Setting {
        flag: "limit-handshakes",
        variable: "MESH_LIMIT_HANDSHAKES",
        unit: Unit::Count,
        range: (1, 1_000_000),
        sidecar: None,
        gateway: Some(2048),
        help: "Connections that have not shown an identity yet",
    },
    Setting {
        flag: "limit-handshakes-per-address",
        variable: "MESH_LIMIT_HANDSHAKES_PER_ADDRESS",
        unit: Unit::Count,
        range: (1, 1_000_000),
        sidecar: None,
        gateway: Some(256),
        help: "The same from one address",
    },
    Setting {
        flag: "limit-tunnels",
        variable: "MESH_LIMIT_TUNNELS",
        unit: Unit::Count,
        range: (1, 1_000_000),
        sidecar: None,
        gateway: Some(20_000),
        help: "Tunnels at one time",
    },
    Setting {
        flag: "limit-stream-bytes",
        variable: "MESH_LIMIT_STREAM_BYTES",
        unit: Unit::Bytes,
        range: (64 * KI, GI),
        sidecar: Some(16 * MI),
        gateway: Some(16 * MI),
        help: "Bytes under way on one stream: its window grows up to this",
    },
    Setting {
        flag: "limit-connection-bytes",
        variable: "MESH_LIMIT_CONNECTION_BYTES",
        unit: Unit::Bytes,
        range: (64 * KI, GI),
        sidecar: Some(32 * MI),
        gateway: Some(24 * MI),
        help: "Bytes of one connection's streams that wait for slow readers",
    },
    Setting {
        flag: "limit-process-bytes",
        variable: "MESH_LIMIT_PROCESS_BYTES",
        unit: Unit::Bytes,
        range: (0, 1024 * GI),
        sidecar: Some(64 * MI),
        gateway: Some(64 * MI),
        help: "What all streams' windows together have beyond their first 64 KiB",
    },
    Setting {
        flag: "limit-header-time",
        variable: "MESH_LIMIT_HEADER_TIME",
        unit: Unit::Time,
        range: (100, 10 * MINUTE),
        sidecar: Some(10 * SECOND),
        gateway: Some(10 * SECOND),
        help: "From a head's first byte to its last",
    },
    Setting {
        flag: "limit-body-time",
        variable: "MESH_LIMIT_BODY_TIME",
        unit: Unit::Time,
        range: (100, HOUR),
        sidecar: Some(MINUTE),
        gateway: None,
        help: "Between bytes of a request's body",
    },
    Setting {
        flag: "limit-idle-time",
        variable: "MESH_LIMIT_IDLE_TIME",
        unit: Unit::Time,
        range: (SECOND, 24 * HOUR),
        sidecar: Some(15 * MINUTE),
        gateway: None,
        help: "A client's connection without any message",
    },
    Setting {
        flag: "limit-server-idle-time",
        variable: "MESH_LIMIT_SERVER_IDLE_TIME",
        unit: Unit::Time,
        range: (100, HOUR),
        sidecar: Some(4 * SECOND),
        gateway: None,
        help: "A connection to a server that nobody uses",
    },
    Setting {
        flag: "limit-write-time",
        variable: "MESH_LIMIT_WRITE_TIME",
        unit: Unit::Time,
        range: (100, HOUR),
        sidecar: Some(MINUTE),
        gateway: Some(MINUTE),
        help: "Without the peer taking a byte of what waits for it",
    },
    Setting {
        flag: "limit-handshake-time",
        variable: "MESH_LIMIT_HANDSHAKE_TIME",
        unit: Unit::Time,
        range: (100, 10 * SECOND),
        sidecar: Some(5 * SECOND),
        gateway: Some(5 * SECOND),
        help: "A peer's TLS handshake",
    },
    Setting {
        flag: "limit-settings-time",
        variable: "MESH_LIMIT_SETTINGS_TIME",
        unit: Unit::Time,
        range: (100, MINUTE),
        sidecar: Some(10 * SECOND),
        gateway: Some(10 * SECOND),
        help: "Until a peer acknowledges HTTP/2's settings",
    },
    Setting {
        flag: "limit-detect-time",
        variable: "MESH_LIMIT_DETECT_TIME",
        unit: Unit::Time,
        range: (10, MINUTE),
        sidecar: Some(10 * SECOND),
        gateway: None,
        help: "Until a connection's first bytes have shown what it speaks",
    },
];

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
