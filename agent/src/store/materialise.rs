//! Puts a version's files into a folder for a runtime, without storing a byte twice where the file system can help: as
//! clones (own files that share their blocks), else as hard links, and as copies only across devices.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nave_manifest::FileEntry;
use nave_names::Digest;
use rustix::{
    fs::{CWD, RenameFlags, ioctl_ficlone, renameat_with},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, durable};

/// How the files came into the folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Materialised {
    /// Files that were there already, from an earlier call.
    pub kept: usize,
    /// Files that share their blocks with the store.
    pub cloned: usize,
    /// Files that are the store's own files.
    pub linked: usize,
    /// Files that had to be copied, to another device or past the most links that a file can have.
    pub copied: usize,
}

/// What is tried for the next file; what a file system cannot do once it cannot do at all.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Clone,
    Link,
    Copy,
}

impl Store {
    /// Makes `target` hold exactly the version's files, read-only. All or nothing: files are laid out beside the
    /// target, which appears, or is exchanged, in one step.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`], [`StoreError::OnColdTier`] before it was promoted, [`StoreError::Damaged`] if a blob is
    /// missing or wrong, or what the file system says.
    pub fn materialise(&self, digest: &Digest, target: &Path) -> Result<Materialised, StoreError> {
        // Folders and links take a little room too.
        self.with_spare(StoreError::reason, || self.try_materialise(digest, target))
    }

    fn try_materialise(&self, digest: &Digest, target: &Path) -> Result<Materialised, StoreError> {
        let manifest = self.manifest(digest)?;
        if self.is_materialised(manifest.files(), target)? {
            return Ok(Materialised { kept: manifest.files().len(), ..Materialised::default() });
        }
        let unusable = |why: &str| StoreError::Target { path: target.to_owned(), why: why.to_owned() };
        let parent = target.parent().ok_or_else(|| unusable("it has no parent folder"))?;
        let name = target.file_name().ok_or_else(|| unusable("it has no name"))?;
        fs::create_dir_all(parent).map_err(StoreError::io("create folder", parent))?;
        let beside = parent.join(format!(".{}.nave-new", name.to_string_lossy()));
        remove_folder(&beside)?;

        let done = self.lay_out(digest, manifest.files(), &beside)?;
        match fs::symlink_metadata(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::rename(&beside, target).map_err(StoreError::io("rename a new folder to", target))?;
            }
            Err(error) => return Err(StoreError::io("look at", target)(error)),
            Ok(found) if !found.is_dir() => return Err(unusable("something that is not a folder is there")),
            Ok(_) => {
                renameat_with(CWD, &beside, CWD, target, RenameFlags::EXCHANGE)
                    .map_err(|error| StoreError::io("exchange", target)(error.into()))?;
                durable::sync_dir(parent)?;
                remove_folder(&beside)?;
            }
        }
        durable::sync_dir(parent)?;
        Ok(done)
    }

    /// Whether `target` holds exactly the version's files, without reading them: names, sizes, and that each is the
    /// store's own file or not older than it.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`], or what the file system says.
    pub fn is_laid_out(&self, digest: &Digest, target: &Path) -> Result<bool, StoreError> {
        self.is_materialised(self.manifest(digest)?.files(), target)
    }

    fn lay_out(
        &self,
        digest: &Digest,
        files: &[FileEntry],
        folder: &Path,
    ) -> Result<Materialised, StoreError> {
        let mut done = Materialised::default();
        let mut way = Way::Clone;
        fs::create_dir(folder).map_err(StoreError::io("create folder", folder))?;
        let mut folders = BTreeSet::from([folder.to_owned()]);
        for file in files {
            let to: PathBuf = folder.join(file.path.as_str());
            for parent in to.ancestors().skip(1).take_while(|parent| *parent != folder) {
                folders.insert(parent.to_owned());
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(StoreError::io("create folder", parent))?;
            }
            let from = self.hot_blob(&file.sha256);
            let used = match place(&from, &to, file, &mut way) {
                // Neither a link nor a clone goes from one disk to another.
                Err(StoreError::Damaged { .. }) if self.is_on_cold(&file.sha256) => {
                    return Err(StoreError::OnColdTier(*digest));
                }
                used => used?,
            };
            match used {
                Way::Clone => done.cloned += 1,
                Way::Link => done.linked += 1,
                Way::Copy => done.copied += 1,
            }
        }
        // Links only need their names flushed; other files have bytes or blocks of their own.
        if done.cloned + done.copied > 0 {
            durable::sync_file_system(folder)?;
        } else {
            durable::sync_dirs(&folders)?;
        }
        Ok(done)
    }

    /// True if `target` holds these files and no others, each the store's own or at least as long as it.
    fn is_materialised(&self, files: &[FileEntry], target: &Path) -> Result<bool, StoreError> {
        if !target.is_dir() {
            return Ok(false);
        }
        if count_files(target)? != files.len() {
            return Ok(false);
        }
        for file in files {
            let Ok(found) = fs::symlink_metadata(target.join(file.path.as_str())) else { return Ok(false) };
            let blob = self.blob_path(&file.sha256);
            let Ok(blob) = fs::metadata(&blob) else { return Ok(false) };
            let same = found.ino() == blob.ino() && found.dev() == blob.dev();
            if !found.is_file() || found.len() != file.size || (!same && found.mtime() < blob.mtime()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn place(from: &Path, to: &Path, file: &FileEntry, way: &mut Way) -> Result<Way, StoreError> {
    let found = match fs::metadata(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Damaged { what: format!("blob {} of {}", file.sha256, file.path) });
        }
        found => found.map_err(StoreError::io("read", from))?,
    };
    if found.len() != file.size {
        return Err(StoreError::Damaged { what: format!("blob {} of {}", file.sha256, file.path) });
    }
    if *way == Way::Clone {
        match clone(from, to)? {
            true => return Ok(Way::Clone),
            false => *way = Way::Link,
        }
    }
    if *way == Way::Link {
        match fs::hard_link(from, to) {
            Ok(()) => return Ok(Way::Link),
            Err(error) if error.raw_os_error() == Some(Errno::MLINK.raw_os_error()) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported) =>
            {
                *way = Way::Copy;
            }
            Err(error) => return Err(StoreError::io("link", to)(error)),
        }
    }
    copy(from, to, file)?;
    Ok(Way::Copy)
}

