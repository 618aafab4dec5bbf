//! A node of a cluster: where pods run. The first also runs what there is once
//! in a cluster.

use std::{net::IpAddr, path::PathBuf};

use super::Cluster;
use crate::{addresses::Family, network};

/// One of a cluster's nodes, from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) number: u8,
}

/// What every node runs.
pub(super) const PROGRAMS: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

impl Node<'_> {
    /// Its name in Kubernetes.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.cluster.name, self.number)
    }

    /// Its address on the WAN.
    pub(crate) fn address(&self, family: Family) -> IpAddr {
        self.cluster.site.node(family, self.number)
    }

    /// Its network namespace.
    pub(crate) fn namespace(&self) -> String {
        match self.number {
            1 => network::node_namespace(&self.cluster.name),
            number => network::node_namespace(&format!("{}-{number}", self.cluster.name)),
        }
    }

    /// The addresses of its pods: the same in every cluster.
    pub(crate) fn pod_network(&self, family: Family) -> String {
        family.pods_of_node(self.number)
    }

    /// What it keeps. That of the first is the cluster's.
    pub(crate) fn folder(&self) -> PathBuf {
        match self.number {
            1 => self.cluster.folder.clone(),
            number => self.cluster.folder.join(format!("node-{number}")),
        }
    }

    /// A path in its folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder().join(name).display().to_string()
    }

    /// The name of a program, or of an identity, that every node has.
    pub(crate) fn own(&self, name: &str) -> String {
        match self.number {
            1 => name.to_owned(),
            number => format!("{name}-{number}"),
        }
    }

    /// The socket of its containerd.
    pub(crate) fn socket(&self) -> String {
        self.file("containerd.sock")
    }
}
