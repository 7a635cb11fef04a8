//! Gives versions to runtimes and takes them away: each method is one step of a plan, may be repeated after a crash, and
//! ends with the disk in a state that the next plan understands. Layout below the models folder:
//!
//! ```text
//! <model>/<version>-<digest12>/   a version's files, laid out from the store
//! <model>/current                 a link to the folder of the version that is served
//! ```

mod error;
mod hook;
mod link;
mod scan;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nave_agent_plan::{Active, Folder};
use nave_names::ModelName;

pub use error::ActivateError;
pub use hook::{Hook, HookAction};
pub use scan::{ModelScan, scan_all, scan_model};

use crate::store::Store;

/// The name of the runtime that is only folders.
pub const FILES: &str = "files";
/// The name of the runtime that is told by a command or a call.
pub const HOOK: &str = "hook";

/// Knows the models folder, the store and the hook.
#[derive(Clone, Debug)]
pub struct Activator {
    store: Store,
    models: PathBuf,
    hook: Option<Hook>,
}

impl Activator {
    /// One that lays models out below `models`.
    pub fn new(store: Store, models: PathBuf, hook: Option<Hook>) -> Self {
        Self { store, models, hook }
    }

    /// Where a model's versions lie.
    pub fn models(&self) -> &Path {
        &self.models
    }

    /// The store that versions are laid out from.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Lays a version's folder out. The store hands out only what it verified.
    ///
    /// # Errors
    /// See [`ActivateError`].
    pub async fn stage(&self, model: &ModelName, active: &Active) -> Result<(), ActivateError> {
        let store = self.store.clone();
        let (digest, target) = (active.digest, self.path(model, &active.folder()));
        blocking(move || store.materialise(&digest, &target).map_err(ActivateError::from)).await?;
        Ok(())
    }

    /// Points `current` at the version and tells the runtime.
    ///
    /// # Errors
    /// See [`ActivateError`]. The link may have been switched: the next step reverts it.
    pub async fn activate(&self, model: &ModelName, active: &Active) -> Result<(), ActivateError> {
        self.switch(model, active.folder()).await?;
        self.tell(HookAction::Activate, model, active).await
    }

    /// Asks whether the version works, until it says so or the time is up. `old` is what was served until now.
    ///
    /// # Errors
    /// See [`ActivateError`].
    pub async fn probe(
        &self,
        model: &ModelName,
        active: &Active,
        old: Option<&Active>,
        patience: Duration,
    ) -> Result<(), ActivateError> {
        let (store, models) = (self.store.clone(), self.models.clone());
        let (name, folder, digest) = (model.clone(), active.folder(), active.digest);
        blocking(move || link::check(&store, &models.join(name.as_str()), &folder, &digest)).await?;
        if active.runtime == HOOK {
            self.hook()?.wait_healthy(model, active, patience).await?;
        } else if let Some(old) = old.filter(|old| old.runtime == HOOK) {
            // The model moved to another runtime; the hook's version has done its work.
            self.tell(HookAction::Deactivate, model, old).await?;
        }
        Ok(())
    }

    /// Back to `serving`, or to nothing where nothing was served.
    ///
    /// # Errors
    /// See [`ActivateError`].
    pub async fn revert(
        &self,
        model: &ModelName,
        switching: Option<&Active>,
        serving: Option<&Active>,
    ) -> Result<(), ActivateError> {
        match serving {
            Some(serving) => {
                self.switch(model, serving.folder()).await?;
                self.tell(HookAction::Activate, model, serving).await?;
            }
            None => self.unlink(model).await?,
        }
        let still_told = serving.is_some_and(|serving| serving.runtime == HOOK);
        match switching.filter(|_| !still_told) {
            Some(switching) => self.tell(HookAction::Deactivate, model, switching).await,
            None => Ok(()),
        }
    }

    /// Drops a folder that nothing serves.
    ///
    /// # Errors
    /// See [`ActivateError`].
    pub async fn retire(&self, model: &ModelName, folder: &Folder) -> Result<(), ActivateError> {
        let path = self.path(model, folder);
        blocking(move || remove_folder(&path)).await
    }

    /// Takes the model away: the runtime first, then the link, then the folders.
    ///
    /// # Errors
    /// See [`ActivateError`].
    pub async fn remove(&self, model: &ModelName, serving: Option<&Active>) -> Result<(), ActivateError> {
        if let Some(serving) = serving {
            self.tell(HookAction::Deactivate, model, serving).await?;
        }
        self.unlink(model).await?;
        let dir = self.models.join(model.as_str());
        blocking(move || remove_model(&dir)).await
    }

    /// Whether what is served still works.
    ///
    /// # Errors
    /// What does not.
    pub async fn check_health(&self, model: &ModelName, serving: &Active) -> Result<(), ActivateError> {
        match &self.hook {
            Some(hook) if serving.runtime == HOOK => hook.ask_health(model, serving).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Looks at one model's folder.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn scan(&self, model: &ModelName) -> Result<ModelScan, ActivateError> {
        let (store, dir) = (self.store.clone(), self.models.join(model.as_str()));
        blocking(move || scan_model(&store, &dir)).await
    }

    fn path(&self, model: &ModelName, folder: &Folder) -> PathBuf {
        self.models.join(model.as_str()).join(folder.to_string())
    }

    fn hook(&self) -> Result<&Hook, ActivateError> {
        self.hook.as_ref().ok_or(ActivateError::NoHook)
    }

    async fn tell(
        &self,
        action: HookAction,
        model: &ModelName,
        active: &Active,
    ) -> Result<(), ActivateError> {
        if active.runtime != HOOK {
            return Ok(());
        }
        let path = self.path(model, &active.folder());
        self.hook()?.call(action, model, active, &path).await
    }

    async fn switch(&self, model: &ModelName, folder: Folder) -> Result<(), ActivateError> {
        let dir = self.models.join(model.as_str());
        blocking(move || link::switch(&dir, &folder)).await
    }

    async fn unlink(&self, model: &ModelName) -> Result<(), ActivateError> {
        let dir = self.models.join(model.as_str());
        blocking(move || link::unlink(&dir)).await
    }
}

/// Takes away what Nave laid out, and the model's own folder if nobody else put something there.
fn remove_model(dir: &Path) -> Result<(), ActivateError> {
    for folder in scan::folders(dir)? {
        remove_folder(&dir.join(folder.to_string()))?;
    }
    match fs::remove_dir(dir) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(ActivateError::io("remove", dir)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_folder(path: &Path) -> Result<(), ActivateError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ActivateError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ActivateError> + Send + 'static,
) -> Result<T, ActivateError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ActivateError::Aborted))
}
