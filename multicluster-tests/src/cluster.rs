//! One cluster: how it comes up, and how tests use it.

mod config;
mod dns;

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;

use crate::{
    command,
    images::Archive,
    network::{self, Site},
    paths::Paths,
    pki::{self, Authority, Identity},
    process::Programs,
};

/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(90);
const GLANCE: Duration = Duration::from_millis(100);

/// A container of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name.
    pub name: &'a str,
}

impl std::fmt::Display for Container<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.name)
    }
}

/// containerd's id of a pod's container that has been started; a native
/// sidecar is an init container.
fn container_id<'a>(pod: &'a serde_json::Value, name: &str) -> Option<&'a str> {
    let of = |list: &str| pod["status"][list].as_array().into_iter().flatten();
    let mut all = of("containerStatuses").chain(of("initContainerStatuses"));
    let status = all.find(|status| status["name"] == name)?;
    status["containerID"]
        .as_str()?
        .strip_prefix("containerd://")
}

/// Whether a Deployment's pods run one of these images.
fn runs(deployment: &serde_json::Value, images: &[&str]) -> bool {
    let pod = &deployment["spec"]["template"]["spec"];
    let of = |list: &str| pod[list].as_array().into_iter().flatten();
    of("containers")
        .chain(of("initContainers"))
        .filter_map(|container| container["image"].as_str())
        .any(|image| images.contains(&image))
}

