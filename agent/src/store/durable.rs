//! Writing so that it is still there after a power cut: stage, fsync, rename, fsync the folder.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::StoreError;

/// Blobs and manifests are never written again.
pub(super) const READ_ONLY: u32 = 0o444;

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let open = File::open(dir).map_err(StoreError::io("open folder", dir))?;
    open.sync_all().map_err(StoreError::io("sync folder", dir))
}

/// Up to this many files or folders are flushed one by one; more of them cost less as one flush of the whole file
/// system.
pub(super) const ONE_BY_ONE: usize = 8;

/// Makes the names in these folders durable.
pub(super) fn sync_dirs(dirs: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
    match dirs.first() {
        Some(any) if dirs.len() > ONE_BY_ONE => sync_file_system(any),
        Some(_) | None => dirs.iter().try_for_each(|dir| sync_dir(dir)),
    }
}

/// Makes everything that was written to the file system of `dir` durable, in one call: for many small files, which
/// would cost a flush of the device each.
pub(super) fn sync_file_system(dir: &Path) -> Result<(), StoreError> {
    let open = File::open(dir).map_err(StoreError::io("open folder", dir))?;
    rustix::fs::syncfs(open).map_err(|error| StoreError::io("sync file system of", dir)(error.into()))
}

/// Replaces `path` by `bytes`, all or nothing.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let staged = path.with_extension("new");
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::io("remove", staged)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&staged)
        .map_err(StoreError::io("create", &staged))?;
    file.write_all(bytes).map_err(StoreError::io("write", &staged))?;
    file.sync_all().map_err(StoreError::io("sync", &staged))?;
    drop(file);
    fs::rename(&staged, path).map_err(StoreError::io("rename a new file to", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Takes away everyone's right to write.
pub(super) fn make_read_only(path: &Path) -> Result<(), StoreError> {
    fs::set_permissions(path, Permissions::from_mode(READ_ONLY)).map_err(StoreError::io("protect", path))
}
