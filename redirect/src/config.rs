//! Flags and environment variables.

use std::{fmt, str::FromStr};

use mesh_core::ports;

/// The flags as typed in.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "mesh-redirect",
    version,
    about = "Redirects this pod's TCP traffic to its mesh-proxy"
)]
pub struct Args {
    /// Where outbound connections are redirected to
    #[arg(
        long,
        env = "MESH_OUTBOUND_PORT",
        value_name = "PORT",
        default_value = "4140"
    )]
    pub outbound_port: String,
    /// Where inbound connections are redirected to
    #[arg(
        long,
        env = "MESH_INBOUND_PORT",
        value_name = "PORT",
        default_value = "4143"
    )]
    pub inbound_port: String,
    /// The user whose connections are never redirected: the proxy's
    #[arg(
        long,
        env = "MESH_PROXY_UID",
        value_name = "UID",
        default_value = "2102"
    )]
    pub proxy_uid: String,
    /// Inbound ports that bypass the proxy, such as 8080,9000-9100
    #[arg(
        long,
        env = "MESH_SKIP_INBOUND_PORTS",
        value_name = "PORTS",
        default_value = ""
    )]
    pub skip_inbound_ports: String,
    /// Outbound ports that bypass the proxy
    #[arg(
        long,
        env = "MESH_SKIP_OUTBOUND_PORTS",
        value_name = "PORTS",
        default_value = ""
    )]
    pub skip_outbound_ports: String,
}

impl Args {
    /// The checked configuration.
    ///
    /// # Errors
    /// Names every value that is wrong.
    pub fn resolve(&self) -> Result<Config, WrongConfiguration> {
        let mut wrong = Vec::new();
        let outbound = check(&mut wrong, "--outbound-port", port(&self.outbound_port));
        let inbound = check(&mut wrong, "--inbound-port", port(&self.inbound_port));
        let proxy_uid = check(&mut wrong, "--proxy-uid", uid(&self.proxy_uid));
        let skip_inbound = check(
            &mut wrong,
            "--skip-inbound-ports",
            list(&self.skip_inbound_ports),
        );
        let skip_outbound = check(
            &mut wrong,
            "--skip-outbound-ports",
            list(&self.skip_outbound_ports),
        );
        if outbound.is_some() && outbound == inbound {
            wrong.push("--outbound-port and --inbound-port are the same port".into());
        }
        match (outbound, inbound, proxy_uid, skip_inbound, skip_outbound) {
            (
                Some(outbound_port),
                Some(inbound_port),
                Some(proxy_uid),
                Some(skip_inbound),
                Some(skip_outbound),
            ) if wrong.is_empty() => Ok(Config {
                outbound_port,
                inbound_port,
                proxy_uid,
                skip_inbound,
                skip_outbound,
            }),
            _ => Err(WrongConfiguration(wrong)),
        }
    }
}

/// What to redirect, and what not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where outbound connections go.
    pub outbound_port: u16,
    /// Where inbound connections go.
    pub inbound_port: u16,
    /// The proxy's user: what it sends is not redirected.
    pub proxy_uid: u32,
    /// Inbound ports that are left alone, beside the proxy's own.
    pub skip_inbound: Vec<PortRange>,
    /// Outbound ports that are left alone.
    pub skip_outbound: Vec<PortRange>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            outbound_port: ports::OUTBOUND,
            inbound_port: ports::INBOUND,
            proxy_uid: 2102,
            skip_inbound: Vec::new(),
            skip_outbound: Vec::new(),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "outbound TCP goes to {} except by user {}{}; inbound TCP goes to {}{}",
            self.outbound_port,
            self.proxy_uid,
            Skipped(&self.skip_outbound),
            self.inbound_port,
            Skipped(&self.skip_inbound),
        )
    }
}

/// Ports from the first to the last, both included; neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((first, last)) = text.split_once('-') else {
            return port(text).map(Self::from);
        };
        let (first, last) = (port(first.trim())?, port(last.trim())?);
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(format!("{text:?} ends before it starts"))
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Every value that is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is wrong: {}", .0.join("; "))]
pub struct WrongConfiguration(Vec<String>);

struct Skipped<'a>(&'a [PortRange]);

impl fmt::Display for Skipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ports) in self.0.iter().enumerate() {
            let before = if index == 0 {
                " and except to port "
            } else {
                ","
            };
            write!(f, "{before}{ports}")?;
        }
        Ok(())
    }
}

fn check<T>(wrong: &mut Vec<String>, flag: &str, value: Result<T, String>) -> Option<T> {
    value
        .map_err(|reason| wrong.push(format!("{flag}: {reason}")))
        .ok()
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("{text:?} is no port (1 to 65535)")),
    }
}

/// Not root: whatever runs as the proxy's user passes the proxy by, and too
/// much in a pod runs as root.
fn uid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(uid) if uid != 0 => Ok(uid),
        Ok(_) => Err("0 would let root's connections past the proxy".into()),
        Err(_) => Err(format!("{text:?} is no user id")),
    }
}

/// Comma separated ports and ranges; nothing between two commas is fine.
fn list(text: &str) -> Result<Vec<PortRange>, String> {
    let ranges = text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(str::parse)
        .collect::<Result<Vec<_>, _>>()?;
    if ranges.len() > MAX_RANGES {
        return Err(format!("more than {MAX_RANGES} entries"));
    }
    Ok(ranges)
}

/// Each is a rule that the kernel tries for each new connection.
const MAX_RANGES: usize = 128;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn resolve(flags: &[&str]) -> Result<Config, WrongConfiguration> {
        let program = std::iter::once(&"mesh-redirect");
        Args::try_parse_from(program.chain(flags))
            .unwrap()
            .resolve()
    }

    #[test]
    fn without_flags_the_ports_are_the_architectures() {
        assert_eq!(resolve(&[]), Ok(Config::default()));
    }

    #[test]
    fn skipped_ports_are_ports_and_ranges() {
        let config = resolve(&["--skip-outbound-ports", "25, 587,4000-4100,"]).unwrap();
        let ports: Vec<String> = config
            .skip_outbound
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ports, ["25", "587", "4000-4100"]);
    }

    #[test]
    fn the_configuration_reads_as_a_sentence() {
        let config = resolve(&["--skip-outbound-ports", "25,4000-4100"]).unwrap();
        assert_eq!(
            config.to_string(),
            "outbound TCP goes to 4140 except by user 2102 and except to port 25,4000-4100; \
             inbound TCP goes to 4143"
        );
    }

    #[test]
    fn c2_all_wrong_values_are_named_at_once() {
        let error = resolve(&[
            "--outbound-port=0",
            "--inbound-port=65536",
            "--proxy-uid=0",
            "--skip-inbound-ports=80,x",
            "--skip-outbound-ports=9-8",
        ])
        .unwrap_err()
        .to_string();
        for flag in [
            "--outbound-port",
            "--inbound-port",
            "--proxy-uid",
            "--skip-inbound-ports",
            "--skip-outbound-ports",
        ] {
            assert!(error.contains(flag), "{flag} in {error}");
        }
    }

    #[test]
    fn c2_hostile_lists_are_refused() {
        let long = "1,".repeat(MAX_RANGES + 1);
        for bad in [
            "0", "-1", "1-", "-", "1-2-3", "70000", "80;443", "80\n443x", &long,
        ] {
            assert!(list(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_port_cannot_serve_both_directions() {
        assert!(resolve(&["--outbound-port=4143"]).is_err());
    }
}
