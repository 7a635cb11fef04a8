//! Room on the disk: looked up and promised before the first byte of a pull, so that a pull that cannot end does not
//! begin, and a full disk is an answer with numbers.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{PoisonError, atomic::Ordering},
};

use super::{Store, StoreError, gc::entries};

/// Left free beyond what a pull writes: journals, folders, and the ledger and logs of the agent itself.
const MARGIN: u64 = 32 << 20;

/// The file system that the store lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that may still be written.
    pub available: u64,
}

/// Bytes that a running pull will write; given back when dropped.
#[derive(Debug)]
pub(crate) struct Promise {
    store: Store,
    bytes: u64,
}

impl Space {
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

    /// The room that the store has: the file system's, or what its quota leaves, where that is less.
    ///
    /// # Errors
    /// What the file system says.
    pub fn room(&self) -> Result<Space, StoreError> {
        let space = self.space()?;
        let quota = self.inner.quota.load(Ordering::Relaxed);
        if quota == u64::MAX {
            return Ok(space);
        }
        let left = quota.saturating_sub(taken(self.dir())?);
        Ok(Space { total: space.total.min(quota), available: space.available.min(left) })
    }

    /// Promises room for `bytes` more, or says what is missing.
    pub(crate) fn promise(&self, bytes: u64) -> Result<Promise, StoreError> {
        let mut promised = self.inner.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let available = self.room()?.available;
        let needed = bytes.saturating_add(MARGIN);
        if bytes > 0 && needed > available.saturating_sub(*promised) {
            let path = self.dir().to_owned();
            return Err(StoreError::DiskFull { path, needed, available, reserved: *promised });
        }
        *promised += bytes;
        Ok(Promise { store: self.clone(), bytes })
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
}
