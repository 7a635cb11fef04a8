//! A file that is being fetched: its bytes at their places, and the journal of the chunks that are there.

use std::{
    fs::{self, File, OpenOptions},
    io::{IoSlice, Read as _, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use nave_manifest::FileEntry;
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::{StoreError, journal};

/// One part and its journal, open. Written to by several threads at once, each at its own offsets.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    journal: Mutex<File>,
    header: Vec<u8>,
}

impl Part {
    /// Opens or makes the part of `entry` in `dir`, with the chunks that its journal names (to be hashed before use).
    pub(super) fn open(dir: &Path, entry: &FileEntry) -> Result<(Self, Vec<u32>), StoreError> {
        let hex = entry.sha256.to_hex();
        let path = dir.join(format!("{hex}.part"));
        let journal_path = dir.join(format!("{hex}.journal"));
        let file = open(&path)?;
        let mut journal = open(&journal_path)?;

        let mut bytes = Vec::new();
        journal.read_to_end(&mut bytes).map_err(StoreError::io("read", &journal_path))?;
        let header = journal::header(&entry.sha256, entry.size);
        let (mut named, good) = journal::read(&header, &bytes, entry.chunks.len());
        if good == 0 {
            named.clear();
            journal.set_len(0).map_err(StoreError::io("empty", &journal_path))?;
            journal.write_all(&header).map_err(StoreError::io("write", &journal_path))?;
        } else {
            journal.set_len(good as u64).map_err(StoreError::io("cut", &journal_path))?;
        }
        // Appending writes: a record of another thread is never overwritten.
        let journal = append(&journal_path)?;
        Ok((Self { path, file, journal: Mutex::new(journal), header }, named))
    }

    /// Sets aside room for the whole file, and gives it its length.
    pub(crate) fn reserve(&self, size: u64) -> Result<(), StoreError> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.file.set_len(size).map_err(StoreError::io("extend", &self.path))
            }
            Err(error) => Err(StoreError::io("set aside room for", &self.path)(error.into())),
        }
    }

    /// Writes pieces that follow one another, from `offset` on.
    pub(crate) fn write(&self, mut offset: u64, pieces: &[Bytes]) -> Result<(), StoreError> {
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            // Linux takes at most 1,024 slices in one call.
            let most = rest.len().min(1_024);
            let written = match rustix::io::pwritev(&self.file, &rest[..most], offset) {
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(StoreError::io("write", &self.path)(error.into())),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Notes that a chunk is written.
    pub(crate) fn record(&self, chunk: u32) -> Result<(), StoreError> {
        let record = journal::record(&self.header, chunk);
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.write_all(&record).map_err(StoreError::io("write the journal of", &self.path))
    }

    /// Reads exactly `buffer` from `offset` on.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.file.read_exact_at(buffer, offset).map_err(StoreError::io("read", &self.path))
    }

    /// Makes the disk write what was written so far.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync", &self.path))
    }

    /// Forgets what the journal says, because the file as a whole is wrong.
    pub(crate) fn forget(&self) -> Result<(), StoreError> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.set_len(self.header.len() as u64).map_err(StoreError::io("cut the journal of", &self.path))
    }

    /// Bytes of disk that the part takes already.
    pub(super) fn allocated(dir: &Path, entry: &FileEntry) -> u64 {
        let path = dir.join(format!("{}.part", entry.sha256.to_hex()));
        fs::metadata(path).map_or(0, |found| found.blocks().saturating_mul(512).min(entry.size))
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io("open", path))
}

fn append(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().append(true).open(path).map_err(StoreError::io("open", path))
}
