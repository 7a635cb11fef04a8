//! A little room that is kept back, as a file whose blocks are set aside. It is given up when the disk is full and one of
//! the agent's own small files has to be written: what is served, what was told and what must stay are known on a full
//! disk too, and so there is a way out of it.

use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
};

use rustix::fs::{FallocateFlags, fallocate};

use super::{DISK_FULL, Store, StoreError};

/// The ledger of a spoke with a thousand entries is less than half of this.
const SIZE: u64 = 1 << 20;
/// Where less than this is available, the spare would take it from somebody who needs it.
const LEAST_AVAILABLE: u64 = 4 * SIZE;

impl Store {
    /// Sets the spare aside, if it is not there and there is room.
    ///
    /// # Errors
    /// What the file system says; without a spare all else works.
    pub fn keep_spare(&self) -> Result<(), StoreError> {
        let path = self.spare_path();
        if path.exists() || self.space()?.available < LEAST_AVAILABLE {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        let kept = fallocate(&file, FallocateFlags::empty(), 0, SIZE);
        kept.map_err(|error| {
            // What could not be set aside is no spare.
            drop(fs::remove_file(&path));
            StoreError::io("set aside room for", &path)(error.into())
        })
    }

    /// Does something that writes little, and does it again without the spare where the disk is full.
    ///
    /// # Errors
    /// What `write` says; `reason` is its reason in one word.
    pub fn with_spare<T, E>(
        &self,
        reason: impl Fn(&E) -> &'static str,
        write: impl Fn() -> Result<T, E>,
    ) -> Result<T, E> {
        match write() {
            Err(error) if reason(&error) == DISK_FULL && fs::remove_file(self.spare_path()).is_ok() => {
                write()
            }
            done => done,
        }
    }

    fn spare_path(&self) -> PathBuf {
        self.dir().join("spare")
    }
}
