//! A file that is being fetched: its bytes at their places, and the journal of the chunks that are there.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{IoSlice, Read as _, Seek as _, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nave_names::Digest;
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::{StoreError, journal};

/// Parts that are open at once, each with its journal: a version may have more files than a process may have open.
const MOST_OPEN: usize = 64;
/// Where a process may have few files open, this part of them is for parts and journals; the rest is for connections.
const PART_OF_LIMIT: u64 = 8;

/// One part and its journal. Written to by several threads at once, each at its own offsets.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    journal_path: PathBuf,
    header: Vec<u8>,
    files: Arc<OpenFiles>,
}

/// The parts of a pull that were used last, open.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    most: usize,
    open: Mutex<VecDeque<(PathBuf, Arc<Open>)>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    journal: Mutex<File>,
}

impl Default for OpenFiles {
    fn default() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(limit / PART_OF_LIMIT / 2).unwrap_or(MOST_OPEN).clamp(1, MOST_OPEN);
        Self { most, open: Mutex::default() }
    }
}

impl OpenFiles {
    /// Whoever has one uses it on, although another took its place here.
    fn get(&self, part: &Part) -> Result<Arc<Open>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().position(|(path, _)| *path == part.path).and_then(|at| open.remove(at));
        let found = match known {
            Some((_, found)) => found,
            // Appending writes: a record of another thread is never overwritten.
            None => Arc::new(Open {
                file: self::open(&part.path)?,
                journal: Mutex::new(append(&part.journal_path)?),
            }),
        };
        open.push_back((part.path.clone(), Arc::clone(&found)));
        if open.len() > self.most {
            open.pop_front();
        }
        Ok(found)
    }
}

impl Part {
    /// Opens or makes the part of a file of these chunks in `dir`, with the chunks that its journal names (to be hashed
    /// before use).
    pub(super) fn open(
        dir: &Path,
        sha256: &Digest,
        size: u64,
        chunks: usize,
        files: &Arc<OpenFiles>,
    ) -> Result<(Self, Vec<u32>), StoreError> {
        let path = part_path(dir, sha256);
        let journal_path = path.with_extension("journal");
        drop(open(&path)?);
        let mut journal = open(&journal_path)?;

        let mut bytes = Vec::new();
        journal.read_to_end(&mut bytes).map_err(StoreError::io("read", &journal_path))?;
        let header = journal::header(sha256, size);
        let (mut named, good) = journal::read(&header, &bytes, chunks);
        if good == 0 {
            named.clear();
            journal.set_len(0).map_err(StoreError::io("empty", &journal_path))?;
            journal.rewind().map_err(StoreError::io("empty", &journal_path))?;
            journal.write_all(&header).map_err(StoreError::io("write", &journal_path))?;
        } else {
            journal.set_len(good as u64).map_err(StoreError::io("cut", &journal_path))?;
        }
        Ok((Self { path, journal_path, header, files: Arc::clone(files) }, named))
    }

    /// Sets aside room for the whole file, and gives it its length.
    pub(crate) fn reserve(&self, size: u64) -> Result<(), StoreError> {
        let open = self.files.get(self)?;
        match fallocate(&open.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                open.file.set_len(size).map_err(StoreError::io("extend", &self.path))
            }
            Err(error) => Err(StoreError::io("set aside room for", &self.path)(error.into())),
        }
    }

    /// Writes pieces that follow one another, from `offset` on.
    pub(crate) fn write(&self, mut offset: u64, pieces: &[impl AsRef<[u8]>]) -> Result<(), StoreError> {
        let open = self.files.get(self)?;
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece.as_ref())).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            // Linux takes at most 1,024 slices in one call.
            let most = rest.len().min(1_024);
            let written = match rustix::io::pwritev(&open.file, &rest[..most], offset) {
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
        let open = self.files.get(self)?;
        let mut journal = open.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.write_all(&record).map_err(StoreError::io("write the journal of", &self.path))
    }

    /// Reads exactly `buffer` from `offset` on.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.files.get(self)?.file.read_exact_at(buffer, offset).map_err(StoreError::io("read", &self.path))
    }

    /// Makes the disk write what was written so far.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.files.get(self)?.file.sync_data().map_err(StoreError::io("sync", &self.path))
    }

    /// Forgets what the journal says, because the file as a whole is wrong.
    pub(crate) fn forget(&self) -> Result<(), StoreError> {
        let open = self.files.get(self)?;
        let journal = open.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.set_len(self.header.len() as u64).map_err(StoreError::io("cut the journal of", &self.path))
    }

    /// Where its bytes lie.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of disk that the part takes already.
    pub(crate) fn allocated(dir: &Path, sha256: &Digest, size: u64) -> u64 {
        fs::metadata(part_path(dir, sha256)).map_or(0, |found| found.blocks().saturating_mul(512).min(size))
    }
}

/// Where the part of a file lies.
pub(super) fn part_path(dir: &Path, sha256: &Digest) -> PathBuf {
    dir.join(format!("{}.part", sha256.to_hex()))
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
