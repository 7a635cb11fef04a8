//! Files on their way in that nobody has described yet. They lie in a staging folder by the digest of their list, and
//! become a version when all has arrived and was hashed: a manifest is made of it then.

use std::{path::PathBuf, sync::Arc};

use nave_manifest::{FileEntry, Manifest, ManifestError};
use nave_names::Digest;

use super::{
    Part, Staging, Store, StoreError,
    part::OpenFiles,
    staging::{make_private, remove_all},
};

/// The staging folder of a list of files.
#[derive(Debug)]
pub(crate) struct Rough {
    store: Store,
    dir: PathBuf,
    files: Arc<OpenFiles>,
}

impl Rough {
    /// Takes up the list with this digest. Nothing is on the disk before [`Rough::begin`].
    pub(crate) fn open(store: &Store, list: &Digest) -> Self {
        Self { store: store.clone(), dir: store.staging_path(list), files: Arc::default() }
    }

    /// Makes the folder, once there is room: making room may take away folders that no version has.
    pub(crate) fn begin(&self) -> Result<(), StoreError> {
        make_private(&self.dir)
    }

    /// The part of one file, by a digest of what is known of it, with the pieces that are there and were flushed.
    pub(crate) fn part(
        &self,
        known: &Digest,
        size: u64,
        pieces: usize,
    ) -> Result<(Part, Vec<u32>), StoreError> {
        Part::open(&self.dir, known, size, pieces, &self.files)
    }

    /// Bytes of disk that the part of a file takes already.
    pub(crate) fn allocated(&self, known: &Digest, size: u64) -> u64 {
        Part::allocated(&self.dir, known, size)
    }

    /// Makes a version of the files in the store; each entry is of the part at its place.
    pub(crate) fn publish<'a>(
        &self,
        entries: Vec<FileEntry>,
        parts: impl IntoIterator<Item = &'a Part>,
    ) -> Result<Manifest, RoughError> {
        let digests: Vec<_> = entries.iter().map(|entry| entry.sha256).collect();
        let manifest = Arc::new(Manifest::new(entries)?);
        if !self.store.has(&manifest.digest()) {
            let staging = Staging::open(&self.store, Arc::clone(&manifest));
            staging.begin()?;
            for (part, sha256) in parts.into_iter().zip(&digests) {
                staging.adopt(part.path(), sha256)?;
            }
            staging.publish()?;
        }
        remove_all(&self.dir)?;
        Ok(Arc::unwrap_or_clone(manifest))
    }
}

/// Why files did not become a version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoughError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two of them are one on some file system, or a name may not be.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}
