//! A version on its way into the store. Nothing in here is visible outside until every file was verified; then
//! publishing moves the blobs and, last of all, the manifest.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nave_manifest::{FileEntry, Manifest};
use nave_names::Digest;

use super::{
    Part, Store, StoreError, durable,
    part::{OpenFiles, part_path},
};

/// The staging folder of one version. While it exists as a value, garbage collection leaves the version's blobs alone.
#[derive(Debug)]
pub(crate) struct Staging {
    store: Store,
    digest: Digest,
    dir: PathBuf,
    manifest: Arc<Manifest>,
    verified: Mutex<BTreeSet<Digest>>,
    files: Arc<OpenFiles>,
}

impl Staging {
    /// The manifest that an earlier attempt left, if it is still good.
    pub(crate) fn earlier_manifest(store: &Store, digest: &Digest) -> Option<Manifest> {
        let bytes = fs::read(store.staging_path(digest).join(nave_manifest::MANIFEST_FILE)).ok()?;
        if Digest::of(&bytes) != *digest {
            return None;
        }
        Manifest::parse(&bytes).ok()
    }

    /// Takes up the version with this manifest. Nothing is written yet: whether there is room is to be asked first.
    pub(crate) fn open(store: &Store, manifest: Arc<Manifest>) -> Self {
        let digest = manifest.digest();
        let dir = store.staging_path(&digest);
        store.pins().insert(digest, Arc::clone(&manifest));
        Self {
            store: store.clone(),
            digest,
            dir,
            manifest,
            verified: Mutex::default(),
            files: Arc::default(),
        }
    }

    /// Makes the folder, with the manifest in it.
    pub(crate) fn begin(&self) -> Result<(), StoreError> {
        make_folder(&self.dir, &self.manifest)
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) const fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// One entry for each content that the store does not have yet, in the manifest's order.
    pub(crate) fn missing(&self) -> Vec<FileEntry> {
        let mut seen = BTreeSet::new();
        let files = self.manifest.files().iter();
        files
            .filter(|file| seen.insert(file.sha256) && !self.store.has_blob(&file.sha256, file.size))
            .cloned()
            .collect()
    }

    /// Bytes of disk that these files still need.
    pub(crate) fn needed(&self, files: &[FileEntry]) -> u64 {
        files.iter().map(|file| file.size - self.allocated(file)).sum()
    }

    /// Bytes of disk that a file takes already.
    pub(crate) fn allocated(&self, file: &FileEntry) -> u64 {
        Part::allocated(&self.dir, &file.sha256, file.size)
    }

    /// The part of a large file, with the chunks that its journal names.
    pub(crate) fn part(&self, file: &FileEntry) -> Result<(Part, Vec<u32>), StoreError> {
        Part::open(&self.dir, &file.sha256, file.size, file.chunks.len(), &self.files)
    }

    /// What an earlier attempt left of a small file, to be hashed before use.
    pub(crate) fn earlier_small(&self, file: &FileEntry) -> Option<Vec<u8>> {
        let bytes = fs::read(self.part_path(&file.sha256)).ok()?;
        (bytes.len() as u64 == file.size).then_some(bytes)
    }

    /// Writes a small file whose bytes were verified in memory.
    pub(crate) fn write_small(
        &self,
        file: &FileEntry,
        pieces: &[impl AsRef<[u8]>],
    ) -> Result<(), StoreError> {
        let path = self.part_path(&file.sha256);
        let mut open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        for piece in pieces {
            open.write_all(piece.as_ref()).map_err(StoreError::io("write", &path))?;
        }
        self.mark_verified(file.sha256);
        Ok(())
    }

