//! Flags and files of the Kubernetes programs: what this kind of machine needs.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Cluster, node::Node};
use crate::{
    addresses::{Family, IpFamilies},
    pki::Identity,
};

/// The program of this name on `node`, and its flags.
pub(super) fn program(node: Node<'_>, name: &str) -> Result<(PathBuf, Vec<String>)> {
    let cluster = node.cluster;
    let flags = match name {
        "etcd" => etcd(cluster),
        "containerd" => vec![flag("config", &node.file("config/containerd.toml"))],
        "kube-apiserver" => api_server(cluster),
        "kube-controller-manager" => controller_manager(cluster),
        "kube-scheduler" => vec![
            flag("kubeconfig", &kubeconfig_of(cluster, name)),
            flag("leader-elect", "false"),
            flag("bind-address", "127.0.0.1"),
        ],
        "kubelet" => kubelet(node),
        "kube-proxy" => vec![flag("config", &node.file("config/kube-proxy.yaml"))],
        other => bail!("no such program: {other}"),
    };
    let path = match name {
        "etcd" | "containerd" => PathBuf::from(name),
        _ => cluster.kubernetes.join(name),
    };
    Ok((path, flags))
}

fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

fn file(cluster: &Cluster, name: &str) -> String {
    cluster.folder.join(name).display().to_string()
}

fn kubeconfig_of(cluster: &Cluster, name: &str) -> String {
    file(cluster, &format!("config/{name}.kubeconfig"))
}

fn etcd(cluster: &Cluster) -> Vec<String> {
    vec![
        flag("data-dir", &file(cluster, "etcd")),
        // A test bed: what a crash loses is made again.
        "--unsafe-no-fsync".to_owned(),
        // As kubeadm sets it: what nobody changes is known to be up to date.
        flag("experimental-watch-progress-notify-interval", "5s"),
        flag("listen-client-urls", "http://127.0.0.1:2379"),
        flag("advertise-client-urls", "http://127.0.0.1:2379"),
        flag("listen-peer-urls", "http://127.0.0.1:2380"),
    ]
}

fn api_server(cluster: &Cluster) -> Vec<String> {
    let pki = |name: &str| file(cluster, &format!("pki/{name}"));
    vec![
        flag("etcd-servers", "http://127.0.0.1:2379"),
        flag("advertise-address", &address(cluster).ip().to_string()),
        flag("secure-port", "6443"),
        // The first is that of Services that do not say which they want.
        flag(
            "service-cluster-ip-range",
            &cluster.families.list(Family::services),
        ),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        flag("service-account-key-file", &pki("token.pub")),
        flag("service-account-signing-key-file", &pki("token.key")),
        flag("client-ca-file", &pki("ca.crt")),
        flag("tls-cert-file", &pki("server.crt")),
        flag("tls-private-key-file", &pki("server.key")),
        flag("kubelet-client-certificate", &pki("kubelet-client.crt")),
        flag("kubelet-client-key", &pki("kubelet-client.key")),
        // Else exec and logs look the node's name up.
        flag("kubelet-preferred-address-types", "InternalIP"),
        flag("authorization-mode", "Node,RBAC"),
        flag("allow-privileged", "true"),
        flag("enable-aggregator-routing", "true"),
        flag("cert-dir", &file(cluster, "pki")),
        flag("shutdown-delay-duration", "0s"),
    ]
}

fn controller_manager(cluster: &Cluster) -> Vec<String> {
    let pki = |name: &str| file(cluster, &format!("pki/{name}"));
    vec![
        flag(
            "kubeconfig",
            &kubeconfig_of(cluster, "kube-controller-manager"),
        ),
        flag("controllers", "*,-nodeipam,-cloud-node-lifecycle"),
        // Else it throttles itself for 4 s at its start.
        flag("kube-api-qps", "500"),
        flag("kube-api-burst", "1000"),
        flag("use-service-account-credentials", "true"),
        flag("service-account-private-key-file", &pki("token.key")),
        flag("root-ca-file", &pki("ca.crt")),
        flag("leader-elect", "false"),
        flag("bind-address", "127.0.0.1"),
        flag("cert-dir", &file(cluster, "pki/controller-manager")),
    ]
}

fn kubelet(node: Node<'_>) -> Vec<String> {
    vec![
        flag("config", &node.file("config/kubelet.yaml")),
        flag(
            "kubeconfig",
            &kubeconfig_of(node.cluster, &node.own("kubelet")),
        ),
        flag("root-dir", &node.file("kubelet")),
        flag("cert-dir", &node.file("kubelet/pki")),
        flag("hostname-override", &node.name()),
        flag(
            "node-ip",
            &node.cluster.families.list(|family| node.address(family)),
        ),
    ]
}

