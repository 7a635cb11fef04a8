//! The folder that a pull by hand shall fill: what is in it before anything is fetched.

use std::{collections::BTreeSet, fs, io, path::Path};

use nave_manifest::{Manifest, is_reserved};
use nave_names::RelativePath;

use super::{
    etag::{Compared, compare},
    exit::{Exit, Failure},
    verify::{hash, walk},
};
use crate::pull::Listed;

/// What is in the folder. `W` is what came out of comparing it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<W = ()> {
    /// Nothing, or there is no such folder.
    Free,
    /// Exactly the wanted files, every byte of them compared.
    Whole(W),
    /// Something else; in words.
    Other(String),
}

/// Looks at the folder. Hashes it only if its names and sizes are the version's.
pub(super) fn look(dir: &Path, manifest: &Manifest) -> Result<Target, Failure> {
    let found = names_and_sizes(dir, manifest.files().iter().map(|file| (&file.path, file.size)))?;
    if found != Target::Whole(()) {
        return Ok(found);
    }
    for file in manifest.files() {
        let (found, _) = hash(&dir.join(file.path.as_str()))?;
        if found != file.sha256 {
            return Ok(Target::Other(format!("{} in it has other bytes", file.path)));
        }
    }
    Ok(Target::Whole(()))
}

/// The same against objects as they are listed: where there is no manifest, their ETags are all that there is to compare
/// the bytes with. The manifest is the one that they would have.
pub(super) fn look_listed(dir: &Path, listed: &[Listed]) -> Result<Target<Manifest>, Failure> {
    match names_and_sizes(dir, listed.iter().map(|object| (&object.path, object.size)))? {
        Target::Whole(()) => {}
        Target::Free => return Ok(Target::Free),
        Target::Other(why) => return Ok(Target::Other(why)),
    }
    let mut entries = Vec::with_capacity(listed.len());
    for object in listed {
        match compare(&dir.join(object.path.as_str()), object)? {
            Compared::Same(entry) => entries.push(entry),
            Compared::Not(why) => return Ok(Target::Other(format!("{} in it {why}", object.path))),
        }
    }
    Ok(Manifest::new(entries).map_or_else(|error| Target::Other(error.to_string()), Target::Whole))
}

/// Compares what can be without reading a file.
fn names_and_sizes<'a>(
    dir: &Path,
    wanted: impl Iterator<Item = (&'a RelativePath, u64)>,
) -> Result<Target, Failure> {
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
    for (wanted, size) in wanted {
        if !present.remove(wanted.as_str()) {
            return Ok(Target::Other(format!("{wanted} is missing in it")));
        }
        let path = dir.join(wanted.as_str());
        let found = fs::metadata(&path).map_err(|error| {
            Failure::new(Exit::Disk, "DiskError", format!("cannot look at {}: {error}", path.display()))
        })?;
        if found.len() != size {
            return Ok(Target::Other(format!("{wanted} has {} bytes in it instead of {size}", found.len())));
        }
    }
    let reserved = |path: &String| RelativePath::new(path.as_str()).is_ok_and(|path| is_reserved(&path));
    if let Some(path) = present.iter().find(|path| !reserved(path)) {
        return Ok(Target::Other(format!("{path} in it is not of the version")));
    }
    Ok(Target::Whole(()))
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
