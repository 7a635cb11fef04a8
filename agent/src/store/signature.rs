//! Signatures of versions, kept beside the manifests: a spoke without its hub checks them again at every start.

use std::{fs, io, path::PathBuf};

use nave_names::Digest;
use nave_signature::MAX_SIGNATURE_BYTES;

use super::{GcReport, Store, StoreError, durable, gc::entries, parse_hex};

const FOLDER: &str = "signatures";

impl Store {
    /// The signature that was kept for this version, as it came. It proves nothing before it is checked.
    ///
    /// # Errors
    /// What the file system says.
    pub fn signature(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.signature_path(digest);
        match fs::metadata(&path) {
            Ok(found) if found.len() > MAX_SIGNATURE_BYTES => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read signature", path)(error)),
        }
        fs::read(&path).map(Some).map_err(StoreError::io("read signature", path))
    }

    /// Keeps a version's signature, in place of an earlier one.
    pub(crate) fn keep_signature(&self, digest: &Digest, signature: &[u8]) -> Result<(), StoreError> {
        let folder = self.dir().join(FOLDER);
        fs::create_dir_all(&folder).map_err(StoreError::io("create folder", &folder))?;
        durable::replace(&self.signature_path(digest), signature, durable::READ_ONLY)
    }

    /// Removes the signatures of versions that nothing needs any more.
    pub(super) fn remove_signatures(
        &self,
        stays: impl Fn(&Digest) -> bool,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        for path in entries(&self.dir().join(FOLDER))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.strip_suffix(".sig").and_then(parse_hex).is_some_and(|digest| stays(&digest)) {
                continue;
            }
            report.bytes += fs::metadata(&path).map_err(StoreError::io("look at", &path))?.len();
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }

    fn signature_path(&self, digest: &Digest) -> PathBuf {
        self.dir().join(FOLDER).join(format!("{}.sig", digest.to_hex()))
    }
}
