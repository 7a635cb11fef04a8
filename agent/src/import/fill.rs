//! One version from the bundle into the store's staging, chunk by chunk in the order of its files, and from there into the
//! store. A chunk comes from where it is: left by an earlier attempt, carried by the bundle, rebuilt from the base, or copied
//! from another version. Wherever it comes from, its BLAKE3 is compared, and each file's SHA-256 at its end.

use std::{collections::HashSet, os::unix::fs::FileExt as _, sync::Arc};

use nave_delta::{Decoder, Record};
use nave_manifest::{Blake3, CHUNK, Chunk, FileEntry};
use nave_names::Digest;
use sha2::{Digest as _, Sha256};

use super::{
    ImportError, ImportedVersion, Importer,
    incoming::{Delta, Incoming},
    opened::Opened,
    parts::digest_of,
};
use crate::store::{ChunkIndex, Promise, Staging};

/// Files up to this size are put together in memory.
const SMALL: u64 = CHUNK as u64;
/// After so many bytes the disk is made to write them, so that what is left to flush at the end is little.
const FLUSH: u64 = 256 << 20;

struct Filling<'a> {
    importer: &'a Importer<'a>,
    opened: &'a Opened,
    one: &'a Incoming,
    staging: &'a Staging,
    /// Chunks that only other versions have.
    elsewhere: ChunkIndex,
    decoder: Decoder,
    /// Room that was set aside for all of it.
    promise: &'a mut Promise,
    done: ImportedVersion,
}

/// Makes the version visible in the store. The staging holds its blobs until it goes.
pub(super) fn fill(
    importer: &Importer<'_>,
    opened: &Opened,
    one: &Incoming,
    described: ImportedVersion,
    promise: &mut Promise,
) -> Result<(ImportedVersion, Staging), ImportError> {
    let staging = Staging::open(importer.store, Arc::clone(&one.manifest));
    staging.begin()?;
    let missing = staging.missing();
    let absent: u64 = missing.iter().map(|file| file.size).sum();
    let whole = described.bytes.saturating_sub(absent);
    importer.advance(whole);
    let elsewhere = ChunkIndex::of(importer.store, &wanted(one, &missing))?;
    let decoder = Decoder::new().map_err(|source| ImportError::Delta {
        version: format!("{} {}", one.version.model, one.version.version),
        source,
    })?;
    let done = ImportedVersion { bytes_reused: whole, ..described };
    let mut filling = Filling { importer, opened, one, staging: &staging, elsewhere, decoder, promise, done };
    for file in &missing {
        if file.size <= SMALL { filling.small(file)? } else { filling.large(file)? }
    }
    let done = filling.done;
    staging.publish()?;
    Ok((done, staging))
}

/// Chunks that neither the bundle carries nor its delta makes.
fn wanted(one: &Incoming, missing: &[FileEntry]) -> HashSet<Blake3> {
    let mut wanted = HashSet::new();
    for file in missing {
        let Some(at) = position(one, file) else { continue };
        let elsewhere = |chunk: &Chunk| {
            one.place(at, chunk.index, chunk.offset).is_none() && one.block(at, chunk.index).is_none()
        };
        wanted.extend(file.chunks.iter().filter(elsewhere).map(|chunk| chunk.blake3));
    }
    wanted
}

fn position(one: &Incoming, file: &FileEntry) -> Option<usize> {
    one.manifest.files().binary_search_by(|other| other.path.cmp(&file.path)).ok()
}

