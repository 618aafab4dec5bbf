//! A plain host on the WAN that is no cluster, behind a NAT of its own: it can
//! call out, and nobody can call in.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{self, ip},
    lab,
    network::{self, WAN},
    paths::Paths,
};

/// The host's network behind the NAT; every machine has the same.
const LAN: &str = "192.168.77";
/// Machines stand behind the last networks of the WAN.
const FIRST_SITE: u8 = 200;
const MOST: u8 = 50;

/// A machine that is up.
#[derive(Clone, Debug)]
pub struct Machine {
    name: String,
}

impl Machine {
    /// Starts a machine; one of this name that is up is taken as it is.
    ///
    /// # Errors
    /// If no lab is up, or the name is illegal or a cluster's.
    pub fn start(paths: &Paths, name: &str) -> Result<Self> {
        lab::check_name(name)?;
        let clusters = lab::running(paths)?;
        if clusters.is_empty() {
            bail!("no cluster is up: run `lab up west east`");
        }
        if clusters.iter().any(|cluster| cluster.name() == name) {
            bail!("{name} is a cluster");
        }
        let machine = Self {
            name: name.to_owned(),
        };
        let file = paths.state().join("machines");
        let known = fs::read_to_string(&file).unwrap_or_default();
        if known.lines().any(|line| line == name) {
            return Ok(machine);
        }
        let index = u8::try_from(known.lines().count()).unwrap_or(MOST);
        if index >= MOST {
            bail!("no more than {MOST} machines");
        }
        machine.connect(FIRST_SITE + index)?;
        fs::write(&file, format!("{known}{name}\n"))?;
        Ok(machine)
    }

    /// machine -- its NAT -- the WAN.
    fn connect(&self, site: u8) -> Result<()> {
        let (host, nat) = (self.namespace(), format!("{}-nat", self.namespace()));
        for namespace in [&host, &nat] {
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        link(&host, "eth0", &nat, "lan0")?;
        link(&nat, "wan0", WAN, &format!("nat{site}"))?;
        ip(&format!("-n {host} address add {LAN}.2/24 dev eth0"))?;
        ip(&format!("-n {nat} address add {LAN}.1/24 dev lan0"))?;
        ip(&format!("-n {nat} address add 10.99.{site}.2/24 dev wan0"))?;
        ip(&format!(
            "-n {WAN} address add 10.99.{site}.1/24 dev nat{site}"
        ))?;
        ip(&format!("-n {host} route add default via {LAN}.1"))?;
        ip(&format!("-n {nat} route add default via 10.99.{site}.1"))?;
        network::sysctl(&nat, "net.ipv4.ip_forward", "1")?;
        command::run_with_input("ip", &["netns", "exec", &nat, "nft", "-f", "-"], NAT)
            .context("the machine's NAT")?;
        Ok(())
    }

    /// Its network namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("mesh-{}", self.name)
    }

    /// A command that runs on the machine.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.namespace()))
            .arg(program);
        command
    }
}

const NAT: &str = "
table inet nat {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname \"wan0\" masquerade
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"lan0\" accept
    }
}
";

fn link(a: &str, end_a: &str, b: &str, end_b: &str) -> Result<()> {
    ip(&format!(
        "-n {a} link add {end_a} type veth peer name {end_b} netns {b}"
    ))?;
    ip(&format!("-n {a} link set {end_a} up"))?;
    ip(&format!("-n {b} link set {end_b} up"))?;
    Ok(())
}
