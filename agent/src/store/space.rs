//! Room on the disk: looked up and promised before the first byte of a pull, so that a pull that cannot end does not
//! begin, and a full disk is an answer with numbers.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{PoisonError, atomic::Ordering},
};

use super::{ColdTier, Store, StoreError, gc::entries};

/// Left free beyond what a pull writes: journals, folders, and the ledger and logs of the agent itself. A sixteenth of a
/// small store.
const MARGIN: u64 = 32 << 20;
/// Below this much room, or a tenth of it where it is small, a spoke is no place for another model.
const LEAST_ROOM: u64 = 256 << 20;

/// The file system that the store lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that may still be written.
    pub available: u64,
}

/// What is taken and what is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    disk: Space,
    /// Bytes that the store takes, and the most that it may take, where that is limited.
    quota: Option<(u64, u64)>,
}

/// Too little room for another model; says so in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    path: PathBuf,
    available: u64,
    least: u64,
    usage: Usage,
    /// What is so on the cold tier, in words.
    cold: String,
}

/// Bytes that a running pull will write; given back when dropped.
#[derive(Debug)]
pub(crate) struct Promise {
    store: Store,
    bytes: u64,
}

impl Space {
    /// Of the file system that a path is on, whether there is something at the path or not; 0 where nobody can say.
    pub(super) fn around(path: &Path) -> Self {
        path.ancestors().find_map(|path| Self::of(path).ok()).unwrap_or(Self { total: 0, available: 0 })
    }

    fn of(dir: &Path) -> Result<Self, StoreError> {
        let found = rustix::fs::statvfs(dir)
            .map_err(|error| StoreError::io("ask the free space of", dir)(error.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self { total: bytes(found.f_blocks), available: bytes(found.f_bavail) })
    }
}

impl Store {
    /// The room on the file system that the store lies on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn space(&self) -> Result<Space, StoreError> {
        Space::of(self.dir())
    }

    /// Sets the most bytes that the store may take; pulls that would need more do not begin.
    pub fn set_quota(&self, bytes: u64) {
        self.inner.quota.store(bytes, Ordering::Relaxed);
    }

    /// The room that the store has, where it is less by its quota than by the file system. What nothing needs counts as
    /// free.
    ///
    /// # Errors
    /// What the file system says, or [`StoreError::Damaged`].
    pub fn room(&self) -> Result<Space, StoreError> {
        Ok(self.usage()?.room(self.evictable()?))
    }

    /// What is missing for another model; `None` = nothing.
    ///
    /// # Errors
    /// What the file system says, or [`StoreError::Damaged`].
    pub fn shortage(&self) -> Result<Option<Shortage>, StoreError> {
        let usage = self.usage()?;
        let Space { total, available } = usage.room(self.evictable()?);
        let least = LEAST_ROOM.min(total / 10);
        if available >= least {
            return Ok(None);
        }
        let cold = match self.cold_usage()? {
            Some((usage, limits)) => format!("; on the cold tier {}: {usage}", limits.dir.display()),
            None => String::new(),
        };
        Ok(Some(Shortage { path: self.dir().to_owned(), available, least, usage, cold }))
    }

    /// What is free on both tiers, in words.
    pub fn tiers_in_words(&self) -> String {
        let say = |usage: Result<Usage, StoreError>| match usage {
            Ok(usage) => usage.to_string(),
            Err(error) => error.to_string(),
        };
        let hot = format!("hot tier {}: {}", self.dir().display(), say(self.usage()));
        match self.cold_usage().transpose() {
            None => hot,
            Some(Err(error)) => format!("{hot}; cold tier: {error}"),
            Some(Ok((usage, limits))) => format!("{hot}; cold tier {}: {usage}", limits.dir.display()),
        }
    }

    /// How much there is for the store, and how much of it is taken: of its quota, or of the file system.
    pub(super) fn taken_of(&self) -> Result<(u64, u64), StoreError> {
        Ok(self.usage()?.taken_of())
    }

    fn usage(&self) -> Result<Usage, StoreError> {
        let quota = self.inner.quota.load(Ordering::Relaxed);
        Usage::of(self.dir(), (quota != u64::MAX).then_some(quota))
    }

    /// Of the cold tier, where it is there and takes anything.
    pub(super) fn cold_usage(&self) -> Result<Option<(Usage, ColdTier)>, StoreError> {
        let Some(dir) = self.cold_dir() else { return Ok(None) };
        let Some(limits) = self.cold().limits.clone() else { return Ok(None) };
        Ok(Some((Usage::of(&dir, limits.quota)?, limits)))
    }

