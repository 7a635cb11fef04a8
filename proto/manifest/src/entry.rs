//! One file of a model version.

use nave_names::{Digest, RelativePath};

use crate::{Blake3, ChunkList, MAX_CHUNK, ManifestError, paths};

/// The largest size that a file may have: integers above 2^53 - 1 change when a JSON reader takes them for doubles.
const MAX_SIZE: u64 = (1 << 53) - 1;

/// One file of a model version: where it goes and what its bytes have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Path below the version's prefix in S3, and below the version's folder on a spoke.
    pub path: RelativePath,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the whole file, for everyone else's tools; the name of the blob in a spoke's store.
    pub sha256: Digest,
    /// BLAKE3 of the whole file.
    pub blake3: Blake3,
    /// The file's chunks.
    pub chunks: ChunkList,
}

impl FileEntry {
    /// Whether the entry agrees with itself.
    pub(crate) fn check(&self) -> Result<(), ManifestError> {
        let path = || self.path.to_string();
        paths::check(&self.path)?;
        if self.size > MAX_SIZE {
            return Err(ManifestError::FileTooLarge { path: path(), size: self.size });
        }
        for &(length, count) in self.chunks.runs() {
            if length == 0 || count == 0 {
                return Err(ManifestError::EmptyChunk { path: path() });
            }
            if length > MAX_CHUNK {
                return Err(ManifestError::ChunkTooLarge { path: path(), length });
            }
        }
        let covered = self.chunks.covered().ok_or_else(|| ManifestError::SizeOverflow { path: path() })?;
        if covered != self.size {
            return Err(ManifestError::ChunksDoNotCover { path: path(), covered, size: self.size });
        }
        self.check_digests()
    }

    /// Hashes that can be compared without any byte of the file: an empty file has one digest, and the only chunk of a
    /// file has the file's.
    fn check_digests(&self) -> Result<(), ManifestError> {
        let contradictory = |field| ManifestError::ContradictoryDigest { path: self.path.to_string(), field };
        if self.size == 0 && self.sha256 != Digest::of(b"") {
            return Err(contradictory("sha256"));
        }
        if self.size == 0 && self.blake3 != Blake3::of(b"") {
            return Err(contradictory("blake3"));
        }
        match self.chunks.hashes() {
            [only] if *only != self.blake3 => Err(contradictory("chunks.blake3")),
            _ => Ok(()),
        }
    }
}
