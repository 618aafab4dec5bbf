//! The product's programs, as a pod has them: `mesh-redirect` once, and
//! `mesh-proxy`.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::PoisonError,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    control::{GATEWAY_PORT, Root, write_workload},
    identity::{CLIENT, FAR_CLIENT, FAR_TRUST_DOMAIN, GATEWAY, SERVER},
    namespace::{Namespace, Side, forget_closed_connections},
    process::{Program, mortal},
};

/// The user of sidecars, whose connections are not redirected.
const PROXY_USER: u32 = 2102;
/// The gateway's port for health, beside the sidecar's.
pub(crate) const GATEWAY_ADMIN: u16 = 4195;
const NAMES: [&str; 2] = ["mesh-proxy", "mesh-redirect"];

/// Variables of ours that our programs have too.
const PASSED: [&str; 2] = ["MESH_LOG", "LLVM_PROFILE_FILE"];

/// The programs, and a folder for what they read and say.
#[derive(Clone, Debug)]
pub struct Sidecars {
    folder: PathBuf,
    /// Variables of limits, and their values.
    limits: Vec<(String, String)>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Whose it is.
    pub side: Side,
    /// How many threads it has.
    pub workers: usize,
    /// Where those are; anywhere if empty.
    pub cores: &'a [usize],
}

impl Sidecars {
    /// Copies the programs out of `built` into `folder`, where any user can read
    /// and run what there is: sidecars run as one of their own.
    ///
    /// # Errors
    /// If they are not there.
    pub fn copy(built: &Path, folder: &Path) -> Result<Self> {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        for name in NAMES {
            copy(built, folder, name)?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            limits: Vec::new(),
        })
    }

    /// The same, which bear other limits than they do by default: variables, as
    /// `docs/limits.md` names them, and their values.
    #[must_use]
    pub fn bearing(mut self, limits: &[(&str, &str)]) -> Self {
        let limits = limits.iter();
        self.limits = limits
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self
    }

    /// The same, and a gateway.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn with_gateway(built: &Path, folder: &Path) -> Result<Self> {
        let sidecars = Self::copy(built, folder)?;
        copy(built, folder, "mesh-gateway")?;
        Ok(sidecars)
    }

    /// Redirects the connections of a pod, as an injected pod does itself.
    ///
    /// # Errors
    /// If `mesh-redirect` fails.
    pub fn redirect(&self, namespace: &Namespace, flags: &[&str]) -> Result<()> {
        let mut command = Command::new(self.folder.join("mesh-redirect"));
        command.args(flags);
        let output = namespace.enter(|| command.output())??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mesh-redirect: {}", said.trim());
        namespace.enter(forget_closed_connections)?
    }

    /// Starts a sidecar in its namespace, whose control plane is there. It logs what
    /// `MESH_LOG` asks for, if that is set here; and one that counts what it does
    /// writes that where `LLVM_PROFILE_FILE` says.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, namespace: &Namespace, root: &Root, placed: Placed<'_>) -> Result<Program> {
        let side = placed.side.as_str();
        let folder = self.folder.join(format!("mesh-{side}"));
        fs::create_dir_all(&folder)?;
        write_workload(root, &folder, identity(root, placed.side))?;
        let mut command = self.program("mesh-proxy", &folder);
        command
            .env("MESH_POD_IP", placed.side.address().to_string())
            .env("MESH_POD_NAME", format!("{side}-0"))
            .env("MESH_POD_NAMESPACE", "shop")
            .env("MESH_WORKERS", placed.workers.to_string())
            .envs(self.limits.iter().cloned());
        let log = self.folder.join(format!("mesh-{side}.log"));
        Program::start(namespace, placed.cores, command, &log)
    }

    /// Starts the gateway of the server's cluster, whose control plane is there. It
    /// has to be told of [`Sidecars::with_gateway`] before.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_gateway(&self, namespace: &Namespace, root: &Root) -> Result<Program> {
        let folder = self.folder.join("mesh-gateway-identity");
        fs::create_dir_all(&folder)?;
        write_workload(root, &folder, GATEWAY)?;
        let mut command = self.program("mesh-gateway", &folder);
        command
            .env("MESH_GATEWAY_ADDR", format!("0.0.0.0:{GATEWAY_PORT}"))
            .env("MESH_ADMIN_ADDR", format!("127.0.0.1:{GATEWAY_ADMIN}"));
        let log = self.folder.join("gateway.log");
        Program::start(namespace, &[], command, &log)
    }

    /// A program of ours, whose roots and token are in `folder`, as the user whose
    /// connections are left alone.
    fn program(&self, name: &str, folder: &Path) -> Command {
        let mut command = mortal(&self.folder.join(name));
        command
            .env_clear()
            .env("MESH_ROOTS_DIR", folder)
            .env("MESH_TOKEN_FILE", folder.join("token"))
            .env("MESH_CONTROL_HOST", Ipv4Addr::LOCALHOST.to_string())
            .uid(PROXY_USER)
            .gid(PROXY_USER);
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }
}

fn copy(built: &Path, folder: &Path, name: &str) -> Result<()> {
    let program = built.join(name);
    fs::copy(&program, folder.join(name))
        .with_context(|| format!("{}: is it built?", program.display()))?;
    Ok(())
}

/// Who is on a side: the client may be of another cluster.
fn identity(root: &Root, side: Side) -> &'static str {
    let root = root.lock().unwrap_or_else(PoisonError::into_inner);
    match side {
        Side::A if root.trust_domain().as_str() == FAR_TRUST_DOMAIN => FAR_CLIENT,
        Side::A => CLIENT,
        Side::B => SERVER,
    }
}
