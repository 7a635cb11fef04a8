//! Room on the disk: looked up and promised before the first byte of a pull, so that a pull that cannot end does not
//! begin, and a full disk is an answer with numbers.

use std::{path::Path, sync::PoisonError};

use super::{Store, StoreError};

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

    /// Promises room for `bytes` more, or says what is missing.
    pub(crate) fn promise(&self, bytes: u64) -> Result<Promise, StoreError> {
        let mut promised = self.inner.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let available = self.space()?.available;
        let needed = bytes.saturating_add(MARGIN);
        if bytes > 0 && needed > available.saturating_sub(*promised) {
            let path = self.dir().to_owned();
            return Err(StoreError::DiskFull { path, needed, available, reserved: *promised });
        }
        *promised += bytes;
        Ok(Promise { store: self.clone(), bytes })
    }
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
