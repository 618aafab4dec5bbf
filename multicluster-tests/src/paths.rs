//! Where the lab keeps what.

use std::path::{Path, PathBuf};

/// The sources of this crate. Cargo says where they are to what it runs; what
/// was built in another checkout would look for them there.
#[must_use]
pub fn sources() -> PathBuf {
    let now = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    now.filter(|folder| folder.join("manifests").is_dir())
        .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
}

/// The lab's folders.
#[derive(Clone, Debug)]
pub struct Paths {
    state: PathBuf,
    cache: PathBuf,
}

impl Paths {
    /// `MESH_LAB_DIR` and `MESH_LAB_CACHE`, or their defaults.
    #[must_use]
    pub fn from_env() -> Self {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let home = folder("HOME").unwrap_or_else(|| "/root".into());
        Self {
            state: folder("MESH_LAB_DIR").unwrap_or_else(|| "/var/lib/mesh-lab".into()),
            cache: folder("MESH_LAB_CACHE").unwrap_or_else(|| home.join(".cache/mesh-lab")),
        }
    }

    /// Everything that lives while clusters are up.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Everything that is built once.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Contexts of all clusters.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// Held by whoever changes the lab.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.with_extension("lock")
    }

    /// As old as the images that the clusters have.
    #[must_use]
    pub fn loaded(&self) -> PathBuf {
        self.state.join("loaded")
    }

    /// Image archives.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.cache.join("images")
    }

    /// The Kubernetes programs: `MESH_K8S_BIN`, or the cache.
    #[must_use]
    pub fn kubernetes(&self) -> PathBuf {
        std::env::var_os("MESH_K8S_BIN").map_or_else(|| self.cache.join("bin"), PathBuf::from)
    }

    /// The kubectl of the clusters' version; with `MESH_K8S_BIN`, that of the
    /// path if there is none.
    #[must_use]
    pub fn kubectl(&self) -> PathBuf {
        let own = self.kubernetes().join("kubectl");
        if own.exists() { own } else { "kubectl".into() }
    }

    /// One cluster's folder.
    #[must_use]
    pub fn cluster(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }
}
