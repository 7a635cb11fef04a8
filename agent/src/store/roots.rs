//! Versions that must stay: what the ledger desires, what is served, what was served before it. Kept on the disk, so
//! that `nave-agent store gc` by hand knows them too.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    sync::PoisonError,
    time::SystemTime,
};

use nave_names::Digest;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, durable};

/// Versions that must stay, each with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roots(pub BTreeMap<Digest, String>);

const FILE: &str = "roots.json";

impl Store {
    /// Replaces the roots. Call it before anything that they protect is relied on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_roots(&self, roots: &Roots) -> Result<(), StoreError> {
        let before = self.roots()?;
        if before.as_ref() == Some(roots) {
            return Ok(());
        }
        let path = self.dir().join(FILE);
        let text =
            serde_json::to_vec_pretty(roots).map_err(|error| StoreError::io("write", &path)(error.into()))?;
        // Not in the middle of a collection by the old ones.
        let _nobody_collects = self.inner.collecting.read().unwrap_or_else(PoisonError::into_inner);
        self.with_spare(StoreError::reason, || durable::replace(&path, &text, 0o644))?;
        let before = before.unwrap_or_default().0.into_keys();
        before
            .filter(|digest| !roots.0.contains_key(digest))
            .for_each(|digest| self.not_needed_from_now(&digest));
        Ok(())
    }

    /// Notes the time, by which versions go when room is short. A hint: without it one goes sooner than it might.
    fn not_needed_from_now(&self, digest: &Digest) {
        let noted =
            File::open(self.manifest_path(digest)).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = noted {
            tracing::debug!(%digest, %error, "cannot note when a version ceased to be needed");
        }
    }

    /// The roots; `None` if nobody ever said what must stay, and then no version may go.
    ///
    /// # Errors
    /// What the file system says, or [`StoreError::Damaged`].
    pub fn roots(&self) -> Result<Option<Roots>, StoreError> {
        let path = self.dir().join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| StoreError::Damaged { what: FILE.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", path)(error)),
        }
    }
}
