//! The link `current`: switched by one rename, so that a reader sees the old version or the new one and never neither.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use nave_agent_plan::Folder;
use nave_names::Digest;

use super::ActivateError;
use crate::store::{Store, durable};

const CURRENT: &str = "current";
const STAGED: &str = ".current.new";

/// Points `current` at a folder beside it.
pub(super) fn switch(dir: &Path, folder: &Folder) -> Result<(), ActivateError> {
    if read(dir)?.as_ref() == Some(folder) {
        return Ok(());
    }
    let staged = dir.join(STAGED);
    remove(&staged)?;
    symlink(folder.to_string(), &staged).map_err(ActivateError::io("create the link", &staged))?;
    let current = dir.join(CURRENT);
    fs::rename(&staged, &current).map_err(ActivateError::io("switch the link", &current))?;
    Ok(durable::sync_dir(dir)?)
}

/// Takes `current` away.
pub(super) fn unlink(dir: &Path) -> Result<(), ActivateError> {
    if !dir.exists() {
        return Ok(());
    }
    remove(&dir.join(STAGED))?;
    remove(&dir.join(CURRENT))?;
    Ok(durable::sync_dir(dir)?)
}

/// Where `current` points; `None` = there is none, or it is not one of ours.
pub(super) fn read(dir: &Path) -> Result<Option<Folder>, ActivateError> {
    let current = dir.join(CURRENT);
    match fs::read_link(&current) {
        Ok(target) => Ok(target.to_str().and_then(Folder::parse)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
            Ok(None)
        }
        Err(error) => Err(ActivateError::io("read the link", &current)(error)),
    }
}

/// `current` points at the folder, and the folder holds what its manifest says: what `files` can be asked.
pub(super) fn check(
    store: &Store,
    dir: &Path,
    folder: &Folder,
    digest: &Digest,
) -> Result<(), ActivateError> {
    let current = dir.join(CURRENT);
    if read(dir)?.as_ref() != Some(folder) || !store.is_laid_out(digest, &dir.join(folder.to_string()))? {
        return Err(ActivateError::NotIntact(current));
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), ActivateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ActivateError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use nave_names::VersionName;

    use super::*;

    #[test]
    fn switches_in_one_step_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |version| Folder::of(&VersionName::new(version).unwrap(), &Digest::of(b"x"));
        for version in ["1", "2", "2"] {
            fs::write(dir.path().join(STAGED), "left by a crash").unwrap();
            switch(dir.path(), &folder(version)).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Some(folder(version)));
        }
        unlink(dir.path()).unwrap();
        unlink(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_strangers_link_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join(CURRENT)).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }
}
