//! What lies in the models folder: which versions, whether they are what their manifests say, and where `current` points.
//! Run at the start, and after each step for its model.

use std::{collections::BTreeMap, fs, io, path::Path};

use nave_agent_plan::Folder;
use nave_names::{Digest, ModelName};

use super::{ActivateError, link};
use crate::store::Store;

/// One model's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelScan {
    /// Version folders, and whether they hold exactly what their manifest says.
    pub folders: BTreeMap<Folder, bool>,
    /// Where `current` points.
    pub linked: Option<Folder>,
}

/// Every model below `models`. Folders that are not named as models are someone else's and left alone.
///
/// # Errors
/// What the file system says.
pub fn scan_all(store: &Store, models: &Path) -> Result<BTreeMap<ModelName, ModelScan>, ActivateError> {
    let mut scans = BTreeMap::new();
    for name in names(models)? {
        let Ok(model) = ModelName::new(name) else { continue };
        let scan = scan_model(store, &models.join(model.as_str()))?;
        if scan != ModelScan::default() {
            scans.insert(model, scan);
        }
    }
    Ok(scans)
}

/// One model's folder; empty if there is none.
///
/// # Errors
/// What the file system says.
pub fn scan_model(store: &Store, dir: &Path) -> Result<ModelScan, ActivateError> {
    let digests = store.digests()?;
    let mut folders = BTreeMap::new();
    for folder in self::folders(dir)? {
        // Without its manifest in the store nobody can say what a folder should hold.
        let digest = digests.iter().find(|digest| folder.is_of(digest));
        let right = |digest: &Digest| store.is_laid_out(digest, &dir.join(folder.to_string()));
        let right = digest.map_or(Ok(false), right)?;
        folders.insert(folder, right);
    }
    Ok(ModelScan { folders, linked: link::read(dir)? })
}

/// The version folders in a model's folder.
pub(super) fn folders(dir: &Path) -> Result<Vec<Folder>, ActivateError> {
    Ok(names(dir)?.iter().filter_map(|name| Folder::parse(name)).collect())
}

/// Names of the folders in a folder; none if there is no such folder.
fn names(dir: &Path) -> Result<Vec<String>, ActivateError> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ActivateError::io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in list {
        let entry = entry.map_err(ActivateError::io("list", dir))?;
        let kind = entry.file_type().map_err(ActivateError::io("look at", &entry.path()))?;
        if kind.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}
