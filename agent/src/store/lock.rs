//! One writer at a time: an advisory lock that the kernel drops when its holder dies, however it dies.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::StoreError;

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
        let sign = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        sign(&mut file).map_err(StoreError::io("write", &path))?;
        Ok(Self { _file: file })
    }
}