/// Files that the programs of a node read, by path in its folder.
pub(super) fn files(node: Node<'_>) -> Vec<(&'static str, String)> {
    vec![
        ("config/containerd.toml", containerd(node)),
        ("config/kubelet.yaml", kubelet_configuration(node)),
        ("config/kube-proxy.yaml", kube_proxy(node)),
        // The node's own resolver: pods with dnsPolicy Default get it.
        ("config/resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
        ("cni/10-lab.conflist", cni(node)),
    ]
}

fn containerd(node: Node<'_>) -> String {
    let at = |name: &str| node.file(name);
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  # No CAP_SYS_RESOURCE here.
  restrict_oom_score_adj = true
  sandbox_image = "mesh.dev/pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#,
        root = at("containerd/root"),
        state = at("containerd/state"),
        socket = at("containerd.sock"),
        cni = at("cni"),
    )
}

fn kubelet_configuration(node: Node<'_>) -> String {
    let at = |name: &str| node.file(name);
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {ca}}}
authorization: {{mode: Webhook}}
containerRuntimeEndpoint: unix://{socket}
clusterDNS: ['{dns}']
clusterDomain: cluster.local
resolvConf: {resolv}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
evictionHard: {{memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}}
imageMinimumGCAge: 24h
volumePluginDir: {plugins}
podLogsDir: {pods}
syncFrequency: 2s
nodeStatusUpdateFrequency: 2s
configMapAndSecretChangeDetectionStrategy: Watch
serializeImagePulls: false
registerNode: true
",
        ca = file(node.cluster, "pki/ca.crt"),
        dns = dns(node.cluster.families),
        socket = at("containerd.sock"),
        resolv = at("config/resolv.conf"),
        plugins = at("kubelet/plugins"),
        pods = at("pods"),
    )
}

fn kube_proxy(node: Node<'_>) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: '{pods}'
bindAddress: '{any}'
hostnameOverride: {node}
clientConnection: {{kubeconfig: {kubeconfig}}}
conntrack: {{maxPerCore: 0, min: 0}}
nftables: {{minSyncPeriod: 100ms}}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
",
        pods = node.cluster.families.list(Family::pods),
        // Its family counts until the node has addresses.
        any = match node.cluster.families.primary() {
            Family::V4 => "0.0.0.0",
            Family::V6 => "::",
        },
        node = node.name(),
        kubeconfig = kubeconfig_of(node.cluster, "kube-proxy"),
    )
}

/// Where CoreDNS is for pods.
pub(super) fn dns(families: IpFamilies) -> IpAddr {
    families.primary().service(10)
}

fn cni(node: Node<'_>) -> String {
    let families = node.cluster.families.all().iter();
    let ranges = families
        .clone()
        .map(|family| json!([{"subnet": node.pod_network(*family)}]));
    let routes = families.map(|family| json!({"dst": family.everything()}));
    json!({
        "cniVersion": "0.4.0",
        "name": format!("mesh-{}", node.cluster.name),
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                // The node does it: for what leaves the cluster only.
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": node.file("cni-addresses"),
                    "ranges": ranges.collect::<Vec<_>>(),
                    "routes": routes.collect::<Vec<_>>(),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

/// A kubeconfig of one of the cluster's programs; it names files.
pub(super) fn kubeconfig(cluster: &Cluster, name: &str) -> String {
    let pki = |name: &str| file(cluster, &format!("pki/{name}"));
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": server(cluster),
            "certificate-authority": pki("ca.crt"),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate": pki(&format!("{name}.crt")),
            "client-key": pki(&format!("{name}.key")),
        }}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
        "current-context": "lab",
    })
    .to_string()
}

/// The kubeconfig of the cluster's users; it holds what it needs.
pub(super) fn embedded_kubeconfig(cluster: &Cluster, admin: &Identity) -> Result<String> {
    let authority = std::fs::read(file(cluster, "pki/ca.crt")).context("the authority's file")?;
    let name = &cluster.name;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": server(cluster),
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": STANDARD.encode(&admin.certificate),
            "client-key-data": STANDARD.encode(&admin.key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    })
    .to_string())
}

fn server(cluster: &Cluster) -> String {
    format!("https://{}", address(cluster))
}

/// Where the API server is, for the machine too.
fn address(cluster: &Cluster) -> SocketAddr {
    SocketAddr::new(cluster.site.node(cluster.families.primary(), 1), 6443)
}
