//! Makes a file's entry from its bytes as they stream by, in bounded memory (at most a safetensors header, or a table of
//! 65,536 tensors).

use nave_names::{Digest, RelativePath};
use sha2::{Digest as _, Sha256};

use crate::{Blake3, ChunkList, ExternalData, FileEntry, cutter::Cutter};

/// The most bytes hashed in one go: three hashes read them from the cache and not from memory three times, and BLAKE3
/// still has enough of them for its widest vectors.
const PIECE: usize = 128 << 10;

/// Hashes one file. Feed all of its bytes in order, then ask for the entry.
pub struct FileHasher {
    path: RelativePath,
    size: u64,
    sha256: Sha256,
    blake3: blake3::Hasher,
    chunk: blake3::Hasher,
    chunk_length: u32,
    chunks: ChunkList,
    cutter: Cutter,
}

impl FileHasher {
    /// A hasher for the file with this path; its ending decides whether a tensor table is looked for.
    pub fn new(path: RelativePath) -> Self {
        Self::knowing(path, &ExternalData::default())
    }

    /// The same, for a file that an ONNX model may keep its tensors in.
    pub fn knowing(path: RelativePath, external: &ExternalData) -> Self {
        let cutter = Cutter::new(path.as_str(), external.borders(&path));
        Self {
            path,
            size: 0,
            sha256: Sha256::new(),
            blake3: blake3::Hasher::new(),
            chunk: blake3::Hasher::new(),
            chunk_length: 0,
            chunks: ChunkList::default(),
            cutter,
        }
    }

    /// Takes the next bytes. Costs about 1.5 s of processor time per GB: call it where blocking is allowed.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.cutter.horizon() - self.size).unwrap_or(PIECE);
            let (piece, rest) = bytes.split_at(bytes.len().min(room).min(PIECE));
            self.take(piece);
            bytes = rest;
        }
    }

    fn take(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        self.blake3.update(piece);
        self.chunk.update(piece);
        self.cutter.observe(piece);
        self.size += piece.len() as u64;
        self.chunk_length += piece.len() as u32;
        if self.cutter.cut_at(self.size) {
            self.end_chunk();
        }
    }

    fn end_chunk(&mut self) {
        self.chunks.push(self.chunk_length, self.chunk.finalize().into());
        self.chunk.reset();
        self.chunk_length = 0;
    }

    /// Bytes taken so far.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The entry of the file whose bytes were all given.
    pub fn finish(self) -> FileEntry {
        self.finish_into(&mut ExternalData::default())
    }

    /// The same; `external` learns what the file says of files beside it.
    pub fn finish_into(mut self, external: &mut ExternalData) -> FileEntry {
        if self.chunk_length > 0 {
            self.end_chunk();
        }
        external.add(&self.path, self.cutter.into_external());
        FileEntry {
            path: self.path,
            size: self.size,
            sha256: Digest::from_bytes(self.sha256.finalize().into()),
            blake3: Blake3::from(self.blake3.finalize()),
            chunks: self.chunks,
        }
    }
}

impl std::fmt::Debug for FileHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileHasher")
            .field("path", &self.path)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