impl Filling<'_> {
    fn small(&mut self, file: &FileEntry) -> Result<(), ImportError> {
        let earlier = self.staging.earlier_small(file);
        if earlier.is_some_and(|bytes| Digest::of(&bytes) == file.sha256) {
            self.staging.mark_verified(file.sha256);
            self.done.bytes_resumed += file.size;
            self.importer.advance(file.size);
            return Ok(());
        }
        let mut pieces = Vec::new();
        let mut sha256 = Sha256::new();
        for chunk in file.chunks.iter() {
            let bytes = self.chunk(file, &chunk)?;
            sha256.update(&bytes);
            pieces.push(bytes);
        }
        check_file(file, sha256)?;
        self.staging.write_small(file, &pieces)?;
        Ok(())
    }

    fn large(&mut self, file: &FileEntry) -> Result<(), ImportError> {
        let (part, named) = self.staging.part(file)?;
        let needed = file.size - self.staging.allocated(file);
        part.reserve(file.size)?;
        self.promise.settle(needed);
        let mut sha256 = Sha256::new();
        let mut buffer = Vec::new();
        let mut unflushed = 0;
        for chunk in file.chunks.iter() {
            let number = u32::try_from(chunk.index).unwrap_or(u32::MAX);
            if named.binary_search(&number).is_ok() {
                buffer.resize(chunk.length as usize, 0);
                part.read(chunk.offset, &mut buffer)?;
                if Blake3::of(&buffer) == chunk.blake3 {
                    sha256.update(&buffer);
                    self.done.bytes_resumed += u64::from(chunk.length);
                    self.importer.advance(chunk.length.into());
                    continue;
                }
            }
            let bytes = self.chunk(file, &chunk)?;
            sha256.update(&bytes);
            part.write(chunk.offset, &[bytes])?;
            part.record(number)?;
            unflushed += u64::from(chunk.length);
            if unflushed >= FLUSH {
                part.flush()?;
                unflushed = 0;
            }
        }
        if let Err(error) = check_file(file, sha256) {
            part.forget()?;
            return Err(error);
        }
        self.staging.mark_verified(file.sha256);
        Ok(())
    }

    /// The bytes of a chunk, right ones.
    fn chunk(&mut self, file: &FileEntry, chunk: &Chunk) -> Result<Vec<u8>, ImportError> {
        self.importer.check_cancelled()?;
        let (one, length) = (self.one, u64::from(chunk.length));
        let at = position(one, file).unwrap_or(usize::MAX);
        let bytes = if let Some(offset) = one.place(at, chunk.index, chunk.offset) {
            self.done.bytes_read += length;
            self.carried(file, chunk, offset)?
        } else if one.block(at, chunk.index).is_some() {
            self.done.bytes_rebuilt += length;
            self.rebuilt(file, at, chunk)?
        } else {
            self.done.bytes_reused += length;
            let found = self.elsewhere.read(self.importer.store, &chunk.blake3, chunk.length);
            found.ok_or_else(|| ImportError::BaseDamaged { what: named(file, chunk) })?
        };
        self.importer.advance(length);
        Ok(bytes)
    }

    fn carried(&self, file: &FileEntry, chunk: &Chunk, offset: u64) -> Result<Vec<u8>, ImportError> {
        let mut bytes = vec![0; chunk.length as usize];
        self.opened.parts.read(offset, &mut bytes)?;
        if Blake3::of(&bytes) == chunk.blake3 {
            return Ok(bytes);
        }
        let blamed = self.opened.parts.blame(offset..offset + u64::from(chunk.length))?;
        let other = || ImportError::Contradiction(format!("{} has other bytes", named(file, chunk)));
        Err(blamed.unwrap_or_else(other))
    }

    fn rebuilt(&mut self, file: &FileEntry, at: usize, chunk: &Chunk) -> Result<Vec<u8>, ImportError> {
        let damaged = || ImportError::BaseDamaged { what: named(file, chunk) };
        let (delta, record) = self.one.block(at, chunk.index).ok_or_else(damaged)?;
        let begin = delta.offset + record.offset;
        let mut block = vec![0; record.stored as usize];
        self.opened.parts.read(begin, &mut block)?;
        let mut bytes = vec![0; record.length as usize];
        let base = match record.base {
            None => Ok(()),
            Some(span) => {
                let blob = self.importer.store.open_blob(&delta.base.files()[span.file].sha256);
                blob.and_then(|blob| blob.read_exact_at(&mut bytes, span.offset))
            }
        };
        let decoded = self.decoder.decode(record, &block, &mut bytes);
        if base.is_ok() && decoded.is_ok() && Blake3::of(&bytes) == chunk.blake3 {
            return Ok(bytes);
        }
        // The block is not what was signed, or none, or the base is not what it was, or what was signed is a lie.
        if let Some(damage) = self.opened.parts.blame(begin..begin + u64::from(record.stored))? {
            return Err(damage);
        }
        decoded.map_err(|source| ImportError::Block { what: named(file, chunk), source })?;
        if !self.is_whole(delta, record) {
            return Err(damaged());
        }
        Err(ImportError::Contradiction(format!("the block for {} makes other bytes", named(file, chunk))))
    }

    /// Whether the base's file is as it was when it was verified. Reads it whole.
    fn is_whole(&self, delta: &Delta, record: &Record) -> bool {
        let Some(span) = record.base else { return true };
        let sha256 = delta.base.files()[span.file].sha256;
        let found = self.importer.store.open_blob(&sha256).and_then(digest_of);
        found.is_ok_and(|found| found == sha256)
    }
}

fn named(file: &FileEntry, chunk: &Chunk) -> String {
    format!("chunk {} of {} (bytes {}..{})", chunk.index, file.path, chunk.offset, chunk.end())
}

/// All chunks are right; is the file? If not, its manifest contradicts itself.
fn check_file(file: &FileEntry, sha256: Sha256) -> Result<(), ImportError> {
    let found = Digest::from_bytes(sha256.finalize().into());
    if found == file.sha256 {
        return Ok(());
    }
    let (path, expected) = (&file.path, file.sha256);
    Err(ImportError::Contradiction(format!(
        "all chunks of {path} match, its SHA-256 is {found} and not {expected}"
    )))
}