    /// Promises room for `bytes` more, or says what is missing. Versions that nothing needs make place where they can.
    pub(crate) fn promise(&self, bytes: u64) -> Result<Promise, StoreError> {
        match self.try_promise(bytes) {
            Err(StoreError::DiskFull { needed, available, reserved, .. })
                if self.make_room(needed.saturating_add(reserved).saturating_sub(available))? =>
            {
                self.try_promise(bytes)
            }
            done => done,
        }
    }

    fn try_promise(&self, bytes: u64) -> Result<Promise, StoreError> {
        let mut promised = self.inner.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let Space { total, available } = self.usage()?.room(0);
        let needed = bytes.saturating_add(margin(total));
        if bytes > 0 && needed > available.saturating_sub(*promised) {
            let path = self.dir().to_owned();
            return Err(StoreError::DiskFull { path, needed, available, reserved: *promised });
        }
        *promised += bytes;
        Ok(Promise { store: self.clone(), bytes })
    }
}

/// What stays free of so much.
fn margin(total: u64) -> u64 {
    MARGIN.min(total / 16)
}

impl Usage {
    fn of(dir: &Path, quota: Option<u64>) -> Result<Self, StoreError> {
        let quota = quota.map(|quota| Ok::<_, StoreError>((taken(dir)?, quota))).transpose()?;
        Ok(Self { disk: Space::of(dir)?, quota })
    }

    /// How much there is, and how much of it is taken: of the quota, or of the file system.
    pub(super) fn taken_of(self) -> (u64, u64) {
        let Self { disk, quota } = self;
        let of_disk = (disk.total, disk.total.saturating_sub(disk.available));
        quota.map_or(of_disk, |(taken, quota)| (quota, taken))
    }

    /// Bytes that may still be written.
    pub(super) fn left_beside_margin(self) -> u64 {
        let Space { total, available } = self.room(0);
        available.saturating_sub(margin(total))
    }

    fn room(self, evictable: u64) -> Space {
        let Self { disk, quota } = self;
        let available = disk.available.saturating_add(evictable).min(disk.total);
        let Some((taken, quota)) = quota else { return Space { total: disk.total, available } };
        let left = quota.saturating_sub(taken.saturating_sub(evictable));
        Space { total: disk.total.min(quota), available: available.min(left) }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, available, least, usage, cold } = self;
        write!(
            f,
            "{}: {available} bytes are free, {least} are needed to be ready for another model; {usage}{cold}",
            path.display()
        )
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { disk, quota } = self;
        write!(f, "the file system has {} of {} bytes free", disk.available, disk.total)?;
        match quota {
            Some((taken, quota)) => write!(f, ", the store takes {taken} of its quota of {quota} bytes"),
            None => Ok(()),
        }
    }
}

/// Bytes that the files below a folder take on the disk.
fn taken(dir: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for path in entries(dir)? {
        bytes += match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => taken(&path)?,
            Ok(found) => found.blocks() * 512,
            // A part that was published or dropped meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(StoreError::io("look at", path)(error)),
        };
    }
    Ok(bytes)
}

impl Promise {
    /// Gives back what the file system itself has set aside or taken by now.
    pub(crate) fn settle(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        let mut promised = self.store.inner.promised.lock().unwrap_or_else(PoisonError::into_inner);
        *promised = promised.saturating_sub(bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.settle(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_leaves_less_room_than_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.room().unwrap().total, store.space().unwrap().total);
        fs::write(dir.path().join("blobs/x"), vec![1; 1 << 20]).unwrap();
        store.set_quota(64 << 20);
        let room = store.room().unwrap();
        assert_eq!(room.total, 64 << 20);
        assert!(room.available <= 63 << 20, "{room:?}");
        let refused = store.promise(60 << 20).unwrap_err();
        assert_eq!(refused.reason(), "DiskFull");
        assert!(store.promise(8 << 20).is_ok());
    }

    #[test]
    fn a_shortage_has_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.set_quota(10 << 20);
        fs::write(dir.path().join("blobs/x"), vec![1; 10 << 20]).unwrap();
        let words = store.shortage().unwrap().unwrap().to_string();
        assert!(words.contains(": 0 bytes are free, 1048576 are needed"), "{words}");
        assert!(words.contains("of its quota of 10485760 bytes"), "{words}");
    }
}
