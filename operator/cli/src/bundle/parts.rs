//! The parts: bytes that come one after the other, cut into files of a bounded size.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nave_bundle::{Part, part_name};
use nave_names::Digest;
use sha2::{Digest as _, Sha256};

/// Writes the parts.
pub(super) struct Writer {
    folder: PathBuf,
    limit: u64,
    done: Vec<Part>,
    open: Option<Open>,
}

struct Open {
    name: String,
    file: File,
    sha256: Sha256,
    size: u64,
}

impl Writer {
    pub(super) fn new(folder: &Path, limit: u64) -> Self {
        Self { folder: folder.to_owned(), limit, done: Vec::new(), open: None }
    }

    /// Where the next byte goes, counted over all parts.
    pub(super) fn position(&self) -> u64 {
        self.done.len() as u64 * self.limit + self.open.as_ref().map_or(0, |open| open.size)
    }

    /// What an export that was interrupted left at the same places.
    pub(super) fn earlier(&self) -> Earlier {
        Earlier { folder: self.folder.clone(), limit: self.limit }
    }

    /// Appends bytes; those that are there already are not written again.
    pub(super) fn put(&mut self, mut bytes: &[u8], are_there: bool) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let open = match &mut self.open {
                Some(open) => open,
                None => self.open.insert(Open::begin(&self.folder, self.done.len() + 1)?),
            };
            let room = usize::try_from(self.limit - open.size).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            open.sha256.update(now);
            if !are_there {
                let writing = || format!("writing {}", self.folder.join(&open.name).display());
                open.file.write_all_at(now, open.size).with_context(writing)?;
            }
            open.size += now.len() as u64;
            if open.size == self.limit {
                self.close()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn close(&mut self) -> anyhow::Result<()> {
        let Some(Open { name, file, sha256, size }) = self.open.take() else { return Ok(()) };
        let writing = || format!("writing {}", self.folder.join(&name).display());
        // A longer one may have been there.
        file.set_len(size).with_context(writing)?;
        file.sync_all().with_context(writing)?;
        self.done.push(Part { name, size, sha256: Digest::from_bytes(sha256.finalize().into()) });
        Ok(())
    }

    /// Ends the last part.
    pub(super) fn finish(mut self) -> anyhow::Result<Vec<Part>> {
        self.close()?;
        Ok(self.done)
    }
}

impl Open {
    fn begin(folder: &Path, number: usize) -> anyhow::Result<Self> {
        let name = part_name(number);
        let path = folder.join(&name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { name, file, sha256: Sha256::new(), size: 0 })
    }
}

/// Parts of an export that was interrupted. What they hold is believed only after it was compared.
#[derive(Clone)]
pub(super) struct Earlier {
    folder: PathBuf,
    limit: u64,
}

impl Earlier {
    /// The bytes at this place, if there are that many.
    pub(super) async fn read(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let earlier = self.clone();
        tokio::task::spawn_blocking(move || earlier.read_now(offset, length)).await.ok()?
    }

    fn read_now(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let end = offset + length;
        // Whether they are there at all, before memory is taken for them.
        let last = self.folder.join(part_name(usize::try_from((end - 1) / self.limit).ok()? + 1));
        if fs::metadata(last).ok()?.len() < (end - 1) % self.limit + 1 {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        let mut done = 0;
        while done < length {
            let at = offset + done;
            let now = (length - done).min(self.limit - at % self.limit);
            let path = self.folder.join(part_name(usize::try_from(at / self.limit).ok()? + 1));
            let (from, to) = (usize::try_from(done).ok()?, usize::try_from(done + now).ok()?);
            File::open(path).ok()?.read_exact_at(&mut bytes[from..to], at % self.limit).ok()?;
            done += now;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_at_the_limit_and_what_is_left_of_another_export_is_found_or_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..25).collect();
        let write = |bytes: &[u8]| {
            let mut writer = Writer::new(folder.path(), 10);
            writer.put(&bytes[..7], false).unwrap();
            writer.put(&bytes[7..], false).unwrap();
            assert_eq!(writer.position(), bytes.len() as u64);
            writer.finish().unwrap()
        };
        let parts = write(&bytes);
        let sizes: Vec<_> = parts.iter().map(|part| (part.name.as_str(), part.size)).collect();
        assert_eq!(sizes, [("part-00001.nave", 10), ("part-00002.nave", 10), ("part-00003.nave", 5)]);
        for (part, bytes) in parts.iter().zip(bytes.chunks(10)) {
            assert_eq!(fs::read(folder.path().join(&part.name)).unwrap(), bytes);
            assert_eq!(part.sha256, Digest::of(bytes));
        }
        let earlier = Writer::new(folder.path(), 10).earlier();
        assert_eq!(earlier.read_now(5, 18), Some(bytes[5..23].to_vec()));
        assert_eq!(earlier.read_now(20, 5), Some(bytes[20..].to_vec()));
        assert_eq!((earlier.read_now(20, 6), earlier.read_now(30, 1)), (None, None));

        let parts = write(&bytes[..22]);
        assert_eq!(parts[2].size, 2);
        assert_eq!(fs::read(folder.path().join("part-00003.nave")).unwrap(), bytes[20..22]);
    }
}