    /// Takes over a file that is complete and has these contents; where it was it stays too, until the version is published.
    pub(crate) fn adopt(&self, part: &Path, sha256: &Digest) -> Result<(), StoreError> {
        let ours = self.part_path(sha256);
        match fs::hard_link(part, &ours) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("link", ours)(error));
            }
            Ok(()) | Err(_) => {}
        }
        self.mark_verified(*sha256);
        Ok(())
    }

    /// The whole file was hashed and is what the manifest says.
    pub(crate) fn mark_verified(&self, sha256: Digest) {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256);
    }

    /// Makes the version visible: flush the files, move them, flush the folders, then the same with the manifest.
    pub(crate) fn publish(&self) -> Result<(), StoreError> {
        let _nobody_collects = self.store.inner.collecting.read().unwrap_or_else(PoisonError::into_inner);
        let missing = self.missing();
        {
            let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = missing.iter().find(|file| !verified.contains(&file.sha256)) {
                return Err(StoreError::Damaged { what: format!("unverified file {}", file.path) });
            }
        }
        self.sync_parts(&missing)?;
        let mut folders = BTreeSet::new();
        for file in &missing {
            let (part, blob) = (self.part_path(&file.sha256), self.store.hot_blob(&file.sha256));
            durable::make_read_only(&part)?;
            if let Some(folder) = blob.parent().filter(|folder| folders.insert(folder.to_path_buf())) {
                fs::create_dir_all(folder).map_err(StoreError::io("create folder", folder))?;
            }
            fs::rename(&part, &blob).map_err(StoreError::io("publish", &blob))?;
        }
        let blobs = self.store.dir().join("blobs");
        folders.insert(blobs);
        durable::sync_dirs(&folders)?;
        let path = self.store.manifest_path(&self.digest);
        durable::replace(&path, &self.manifest.to_canonical_bytes(), durable::READ_ONLY)?;
        self.remove()
    }

    fn sync_parts(&self, files: &[FileEntry]) -> Result<(), StoreError> {
        if files.len() > durable::ONE_BY_ONE {
            return durable::sync_file_system(&self.dir);
        }
        for file in files {
            let path = self.part_path(&file.sha256);
            let open = fs::File::open(&path).map_err(StoreError::io("open", &path))?;
            open.sync_data().map_err(StoreError::io("sync", &path))?;
        }
        Ok(())
    }

    /// Removes the staging folder; what it held is published or given up.
    fn remove(&self) -> Result<(), StoreError> {
        remove_all(&self.dir)
    }

    fn part_path(&self, sha256: &Digest) -> PathBuf {
        part_path(&self.dir, sha256)
    }
}

impl Store {
    /// Keeps the manifest of a version that is about to be pulled.
    pub(crate) fn expect(&self, manifest: &Manifest) -> Result<(), StoreError> {
        if self.has(&manifest.digest()) {
            return Ok(());
        }
        make_folder(&self.staging_path(&manifest.digest()), manifest)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.store.pins().remove(&self.digest);
    }
}

/// Makes the folder of a version that is about to be pulled, with its manifest.
fn make_folder(dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    make_private(dir)?;
    let path = dir.join(nave_manifest::MANIFEST_FILE);
    // One that was damaged is no use to anybody, and would be in the way for ever.
    if fs::read(&path).is_ok_and(|bytes| Digest::of(&bytes) == manifest.digest()) {
        return Ok(());
    }
    durable::replace(&path, &manifest.to_canonical_bytes(), durable::READ_ONLY)
}

/// Makes a folder for what nobody else may see yet.
pub(super) fn make_private(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).map_err(StoreError::io("create folder", dir))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(StoreError::io("protect", dir))
}

pub(super) fn remove_all(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use nave_manifest::FileHasher;
    use nave_names::RelativePath;

    use super::*;

    #[test]
    fn what_was_not_verified_is_not_published() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let content = vec![1; 3 << 20];
        let mut hasher = FileHasher::new(RelativePath::new("weights").unwrap());
        hasher.update(&content);
        let file = hasher.finish();
        let manifest = Arc::new(Manifest::new(vec![file.clone()]).unwrap());
        let digest = manifest.digest();
        let staging = Staging::open(&store, manifest);
        staging.begin().unwrap();
        staging.part(&file).unwrap().0.write(0, &[&content]).unwrap();
        let refused = staging.publish().unwrap_err();
        assert_eq!(
            (refused.to_string().contains("unverified file weights"), store.has(&digest)),
            (true, false)
        );
        staging.mark_verified(file.sha256);
        staging.publish().unwrap();
        assert!(store.has(&digest));
    }
}
