//! `nave-agent import`: fills the store from a bundle, without a hub. Everything is looked at before anything is written:
//! who signed, which generation it is, whether each part and each base is there, whether the disk has room. Then one version
//! after the other is put together in the store's staging like a pull's, each chunk compared with its manifest, and
//! becomes visible when it is whole. Killed at any moment, the next import of the bundle goes on where it stopped.

mod custody;
mod door;
mod error;
mod fill;
mod incoming;
mod opened;
mod parts;
mod trust;

use std::{path::Path, sync::Arc};

use nave_agent_plan::Brought;
use nave_names::Digest;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::{Promise, Store};
use incoming::Incoming;
use opened::Opened;

pub use custody::{Alone, Custody, Running};
pub use door::{Door, Refused, ask};
pub use error::{Class, ImportError};
pub use trust::{Anchor, Trusted};

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportProgress {
    /// Bytes of the versions that are on the disk and verified.
    pub bytes_done: u64,
    /// Bytes of the versions; 0 = not known yet.
    pub bytes_total: u64,
}

/// What an import did.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// What the bundle was a generation of.
    pub source: String,
    /// Which one.
    pub generation: u64,
    /// Whose signature it was.
    pub signer: String,
    /// One after the other.
    pub versions: Vec<ImportedVersion>,
}

/// One version of a bundle.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedVersion {
    /// What the runtime knows the model by.
    pub model: String,
    /// The version.
    pub version: String,
    /// Of its manifest.
    pub digest: String,
    /// The store held it before.
    pub already_there: bool,
    /// Sum of its files' sizes.
    pub bytes: u64,
    /// Bytes that were read from the bundle.
    pub bytes_read: u64,
    /// Bytes that versions in the store supplied.
    pub bytes_reused: u64,
    /// Bytes that were rebuilt from a version in the store and the bundle's delta.
    pub bytes_rebuilt: u64,
    /// Bytes that an interrupted import or pull had left.
    pub bytes_resumed: u64,
}

/// What an import needs of the spoke.
#[derive(Debug)]
pub struct Importer<'a> {
    /// Where it goes.
    pub store: &'a Store,
    /// Who writes down what is here.
    pub custody: &'a dyn Custody,
    /// Whose bundles count.
    pub trusted: &'a Trusted,
    /// Stops it; what was verified until then is kept.
    pub cancel: &'a CancellationToken,
    /// Told how far it is.
    pub progress: &'a watch::Sender<ImportProgress>,
}

impl Importer<'_> {
    /// Imports the bundle in this folder. Blocks.
    ///
    /// # Errors
    /// [`ImportError`], by name. Versions that were whole by then stay.
    pub fn import(&self, dir: &Path) -> Result<Imported, ImportError> {
        let opened = Opened::open(dir, self.trusted)?;
        let (source, generation) = (opened.bundle.source.to_string(), opened.bundle.generation);
        self.custody.imports()?.judge(&source, generation, &opened.digest)?;
        let incoming = Incoming::all(&opened, self.store)?;
        let mut promise = self.store.promise(incoming::needed(&incoming, self.store))?;
        self.progress.send_modify(|progress| {
            progress.bytes_total = incoming.iter().map(|one| one.manifest.total_size()).sum();
        });
        let over = Over(self.custody);
        let mut versions = Vec::new();
        for one in &incoming {
            versions.push(self.bring(&opened, one, &mut promise)?);
        }
        let held: Vec<Digest> = incoming.iter().map(|one| one.digest).collect();
        let brought = Brought { generation, bundle: opened.digest, versions: held.into_iter().collect() };
        self.custody.complete(&source, brought)?;
        drop(over);
        Ok(Imported { source, generation: generation.0, signer: opened.signer, versions })
    }

    /// One version, from its beginning until the spoke knows that it has it.
    fn bring(
        &self,
        opened: &Opened,
        one: &Incoming,
        promise: &mut Promise,
    ) -> Result<ImportedVersion, ImportError> {
        // Nobody else works on it meanwhile: a pull of it that was under way has ended.
        let turn = self.custody.begins(&one.digest)?;
        let _alone = turn.as_ref().map(|turn| turn.blocking_lock());
        let described = ImportedVersion {
            model: one.version.model.to_string(),
            version: one.version.version.to_string(),
            digest: one.digest.to_string(),
            bytes: one.manifest.total_size(),
            ..ImportedVersion::default()
        };
        if let Some(signature) = &one.signature {
            self.store.keep_signature(&one.digest, signature)?;
        }
        if self.store.has(&one.digest) {
            self.advance(described.bytes);
            self.custody.arrived(&one.digest)?;
            return Ok(ImportedVersion { already_there: true, ..described });
        }
        let (filled, staging) = fill::fill(self, opened, one, described, promise)?;
        // Its blobs are this staging's until the spoke has written down that they stay.
        self.custody.arrived(&one.digest)?;
        drop(staging);
        Ok(filled)
    }

    fn advance(&self, bytes: u64) {
        self.progress.send_modify(|progress| progress.bytes_done += bytes);
    }

    fn check_cancelled(&self) -> Result<(), ImportError> {
        if self.cancel.is_cancelled() { Err(ImportError::Cancelled) } else { Ok(()) }
    }
}

/// Says that the import is over, however it ends.
struct Over<'a>(&'a dyn Custody);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.ends();
    }
}

/// One at a time for each version; the puller's.
pub type Turn = Arc<tokio::sync::Mutex<()>>;
