//! Who writes down what was imported: the import itself while no agent runs, the running agent otherwise.

use std::{fmt::Debug, path::Path, sync::Arc};

use nave_agent_plan::{Brought, Imports};
use nave_names::Digest;

use super::{ImportError, Turn};
use crate::{
    execute::{News, Spoke},
    pull::Puller,
    state::{self, Found, StateFile},
    store::Store,
};

/// What an import has to say, and to whom. Each call returns when it has been written down.
pub trait Custody: Debug + Send + Sync {
    /// What was imported before.
    ///
    /// # Errors
    /// The disk.
    fn imports(&self) -> Result<Imports, ImportError>;
    /// A version is about to be brought; whose turn it is, where others work on versions too.
    ///
    /// # Errors
    /// The agent is ending.
    fn begins(&self, digest: &Digest) -> Result<Option<Turn>, ImportError>;
    /// A version is in the store.
    ///
    /// # Errors
    /// It could not be written down.
    fn arrived(&self, digest: &Digest) -> Result<(), ImportError>;
    /// All of a bundle is in the store.
    ///
    /// # Errors
    /// It could not be written down.
    fn complete(&self, source: &str, brought: Brought) -> Result<(), ImportError>;
    /// The import is over.
    fn ends(&self);
}

fn load(file: &StateFile) -> Result<Imports, ImportError> {
    match file.load()? {
        Found::Kept(imports) => Ok(imports),
        Found::Nothing => Ok(Imports::default()),
        Found::Corrupt(problem) => Err(ImportError::ImportsCorrupt(problem)),
    }
}

/// No agent runs: the store is this process's, and so are the records.
#[derive(Debug)]
pub struct Alone {
    file: StateFile,
    store: Store,
}

impl Alone {
    /// For the spoke with this state folder, whose store is open here.
    pub fn new(state_dir: &Path, store: Store) -> Self {
        Self { file: state::imports(state_dir), store }
    }

    fn change(&self, change: impl FnOnce(&mut Imports)) -> Result<(), ImportError> {
        let mut imports = load(&self.file)?;
        change(&mut imports);
        self.file.save(&imports)?;
        // Where nobody ever said what must stay, everything does.
        let Some(mut roots) = self.store.roots()? else { return Ok(()) };
        for digest in imports.waiting() {
            roots.0.entry(*digest).or_insert_with(|| "imported".to_owned());
        }
        Ok(self.store.set_roots(&roots)?)
    }
}

impl Custody for Alone {
    fn imports(&self) -> Result<Imports, ImportError> {
        load(&self.file)
    }

    fn begins(&self, _digest: &Digest) -> Result<Option<Turn>, ImportError> {
        Ok(None)
    }

    fn arrived(&self, digest: &Digest) -> Result<(), ImportError> {
        self.change(|imports| imports.arrived(*digest))
    }

    fn complete(&self, source: &str, brought: Brought) -> Result<(), ImportError> {
        self.change(|imports| imports.complete(source, brought))
    }

    fn ends(&self) {}
}

/// The agent runs: its executor owns the records, and its pulls work on the same versions.
#[derive(Debug)]
pub struct Running {
    file: StateFile,
    spoke: Spoke,
    puller: Arc<Puller>,
}

impl Running {
    /// For the agent with this state folder.
    pub fn new(state_dir: &Path, spoke: Spoke, puller: Arc<Puller>) -> Self {
        Self { file: state::imports(state_dir), spoke, puller }
    }

    fn tell(&self, news: News) -> Result<(), ImportError> {
        self.spoke.notify(news).map_err(ImportError::Agent)
    }
}

impl Custody for Running {
    fn imports(&self) -> Result<Imports, ImportError> {
        load(&self.file)
    }

    fn begins(&self, digest: &Digest) -> Result<Option<Turn>, ImportError> {
        self.tell(News::Begins(*digest))?;
        Ok(Some(self.puller.turn(*digest)))
    }

    fn arrived(&self, digest: &Digest) -> Result<(), ImportError> {
        self.tell(News::Arrived(*digest))
    }

    fn complete(&self, source: &str, brought: Brought) -> Result<(), ImportError> {
        self.tell(News::Complete { source: source.to_owned(), brought })
    }

    fn ends(&self) {
        if let Err(error) = self.tell(News::Ends) {
            tracing::debug!(%error, "the agent ended before its import");
        }
    }
}
