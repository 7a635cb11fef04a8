//! Where a node keeps its things. All names are fixed, so that the next run finds what a killed one left; a lock file makes
//! sure that there is one node at a time.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// The network namespace, the cgroup and the host's end of the veth pair are all called so.
pub(super) const NAME: &str = "nave-node";
/// Sockets and state that must not outlive a boot; short, because a socket's path has 108 bytes.
pub(super) const RUN: &str = "/run/nave-node";
/// The address of this machine as the node sees it: API server and S3 server.
pub const HOST_ADDRESS: &str = "10.213.0.1";
/// The node's own address.
pub(super) const NODE_ADDRESS: &str = "10.213.0.2";
/// Addresses of the pods.
pub(super) const POD_RANGE: &str = "10.244.0.0/24";

/// The node's folders.
#[derive(Debug)]
pub(super) struct Layout {
    data: PathBuf,
    /// Held as long as the node lives.
    _lock: File,
}

impl Layout {
    /// Waits for the lock and names the folders, without making them. `cache` is on a real disk (images are unpacked in it).
    pub(super) fn lock(cache: &Path) -> Result<Self> {
        let path = format!("{RUN}.lock");
        let lock = File::create(&path).with_context(|| format!("create {path}"))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {path}"))?;
        Ok(Self { data: cache.join("node"), _lock: lock })
    }

    /// Makes the folders, empty.
    pub(super) fn create(&self) -> Result<()> {
        for folder in [self.data.as_path(), Path::new(RUN), &self.cni(), &self.volumes()] {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        Ok(())
    }

    /// Everything that is on disk.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    pub(super) fn cni(&self) -> PathBuf {
        self.data.join("cni")
    }

    /// Folders that tests hand to pods as local volumes.
    pub(super) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    pub(super) fn socket() -> String {
        format!("{RUN}/containerd.sock")
    }
}
