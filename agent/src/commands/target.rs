//! The folder that a pull by hand shall fill: what is in it before anything is fetched.

use std::{collections::BTreeSet, fs, io, path::Path};

use nave_manifest::{Manifest, is_reserved};
use nave_names::RelativePath;

use super::{
    exit::{Exit, Failure},
    verify::{hash, walk},
};

/// What is in the folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Nothing, or there is no such folder.
    Free,
    /// Exactly the version's files, every byte of them compared.
    Whole,
    /// Something else; in words.
    Other(String),
}

/// Whether there is no such folder, or nothing in it.
pub(super) fn is_free(dir: &Path) -> Result<bool, Failure> {
    if !exists(dir)? {
        return Ok(true);
    }
    let (mut present, mut strange) = (BTreeSet::new(), Vec::new());
    walk(dir, "", &mut present, &mut strange)?;
    Ok(present.is_empty() && strange.is_empty())
}

/// Looks at the folder. Hashes it only if its names and sizes are the version's.
pub(super) fn look(dir: &Path, manifest: &Manifest) -> Result<Target, Failure> {
    if !exists(dir)? {
        return Ok(Target::Free);
    }
    let (mut present, mut strange) = (BTreeSet::new(), Vec::new());
    walk(dir, "", &mut present, &mut strange)?;
    if present.is_empty() && strange.is_empty() {
        return Ok(Target::Free);
    }
    if let Some(problem) = strange.first() {
        return Ok(Target::Other(format!("{} is {}", problem.path, problem.problem)));
    }
    for file in manifest.files() {
        if !present.remove(file.path.as_str()) {
            return Ok(Target::Other(format!("{} is missing in it", file.path)));
        }
        let path = dir.join(file.path.as_str());
        let found = fs::metadata(&path).map_err(|error| {
            Failure::new(Exit::Disk, "DiskError", format!("cannot look at {}: {error}", path.display()))
        })?;
        if found.len() != file.size {
            let (path, size) = (&file.path, file.size);
            return Ok(Target::Other(format!("{path} has {} bytes in it instead of {size}", found.len())));
        }
    }
    let reserved = |path: &String| RelativePath::new(path.as_str()).is_ok_and(|path| is_reserved(&path));
    if let Some(path) = present.iter().find(|path| !reserved(path)) {
        return Ok(Target::Other(format!("{path} in it is not of the version")));
    }
    for file in manifest.files() {
        let (found, _) = hash(&dir.join(file.path.as_str()))?;
        if found != file.sha256 {
            return Ok(Target::Other(format!("{} in it has other bytes", file.path)));
        }
    }
    Ok(Target::Whole)
}

/// False = there is nothing; anything but a folder is an error.
fn exists(dir: &Path) -> Result<bool, Failure> {
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let message = format!("cannot look at {}: {error}", dir.display());
            Err(Failure::new(Exit::Disk, "DiskError", message))
        }
        Ok(found) if !found.is_dir() => {
            let message = format!("{} is there and is not a folder", dir.display());
            Err(Failure::new(Exit::Disk, "TargetNotUsable", message))
        }
        Ok(_) => Ok(true),
    }
}