/// A cluster of the lab, up or about to be.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    site: Site,
    folder: PathBuf,
    kubernetes: PathBuf,
    kubectl: String,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// The `index`th cluster, from 1.
    #[must_use]
    pub fn new(paths: &Paths, name: &str, index: u8) -> Self {
        Self {
            name: name.to_owned(),
            site: Site::new(index),
            folder: paths.cluster(name),
            kubernetes: paths.kubernetes(),
            kubectl: paths.kubectl().display().to_string(),
            kubeconfig: paths.kubeconfig(),
        }
    }

    /// Its name, also that of its kubeconfig context.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in the network.
    #[must_use]
    pub const fn site(&self) -> Site {
        self.site
    }

    /// The program `kubectl`.
    pub(crate) fn kubectl_program(&self) -> &str {
        &self.kubectl
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn programs(&self) -> Result<Programs> {
        Programs::new(&self.folder, &network::node_namespace(&self.name))
    }

    /// The log of one of its programs.
    ///
    /// # Errors
    /// If its folder cannot be used.
    pub fn log(&self, component: &str) -> Result<PathBuf> {
        Ok(self.programs()?.log(component))
    }

    /// Runs kubectl against it.
    ///
    /// # Errors
    /// If it fails; says what kubectl said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let kubeconfig = self.kubeconfig.display().to_string();
        let mut all = vec!["--kubeconfig", &kubeconfig, "--context", &self.name];
        all.push("--request-timeout=30s");
        all.extend(arguments);
        command::run(&self.kubectl, &all)
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// As [`kubectl`](Self::kubectl).
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let kubeconfig = self.kubeconfig.display().to_string();
        command::run_with_input(
            &self.kubectl,
            &[
                "--kubeconfig",
                &kubeconfig,
                "--context",
                &self.name,
                "apply",
                "-f",
                "-",
            ],
            manifests,
        )
    }

    /// Runs `ctr` against its containerd.
    ///
    /// # Errors
    /// If it fails.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.socket();
        let mut all = vec!["--address", &socket, "--namespace", "k8s.io"];
        all.extend(arguments);
        command::run("ctr", &all)
    }

    fn socket(&self) -> String {
        self.folder.join("containerd.sock").display().to_string()
    }

    /// Brings it up to a Ready node and an answering DNS. `images` are loaded
    /// before the first pod needs them; `report` hears of each step.
    pub(crate) fn start(&self, images: &[Archive], report: &dyn Fn(&str)) -> Result<()> {
        network::make_node(&self.name, self.site)?;
        let identities = self.write_files()?;
        let programs = self.programs()?;
        self.launch(&programs, &["etcd", "containerd"])?;
        self.launch(&programs, &["kube-apiserver"])?;
        self.write_kubeconfig(&identities)?;
        self.await_containerd(&programs)?;
        for image in images {
            self.load_image(&image.path)?;
        }
        report("images are loaded");
        self.await_api(&programs)?;
        report("the API server answers");
        self.launch(
            &programs,
            &[
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
            ],
        )?;
        self.launch_agent(&programs)?;
        self.until(&programs, "CoreDNS is applied", || {
            self.apply(dns::MANIFEST).is_ok()
        })?;
        self.until(&programs, "the node is Ready", || self.node_is_ready())?;
        report("the node is Ready");
        self.until(&programs, "DNS is ready", || self.dns_is_ready())?;
        report("DNS is ready");
        Ok(())
    }

    /// Loads an image archive.
    ///
    /// # Errors
    /// If containerd does not take it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        self.ctr(&["images", "import", &archive.display().to_string()])
            .map(|_| ())
    }

    /// Starts one of its programs again, as it was.
    pub(crate) fn start_program(&self, name: &str) -> Result<()> {
        let programs = self.programs()?;
        match name {
            "agent" => self.launch_agent(&programs),
            name => self.launch(&programs, &[name]),
        }
    }

    /// The processes of a container, the first one first.
    ///
    /// # Errors
    /// If the container does not run.
    pub fn pids_of(&self, container: Container<'_>) -> Result<Vec<Pid>> {
        let Container { namespace, pod, .. } = container;
        let pod = self.kubectl(&["-n", namespace, "get", "pod", pod, "-o", "json"])?;
        let pod: serde_json::Value = serde_json::from_str(&pod)?;
        let id = container_id(&pod, container.name)
            .with_context(|| format!("{}: {container} does not run", self.name))?;
        let table = self.ctr(&["tasks", "ps", id])?;
        let pids = table.lines().filter_map(|line| {
            let pid = line.split_whitespace().next()?;
            pid.parse().ok().map(Pid::from_raw)
        });
        Ok(pids.collect())
    }

    /// Restarts the Deployments that run one of these images, and waits for
    /// their pods.
    pub(crate) fn restart_users(&self, images: &[&str], report: &dyn Fn(&str)) -> Result<()> {
        let list = self.kubectl(&["get", "deployments", "-A", "-o", "json"])?;
        let list: serde_json::Value = serde_json::from_str(&list)?;
        let users: Vec<(&str, String)> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|deployment| runs(deployment, images))
            .filter_map(|deployment| {
                let text = |field: &str| deployment["metadata"][field].as_str();
                Some((text("namespace")?, format!("deploy/{}", text("name")?)))
            })
            .collect();
        for (namespace, name) in &users {
            self.kubectl(&["-n", namespace, "rollout", "restart", name])?;
        }
        for (namespace, name) in &users {
            let status = ["-n", namespace, "rollout", "status", name];
            self.kubectl(&[&status[..], &["--timeout=90s"]].concat())?;
            report(&format!("{}: {namespace}/{name} restarted", self.name));
        }
        Ok(())
    }

    fn launch(&self, programs: &Programs, names: &[&str]) -> Result<()> {
        for name in names {
            let (program, arguments) = config::program(self, name)?;
            programs.start(name, &program, &arguments)?;
        }
        Ok(())
    }

    /// What a cloud does for Services of type LoadBalancer.
    fn launch_agent(&self, programs: &Programs) -> Result<()> {
        let kubeconfig = self.folder.join("kubeconfig").display().to_string();
        let arguments = ["agent".to_owned(), self.name.clone(), kubeconfig];
        // This program may be a test.
        let program = crate::images::programs_folder()?.join("lab");
        programs.start("agent", &program, &arguments)
    }

    fn write_files(&self) -> Result<BTreeMap<&'static str, Identity>> {
        for sub in ["pki", "config", "cni", "kubelet/plugins", "pods"] {
            fs::create_dir_all(self.folder.join(sub))?;
        }
        let authority = Authority::new(&self.name)?;
        let pki = |file: &str| self.folder.join("pki").join(file);
        pki::write_private(&pki("ca.crt"), &authority.certificate())?;
        let server = authority.server(
            &[
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ],
            &[
                IpAddr::V4(self.site.node()),
                IpAddr::from([10, 96, 0, 1]),
                IpAddr::from([127, 0, 0, 1]),
            ],
        )?;
        let (private, public) = pki::token_keys()?;
        pki::write_private(&pki("token.key"), &private)?;
        pki::write_private(&pki("token.pub"), &public)?;
        let identities = BTreeMap::from([
            ("server", server),
            ("admin", authority.client("lab-admin", "system:masters")?),
            (
                "kubelet-client",
                authority.client("kube-apiserver", "system:masters")?,
            ),
            (
                "kube-controller-manager",
                authority.client("system:kube-controller-manager", "lab")?,
            ),
            (
                "kube-scheduler",
                authority.client("system:kube-scheduler", "lab")?,
            ),
            ("kube-proxy", authority.client("system:kube-proxy", "lab")?),
            (
                "kubelet",
                authority.client(&format!("system:node:{}", self.node()), "system:nodes")?,
            ),
        ]);
        for (name, identity) in &identities {
            pki::write_private(&pki(&format!("{name}.crt")), &identity.certificate)?;
            pki::write_private(&pki(&format!("{name}.key")), &identity.key)?;
            let text = config::kubeconfig(self, name);
            fs::write(self.folder.join(format!("config/{name}.kubeconfig")), text)?;
        }
        for (file, text) in config::files(self) {
            fs::write(self.folder.join(file), text)?;
        }
        Ok(identities)
    }

    /// The name of the cluster's only node.
    #[must_use]
    pub fn node(&self) -> String {
        format!("{}-1", self.name)
    }

    /// Adds the cluster's context to the lab's kubeconfig.
    fn write_kubeconfig(&self, identities: &BTreeMap<&'static str, Identity>) -> Result<()> {
        let admin = identities.get("admin").context("an admin was made")?;
        let text = config::embedded_kubeconfig(self, admin)?;
        pki::write_private(&self.folder.join("kubeconfig"), &text)
    }

    fn await_containerd(&self, programs: &Programs) -> Result<()> {
        self.until(programs, "containerd answers", || {
            self.ctr(&["version"]).is_ok()
        })
    }

    fn await_api(&self, programs: &Programs) -> Result<()> {
        let kubeconfig = self.folder.join("kubeconfig").display().to_string();
        self.until(programs, "the API server answers", || {
            let ready = ["--kubeconfig", &kubeconfig, "get", "--raw", "/readyz"];
            command::run(&self.kubectl, &ready).is_ok()
        })
    }

    fn node_is_ready(&self) -> bool {
        let path = r#"-o=jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        self.kubectl(&["get", "nodes", path])
            .is_ok_and(|status| status == "True")
    }

    fn dns_is_ready(&self) -> bool {
        let path = "-o=jsonpath={.status.readyReplicas}";
        self.kubectl(&["-n", "kube-system", "get", "deployment", "coredns", path])
            .is_ok_and(|ready| ready == "1")
    }

    fn until(&self, programs: &Programs, what: &str, holds: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        while !holds() {
            for (name, _) in programs.all() {
                programs.check(&name)?;
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "{}: not so within {PATIENCE:?}: {what}; see {}/log",
                    self.name,
                    self.folder.display()
                );
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Waits until `holds`.
    ///
    /// # Errors
    /// If it does not within `deadline`.
    pub fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        mut holds: impl FnMut() -> bool,
    ) -> Result<Duration> {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() > deadline {
                bail!("{}: {what}: not within {deadline:?}", self.name);
            }
            std::thread::sleep(GLANCE);
        }
        Ok(start.elapsed())
    }

    /// Resident memory of its programs, in bytes; pods not counted.
    ///
    /// # Errors
    /// If its folder cannot be used.
    pub fn memory(&self) -> Result<u64> {
        let resident = |pid: Pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            kilobytes.unwrap_or(0_u64) * 1024
        };
        Ok(self
            .programs()?
            .all()
            .iter()
            .map(|(_, pid)| resident(*pid))
            .sum())
    }
}
