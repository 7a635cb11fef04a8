//! Opens what is verified for others to read: a blob, or, of a pull under way, the part that its verified chunks lie in.

use std::{fs::File, io};

use nave_names::Digest;

use super::{Store, StoreError};

impl Store {
    /// A file of a version. Of one that is still being pulled the caller knows which chunks are verified.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`] where neither is there.
    pub(crate) fn open_verified(&self, version: &Digest, sha256: &Digest) -> Result<File, StoreError> {
        let path = self.staging_path(version).join(format!("{}.part", sha256.to_hex()));
        // A part that is published between two looks is a blob by the last one.
        let looks: [&dyn Fn() -> io::Result<File>; 3] =
            [&|| self.open_blob(sha256), &|| File::open(&path), &|| self.open_blob(sha256)];
        for look in looks {
            match look() {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("open", &path)(error)),
            }
        }
        Err(StoreError::NotHeld(*version))
    }
}
