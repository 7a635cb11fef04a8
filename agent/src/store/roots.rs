//! Versions that must stay: what the ledger desires, what is served, what was served before it. Kept on the disk, so
//! that `nave-agent store gc` by hand knows them too.

use std::{collections::BTreeMap, fs, io};

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
        if self.roots()?.as_ref() == Some(roots) {
            return Ok(());
        }
        let path = self.dir().join(FILE);
        let text =
            serde_json::to_vec_pretty(roots).map_err(|error| StoreError::io("write", &path)(error.into()))?;
        durable::replace(&path, &text, 0o644)
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
