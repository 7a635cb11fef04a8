//! The parts of a bundle, read as if they were one file.

use std::{
    fs::File,
    io::{self, Read as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nave_bundle::{Bundle, Part, Section};
use nave_names::Digest;
use sha2::{Digest as _, Sha256};

use super::{
    ImportError,
    opened::{open_file, unreadable},
};

/// The SHA-256 of a file, from where it stands.
pub(super) fn digest_of(mut file: File) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// All of them were there when this was made, each with its length.
#[derive(Debug)]
pub(super) struct Parts {
    dir: PathBuf,
    parts: Vec<Part>,
    /// Where each begins.
    begins: Vec<u64>,
    /// The one that was read last: 10,000 parts are more files than a process may have open.
    open: Mutex<Option<(usize, Arc<File>)>>,
}

impl Parts {
    pub(super) fn open(dir: &Path, bundle: &Bundle) -> Result<Self, ImportError> {
        let (mut begins, mut begin) = (Vec::new(), 0);
        for Part { name, size, .. } in &bundle.parts {
            let found = open_file(dir, name)?;
            let (_, found) = found.ok_or_else(|| ImportError::FileMissing { file: name.clone() })?;
            if found != *size {
                return Err(ImportError::Torn { file: name.clone(), expected: *size, found });
            }
            begins.push(begin);
            begin += size;
        }
        Ok(Self { dir: dir.to_owned(), parts: bundle.parts.clone(), begins, open: Mutex::default() })
    }

    /// Reads a section into memory.
    pub(super) fn section(&self, section: &Section) -> Result<Vec<u8>, ImportError> {
        let mut bytes = vec![0; usize::try_from(section.length).unwrap_or(usize::MAX)];
        self.read(section.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads exactly `buffer` from `offset` on.
    pub(super) fn read(&self, offset: u64, mut buffer: &mut [u8]) -> Result<(), ImportError> {
        for (at, bytes) in self.cut(offset..offset + buffer.len() as u64) {
            let (now, rest) = buffer.split_at_mut((bytes.end - bytes.start) as usize);
            let file = self.file(at)?;
            file.read_exact_at(now, bytes.start).map_err(|error| self.torn(at, error))?;
            buffer = rest;
        }
        if buffer.is_empty() {
            return Ok(());
        }
        Err(ImportError::Contradiction(format!("its parts end before byte {}", offset + buffer.len() as u64)))
    }

    /// Of the parts that these bytes lie in, the first that is not what was signed. Reads them whole.
    pub(super) fn blame(&self, bytes: Range<u64>) -> Result<Option<ImportError>, ImportError> {
        for (at, _) in self.cut(bytes) {
            let Part { name, sha256, .. } = &self.parts[at];
            let Some((file, _)) = open_file(&self.dir, name)? else {
                return Ok(Some(ImportError::FileMissing { file: name.clone() }));
            };
            let found = digest_of(file).map_err(|error| unreadable(self.dir.join(name), error))?;
            if found != *sha256 {
                return Ok(Some(ImportError::Damaged { file: name.clone(), expected: *sha256, found }));
            }
        }
        Ok(None)
    }

    /// The parts that hold these bytes, and which of each.
    fn cut(&self, bytes: Range<u64>) -> Vec<(usize, Range<u64>)> {
        let first = self.begins.partition_point(|begin| *begin <= bytes.start).saturating_sub(1);
        let mut found = Vec::new();
        for (at, part) in self.parts.iter().enumerate().skip(first) {
            let begin = self.begins[at];
            let (from, to) = (bytes.start.max(begin), bytes.end.min(begin + part.size));
            if from >= to {
                break;
            }
            found.push((at, from - begin..to - begin));
        }
        found
    }

    fn file(&self, at: usize) -> Result<Arc<File>, ImportError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((part, file)) = &*open
            && *part == at
        {
            return Ok(Arc::clone(file));
        }
        let name = &self.parts[at].name;
        let found = open_file(&self.dir, name)?;
        let (file, _) = found.ok_or_else(|| ImportError::FileMissing { file: name.clone() })?;
        let file = Arc::new(file);
        *open = Some((at, Arc::clone(&file)));
        Ok(file)
    }

    /// A part that became shorter, or a disk that fails.
    fn torn(&self, at: usize, error: io::Error) -> ImportError {
        let Part { name, size, .. } = &self.parts[at];
        if error.kind() != io::ErrorKind::UnexpectedEof {
            return unreadable(self.dir.join(name), error);
        }
        let found = std::fs::metadata(self.dir.join(name)).map_or(0, |found| found.len());
        ImportError::Torn { file: name.clone(), expected: *size, found }
    }
}