/// False where the file system cannot clone.
fn clone(from: &Path, to: &Path) -> Result<bool, StoreError> {
    let source = File::open(from).map_err(StoreError::io("open", from))?;
    let copy = create(to)?;
    match ioctl_ficlone(&copy, &source) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
            fs::remove_file(to).map_err(StoreError::io("remove", to))?;
            Ok(false)
        }
        Err(error) => Err(StoreError::io("clone", to)(error.into())),
    }
}

/// Copies and hashes: the copy is compared with the manifest, not with a blob that may have rotted.
fn copy(from: &Path, to: &Path, file: &FileEntry) -> Result<(), StoreError> {
    let mut source = File::open(from).map_err(StoreError::io("open", from))?;
    let mut copy = create(to)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut buffer).map_err(StoreError::io("read", from))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        copy.write_all(&buffer[..read]).map_err(StoreError::io("write", to))?;
    }
    if Digest::from_bytes(hasher.finalize().into()) != file.sha256 {
        return Err(StoreError::Damaged { what: format!("blob {} of {}", file.sha256, file.path) });
    }
    Ok(())
}

fn create(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(durable::READ_ONLY)
        .open(path)
        .map_err(StoreError::io("create", path))
}

fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn count_files(dir: &Path) -> Result<usize, StoreError> {
    let mut count = 0;
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        let kind = entry.file_type().map_err(StoreError::io("look at", entry.path()))?;
        count += if kind.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
