//! The JSON form, field by field, and its way to and from checked types. Field order here is the canonical order.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nave_names::{Digest, RelativePath};
use serde::{Deserialize, Serialize};

use crate::{Blake3, ChunkList, FileEntry, ManifestError, content_hash::hex32};

/// Read alone and first, so that a newer format is called that and not malformed.
#[derive(Deserialize)]
pub(crate) struct Probe {
    pub(crate) format: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireManifest {
    pub(crate) format: String,
    pub(crate) files: Vec<WireFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireFile {
    path: String,
    size: u64,
    sha256: String,
    blake3: String,
    chunks: WireChunks,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireChunks {
    /// [length, how many in a row]
    lengths: Vec<(u32, u32)>,
    /// base64 of the hashes, 32 bytes each, one after the other
    blake3: String,
}

impl WireFile {
    pub(crate) fn new(entry: &FileEntry) -> Self {
        let hashes: Vec<u8> = entry.chunks.hashes().iter().flat_map(|h| *h.as_bytes()).collect();
        Self {
            path: entry.path.to_string(),
            size: entry.size,
            sha256: entry.sha256.to_hex(),
            blake3: entry.blake3.to_string(),
            chunks: WireChunks { lengths: entry.chunks.runs().to_vec(), blake3: STANDARD.encode(hashes) },
        }
    }

    /// The entry with every field in its type; whether the fields agree is checked by [`FileEntry::check`].
    pub(crate) fn into_entry(self) -> Result<FileEntry, ManifestError> {
        let path = RelativePath::new(self.path).map_err(|error| ManifestError::BadPath(error.to_string()))?;
        let bad = |field, expected| ManifestError::BadDigest { path: path.to_string(), field, expected };
        let hex = "expected 64 lower-case hex digits";
        let sha256 = hex32(&self.sha256).map(Digest::from_bytes).ok_or_else(|| bad("sha256", hex))?;
        let blake3 = Blake3::from_hex(&self.blake3).ok_or_else(|| bad("blake3", hex))?;
        let hashes = STANDARD
            .decode(&self.chunks.blake3)
            .map_err(|_| bad("chunks.blake3", "expected standard base64 with padding"))?;
        let (whole, rest) = hashes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(bad("chunks.blake3", "expected a multiple of 32 bytes"));
        }
        let hashes = whole.iter().copied().map(Blake3::from_bytes).collect();
        let chunks = ChunkList::from_parts(self.chunks.lengths, hashes).map_err(|(lengths, hashes)| {
            ManifestError::ChunkCount { path: path.to_string(), lengths, hashes }
        })?;
        Ok(FileEntry { path, size: self.size, sha256, blake3, chunks })
    }
}
