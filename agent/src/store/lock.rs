//! One writer at a time: an advisory lock that the kernel drops when its holder dies, however it dies.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::StoreError;

/// Every process id is as long, so that a short one leaves nothing of a long one.
const WIDTH: usize = 10;

/// Held while the file is open.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn acquire(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text).is_ok() && !text.trim().is_empty();
                let holder = if read { text.trim().to_owned() } else { "unknown".to_owned() };
                return Err(StoreError::InUse { path: dir.to_owned(), holder });
            }
            Err(error) => return Err(StoreError::io("lock", path)(error.into())),
        }
        // Over what the last holder wrote, which takes no room; who holds it is for people, and a full disk may not say.
        match writeln!(file, "{:<WIDTH$}", std::process::id()) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            written => written.map_err(StoreError::io("write", &path))?,
        }
        Ok(Self { _file: file })
    }
}
