//! The manifest as a whole: read strictly, written canonically, identified by the SHA-256 of what is written.

use nave_names::{Digest, RelativePath};

use crate::{
    FileEntry, ManifestError, paths,
    wire::{Probe, WireFile, WireManifest},
};

/// The format that this crate reads and writes.
pub const FORMAT_V1: &str = "nave.dev/manifest/v1";
/// Where a manifest lies below its version's prefix.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The most bytes that a manifest may have: 1.4 million chunks, so 1.4 TB of weights, with the memory that a small
/// hub or spoke has for reading it.
pub const MAX_MANIFEST_BYTES: usize = 64 << 20;
/// The most files that a version may have. At the least size of an entry this many just fit.
pub const MAX_FILES: usize = 200_000;

/// What a model version consists of. A value of this type has been checked: its files can be materialised side by
/// side in a folder, and none of them outside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Sorted by path.
    files: Vec<FileEntry>,
    total_size: u64,
}

impl Manifest {
    /// A manifest of these files, in any order.
    ///
    /// # Errors
    /// [`ManifestError`] names the file and the rule that it breaks.
    pub fn new(mut files: Vec<FileEntry>) -> Result<Self, ManifestError> {
        match files.len() {
            0 => return Err(ManifestError::NoFiles),
            count if count > MAX_FILES => return Err(ManifestError::TooManyFiles { count }),
            _ => {}
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut total_size = 0u64;
        for file in &files {
            file.check()?;
            total_size = total_size
                .checked_add(file.size)
                .filter(|&total| i64::try_from(total).is_ok())
                .ok_or_else(|| ManifestError::SizeOverflow { path: file.path.to_string() })?;
        }
        paths::check_together(&files)?;
        let manifest = Self { files, total_size };
        let size = manifest.to_canonical_bytes().len();
        if size > MAX_MANIFEST_BYTES { Err(ManifestError::TooLarge { size }) } else { Ok(manifest) }
    }

    /// Reads a manifest that may be hostile. Only the canonical form passes: one content, one digest.
    ///
    /// # Errors
    /// [`ManifestError`] names the file and the rule that it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { size: bytes.len() });
        }
        let malformed = |error: serde_json::Error| ManifestError::Malformed(error.to_string());
        let probe: Probe = serde_json::from_slice(bytes).map_err(malformed)?;
        if probe.format != FORMAT_V1 {
            return Err(ManifestError::UnknownFormat(probe.format));
        }
        let wire: WireManifest = serde_json::from_slice(bytes).map_err(malformed)?;
        let files = wire.files.into_iter().map(WireFile::into_entry).collect::<Result<_, _>>()?;
        let manifest = Self::new(files)?;
        let canonical = manifest.to_canonical_bytes();
        if canonical != bytes {
            let at = canonical.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            return Err(ManifestError::NotCanonical { at });
        }
        Ok(manifest)
    }

    /// The canonical form: compact JSON, fields in the documented order, files sorted by path.
    pub fn to_canonical_bytes(&self) -> Vec<u8> {
        let wire = WireManifest {
            format: FORMAT_V1.to_owned(),
            files: self.files.iter().map(WireFile::new).collect(),
        };
        // Strings and integers into memory: serde_json has no error to give for these.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// The version's identity: the SHA-256 of the canonical form.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_canonical_bytes())
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The file with this path.
    pub fn file(&self, path: &RelativePath) -> Option<&FileEntry> {
        self.files.binary_search_by(|file| file.path.cmp(path)).ok().map(|at| &self.files[at])
    }

    /// The sum of the files' sizes in bytes.
    pub const fn total_size(&self) -> u64 {
        self.total_size
    }
}
