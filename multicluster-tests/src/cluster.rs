//! One cluster: how it comes up, and how tests use it.

mod config;
mod dns;
mod node;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;

use crate::{
    addresses::{Family, IpFamilies, Site},
    command,
    images::Archive,
    network,
    paths::Paths,
    pki::{self, Authority, Identity},
    process::{self, Programs},
};

pub(crate) use node::Node;

/// How long a program may take until it answers.
const API_SERVER: &str = "kube-apiserver";
const CONTROLLERS: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
const KUBE_PROXY: &str = "kube-proxy";
const PATIENCE: Duration = Duration::from_secs(90);
const GLANCE: Duration = Duration::from_millis(100);
/// Nodes of one cluster.
pub(crate) const MOST_NODES: u8 = 8;

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
    families: IpFamilies,
    folder: PathBuf,
    kubernetes: PathBuf,
    kubectl: String,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// The `index`th cluster, from 1.
    #[must_use]
    pub fn new(paths: &Paths, name: &str, index: u8) -> Self {
        let folder = paths.cluster(name);
        Self {
            name: name.to_owned(),
            site: Site::new(index),
            families: IpFamilies::kept(&folder),
            folder,
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

    /// The versions of IP that it speaks.
    #[must_use]
    pub const fn families(&self) -> IpFamilies {
        self.families
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

    /// Its nodes; the first is always there.
    pub(crate) fn nodes(&self) -> Vec<Node<'_>> {
        let node = |number| Node {
            cluster: self,
            number,
        };
        let others = (2..=MOST_NODES).map(node);
        let others = others.filter(|node| node.folder().exists());
        std::iter::once(node(1)).chain(others).collect()
    }

    /// Runs `ctr` against the containerd of a node.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) fn ctr(&self, node: Node<'_>, arguments: &[&str]) -> Result<String> {
        let socket = node.socket();
        let mut all = vec!["--address", &socket, "--namespace", "k8s.io"];
        all.extend(arguments);
        command::run("ctr", &all)
    }

    /// Brings it up, with so many nodes, to Ready nodes and an answering DNS. `images` are loaded
    /// before the first pod needs them; `report` hears of each step.
    pub(crate) fn start(&self, nodes: u8, images: &[Archive], report: &dyn Fn(&str)) -> Result<()> {
        for number in 1..=nodes {
            let node = Node {
                cluster: self,
                number,
            };
            fs::create_dir_all(node.folder())?;
        }
        network::make_site(self.site, self.families)?;
        let nodes = self.nodes();
        for node in &nodes {
            network::make_node(*node)?;
        }
        network::connect_nodes(&nodes)?;
        let identities = self.write_files()?;
        let programs = self.programs()?;
        self.launch(nodes[0], &["etcd"])?;
        for node in &nodes {
            self.launch(*node, &["containerd"])?;
        }
        self.launch(nodes[0], &[API_SERVER])?;
        self.write_kubeconfig(&identities)?;
        self.await_containerd(&programs)?;
        for image in images {
            self.load_image(&image.path)?;
        }
        report("images are loaded");
        self.await_api(&programs)?;
        report("the API server answers");
        self.launch(nodes[0], &[CONTROLLERS, SCHEDULER])?;
        for node in &nodes {
            self.launch(*node, &["kubelet", KUBE_PROXY])?;
        }
        self.launch_agent(&programs)?;
        let dns = dns::manifest(config::dns(self.families));
        self.until(&programs, "CoreDNS is applied", || self.apply(&dns).is_ok())?;
        self.until(&programs, "all nodes are Ready", || self.nodes_are_ready())?;
        report("all nodes are Ready");
        self.until(&programs, "DNS is ready", || self.dns_is_ready())?;
        report("DNS is ready");
        Ok(())
    }

    /// Loads an image archive.
    ///
    /// # Errors
    /// If containerd does not take it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        for node in self.nodes() {
            self.ctr(node, &["images", "import", &archive.display().to_string()])?;
        }
        Ok(())
    }

    /// Starts one of its programs again, as it was; after an API server also
    /// those that have stopped looking at it.
    pub(crate) fn revive(&self, name: &str) -> Result<()> {
        self.start_program(name)?;
        if name != API_SERVER {
            return Ok(());
        }
        // Where several of them elect a leader, these end when their lease runs
        // out, and a kubelet starts them again. Here there is one of each, which
        // would give up on Services (the EndpointSlices) before it looks again.
        let mut watchers = vec![CONTROLLERS.to_owned(), SCHEDULER.to_owned()];
        // And this one looks again within a minute only.
        watchers.extend(self.nodes().iter().map(|node| node.own(KUBE_PROXY)));
        let programs = self.programs()?;
        let pids: Vec<Pid> = watchers
            .iter()
            .filter_map(|own| programs.pid(own))
            .collect();
        process::stop(&pids);
        // A controller manager without rights gives up.
        let rights = [
            "auth",
            "can-i",
            "get",
            "serviceaccounts",
            "-n",
            "kube-system",
        ];
        let whose = ["--as", "system:kube-controller-manager"];
        let asked = [&rights[..], &whose].concat();
        self.wait_for("the API server knows who may do what", PATIENCE, || {
            self.kubectl(&asked).is_ok()
        })?;
        watchers.iter().try_for_each(|own| self.start_program(own))
    }

    /// Starts one of its programs again, as it was.
    fn start_program(&self, name: &str) -> Result<()> {
        if name == "agent" {
            return self.launch_agent(&self.programs()?);
        }
        let on = |node: &Node<'_>| {
            node::PROGRAMS
                .iter()
                .find(|own| node.own(own) == name)
                .copied()
        };
        let nodes = self.nodes();
        let found = nodes.iter().find_map(|node| Some((*node, on(node)?)));
        let (node, name) = found.unwrap_or((nodes[0], name));
        self.launch(node, &[name])
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
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let nodes = self.nodes();
        let node = nodes.iter().find(|known| known.name() == node);
        let node = node.with_context(|| format!("{container} is on no node of the cluster"))?;
        let table = self.ctr(*node, &["tasks", "ps", id])?;
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

    fn launch(&self, node: Node<'_>, names: &[&str]) -> Result<()> {
        let programs = Programs::new(&self.folder, &node.namespace())?;
        for name in names {
            let (program, arguments) = config::program(node, name)?;
            let own = if node::PROGRAMS.contains(name) {
                node.own(name)
            } else {
                (*name).to_owned()
            };
            programs.start(&own, &program, &arguments)?;
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

    fn write_files(&self) -> Result<BTreeMap<String, Identity>> {
        let nodes = self.nodes();
        for node in &nodes {
            for sub in ["pki", "config", "cni", "kubelet/plugins", "pods"] {
                fs::create_dir_all(node.folder().join(sub))?;
            }
        }
        let authority = Authority::new(&self.name)?;
        let pki = |file: &str| self.folder.join("pki").join(file);
        pki::write_private(&pki("ca.crt"), &authority.certificate())?;
        let (private, public) = pki::token_keys()?;
        pki::write_private(&pki("token.key"), &private)?;
        pki::write_private(&pki("token.pub"), &public)?;
        let identities = self.identities(&authority)?;
        for (name, identity) in &identities {
            pki::write_private(&pki(&format!("{name}.crt")), &identity.certificate)?;
            pki::write_private(&pki(&format!("{name}.key")), &identity.key)?;
            let text = config::kubeconfig(self, name);
            fs::write(self.folder.join(format!("config/{name}.kubeconfig")), text)?;
        }
        for node in &nodes {
            for (file, text) in config::files(*node) {
                fs::write(node.folder().join(file), text)?;
            }
        }
        Ok(identities)
    }

    /// Who the cluster's programs are, by the names of their files.
    fn identities(&self, authority: &Authority) -> Result<BTreeMap<String, Identity>> {
        let mut identities = BTreeMap::from([("server".to_owned(), self.server(authority)?)]);
        for (file, user, group) in [
            ("admin", "lab-admin", "system:masters"),
            ("kubelet-client", "kube-apiserver", "system:masters"),
            (
                "kube-controller-manager",
                "system:kube-controller-manager",
                "lab",
            ),
            ("kube-scheduler", "system:kube-scheduler", "lab"),
            ("kube-proxy", "system:kube-proxy", "lab"),
        ] {
            identities.insert(file.to_owned(), authority.client(user, group)?);
        }
        for node in &self.nodes() {
            let user = format!("system:node:{}", node.name());
            let identity = authority.client(&user, "system:nodes")?;
            identities.insert(node.own("kubelet"), identity);
        }
        Ok(identities)
    }

    /// The API server, by all of its names and addresses.
    fn server(&self, authority: &Authority) -> Result<Identity> {
        let of_family = |family: &Family| {
            [
                self.site.node(*family, 1),
                family.service(1),
                family.loopback(),
            ]
        };
        let addresses: Vec<_> = self.families.all().iter().flat_map(of_family).collect();
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        authority.server(&names, &addresses)
    }

    /// Adds the cluster's context to the lab's kubeconfig.
    fn write_kubeconfig(&self, identities: &BTreeMap<String, Identity>) -> Result<()> {
        let admin = identities.get("admin").context("an admin was made")?;
        let text = config::embedded_kubeconfig(self, admin)?;
        pki::write_private(&self.folder.join("kubeconfig"), &text)
    }

    fn await_containerd(&self, programs: &Programs) -> Result<()> {
        self.until(programs, "containerd answers", || {
            let nodes = self.nodes();
            nodes
                .iter()
                .all(|node| self.ctr(*node, &["version"]).is_ok())
        })
    }

    fn await_api(&self, programs: &Programs) -> Result<()> {
        let kubeconfig = self.folder.join("kubeconfig").display().to_string();
        self.until(programs, "the API server answers", || {
            let ready = ["--kubeconfig", &kubeconfig, "get", "--raw", "/readyz"];
            command::run(&self.kubectl, &ready).is_ok()
        })
    }

    fn nodes_are_ready(&self) -> bool {
        let count = self.nodes().len();
        let path = r#"-o=jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        self.kubectl(&["get", "nodes", path])
            .is_ok_and(|status| status.split_whitespace().filter(|s| *s == "True").count() == count)
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
