//! A pair that runs, and what is done beside it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::PoisonError,
    time::Duration,
};

use anyhow::{Context as _, Result};
use mesh_core::ports;
use mesh_tls::Tls;

use crate::{
    control::{ControlPlane, GATEWAY_PORT, Port, Root, Script, new_root, root_of},
    identity::{CLIENT, FAR_TRUST_DOMAIN},
    namespace::{Side, Site},
    process::Program,
    sidecar::{GATEWAY_ADMIN, Placed, Sidecars},
    wait,
};

/// How long a pair may take until it is ready.
const START: Duration = Duration::from_secs(20);
/// How long the admin port may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Starts one more program.
type Start<'a> = &'a dyn Fn(&Site) -> Result<Program>;

/// Two sidecars with all that they need. Fields are dropped in order: programs
/// first.
pub struct Pair {
    a: Program,
    b: Program,
    gateway: Option<Program>,
    _control: [ControlPlane; 2],
    site: Site,
    /// Of the client.
    root: Root,
}

impl Pair {
    /// Starts one in namespaces whose names begin with `name`, and returns once
    /// both sidecars are ready. Connections of A's namespace to the ports `past_a`
    /// (a list as `mesh-redirect` takes it) go to B without A.
    ///
    /// # Errors
    /// If something does not start. It needs root.
    pub fn start(name: &str, sidecars: &Sidecars, ports: &[Port], past_a: &str) -> Result<Self> {
        let (site, root) = (Site::new(name)?, new_root());
        sidecars.redirect(&site.a, &["--skip-outbound-ports", past_a])?;
        sidecars.redirect(&site.b, &[])?;
        let script = Script::new(&root, ports);
        let sides = [Side::A, Side::B].map(|side| (side, &root, script.clone()));
        Self::ready(site, sidecars, sides, None)
    }

    /// The same in two clusters, with the gateway of the server's between them.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_far(name: &str, sidecars: &Sidecars, ports: &[Port]) -> Result<Self> {
        let (site, near, far) = (Site::new(name)?, new_root(), root_of(FAR_TRUST_DOMAIN));
        sidecars.redirect(&site.a, &[])?;
        let past_b = GATEWAY_PORT.to_string();
        sidecars.redirect(&site.b, &["--skip-inbound-ports", &past_b])?;
        let sides = [
            (Side::A, &far, Script::of_client_cluster(&far, &near, ports)),
            (
                Side::B,
                &near,
                Script::of_server_cluster(&near, &far, ports),
            ),
        ];
        let gateway = |site: &Site| sidecars.start_gateway(&site.b, &near);
        Self::ready(site, sidecars, sides, Some(&gateway))
    }

    /// Starts control planes and programs, and waits for all of them.
    fn ready(
        site: Site,
        sidecars: &Sidecars,
        sides: [(Side, &Root, Script); 2],
        gateway: Option<Start<'_>>,
    ) -> Result<Self> {
        let [(.., of_a), (.., of_b)] = &sides;
        let control = [
            ControlPlane::start(&site.a, &[], of_a.clone())?,
            ControlPlane::start(&site.b, &[], of_b.clone())?,
        ];
        let sidecar = |(side, root, _): &(Side, &Root, Script)| {
            let placed = Placed {
                side: *side,
                workers: 1,
                cores: &[],
            };
            sidecars.start(site.of(*side), root, placed)
        };
        let mut pair = Self {
            a: sidecar(&sides[0])?,
            b: sidecar(&sides[1])?,
            gateway: gateway.map(|start| start(&site)).transpose()?,
            _control: control,
            site,
            root: sides[0].1.clone(),
        };
        pair.until_ready(Side::A, ports::ADMIN)?;
        pair.until_ready(Side::B, ports::ADMIN)?;
        if pair.gateway.is_some() {
            pair.until_ready(Side::B, GATEWAY_ADMIN)?;
        }
        Ok(pair)
    }

    /// Where both are.
    #[must_use]
    pub const fn site(&self) -> &Site {
        &self.site
    }

    /// The client's identity, for somebody who speaks `mesh/1` himself.
    #[must_use]
    pub fn tls_of_client(&self) -> Tls {
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        root.tls(CLIENT)
    }

    /// The sidecar of one side.
    #[must_use]
    pub const fn sidecar(&self, side: Side) -> &Program {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// Fails, with the end of what it said, if a sidecar has ended.
    ///
    /// # Errors
    /// Then.
    pub fn check(&mut self) -> Result<()> {
        self.a.check()?;
        self.b.check()?;
        self.gateway.as_mut().map_or(Ok(()), Program::check)
    }

    /// The value of a metric of a sidecar: the first line of its page that begins so.
    ///
    /// # Errors
    /// If there is no page, or no such line.
    pub fn metric(&self, side: Side, begin: &str) -> Result<u64> {
        let page = self
            .site
            .of(side)
            .enter(|| ask(ports::ADMIN, "/metrics"))??;
        let line = page.lines().find(|line| line.starts_with(begin));
        let value = line.and_then(|line| line.rsplit(' ').next());
        let value = value.with_context(|| format!("no metric `{begin}`"))?;
        Ok(value.parse()?)
    }

    /// What the sidecars said last.
    #[must_use]
    pub fn said(&self) -> String {
        let gateway = self.gateway.as_ref().map(Program::last_words);
        let gateway = gateway.unwrap_or_default();
        let (a, b) = (self.a.last_words(), self.b.last_words());
        format!("A: {a}\nB: {b}\n{gateway}")
    }

    fn until_ready(&mut self, side: Side, admin: u16) -> Result<()> {
        let mut says = Ok(false);
        let ready = wait::until(&format!("{side:?} is ready"), START, || {
            self.check()?;
            says = self.site.of(side).enter(|| is_ready(admin))?;
            Ok(matches!(says, Ok(true)))
        });
        ready
            .map(drop)
            .with_context(|| format!("{says:?}:\n{}", self.said()))
    }
}

/// Whether the program is ready whose port this is, in the namespace of the calling
/// thread.
fn is_ready(admin: u16) -> Result<bool> {
    Ok(ask(admin, "/ready")?.starts_with("HTTP/1.1 200 "))
}

/// What the admin port says, head and body.
fn ask(admin: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, admin));
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(ANSWER))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A name for the namespaces of a test, which tells who has made them; and what
/// such tests have left that were killed is removed.
#[must_use]
pub fn name(number: u32) -> String {
    crate::namespace::remove_leftovers(|name| {
        owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    format!("{PREFIX}{}-{number}", std::process::id())
}

/// What begins so is left alone when a lab is torn down.
const PREFIX: &str = "mesh-t-pair-";

/// The process that has made a namespace, if it is one of a test.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// Where the programs are: in `MESH_PROGRAMS`, or where cargo has put them together
/// with the running test.
///
/// # Errors
/// As [`profile_folder`].
pub fn built() -> Result<PathBuf> {
    let named = std::env::var_os("MESH_PROGRAMS").map(PathBuf::from);
    named.map_or_else(profile_folder, Ok)
}

/// Cargo's folder of the profile with which the running test was built.
///
/// # Errors
/// If the system does not say where that is.
pub fn profile_folder() -> Result<PathBuf> {
    let this = fs::canonicalize(std::env::current_exe()?)?;
    // Tests are in `deps`.
    let folder = this.parent().and_then(Path::parent);
    Ok(folder.context("a program has a folder")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_tests_tell_whose_they_are() {
        assert_eq!(owner("mesh-t-pair-4711-2-a"), Some(4711));
        for other in ["mesh-bench-a", "mesh-t-pair-x", "mesh-t-4711-a", "lab"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
