//! The node's cgroup, below which the kubelet puts every pod: one folder in each hierarchy, as this kind of machine has
//! cgroups v1.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result};
use walkdir::WalkDir;

use super::layout::NAME;

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the folder in every hierarchy. The kubelet refuses a `cgroupRoot` that is missing in one.
pub(super) fn create() -> Result<()> {
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(NAME);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        if hierarchy.ends_with("cpuset") {
            // A cpuset without processors and memory takes no process; children inherit these.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let value =
                    fs::read_to_string(hierarchy.join(file)).with_context(|| format!("read {file}"))?;
                fs::write(folder.join(file), value.trim()).with_context(|| format!("fill {file}"))?;
            }
            fs::write(folder.join("cgroup.clone_children"), "1").context("let cpusets be inherited")?;
        }
    }
    Ok(())
}

/// The processes of all pods, now.
pub(super) fn processes() -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for folder in folders()? {
        let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    Ok(found)
}

/// Takes the folders away, innermost first; their processes must be gone.
pub(super) fn remove() -> Result<()> {
    for folder in folders()? {
        fs::remove_dir(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

fn folders() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for hierarchy in hierarchies()? {
        let walk = WalkDir::new(hierarchy.join(NAME)).contents_first(true);
        found.extend(
            walk.into_iter()
                .filter_map(Result::ok)
                .filter(|entry| entry.file_type().is_dir())
                .map(|entry| entry.into_path()),
        );
    }
    Ok(found)
}

/// The mounted hierarchies, with the v2 one beside them, where runc makes the same folders; `cpu,cpuacct` and the like are links to one of them.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(ROOT).with_context(|| format!("list {ROOT}"))? {
        let path = entry?.path();
        if !path.is_symlink() && path.join("cgroup.procs").exists() {
            found.push(path);
        }
    }
    Ok(found)
}
