//! The agent's three small files: `ledger.json` (what the hub told), `serving.json` (what was given to runtimes) and
//! `imports.json` (what was brought without a network). Each is replaced whole, with a checksum in it, so that a torn or
//! rotten one is noticed and never believed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use nave_agent_plan::{Ledger, Record};
use nave_names::{Digest, ModelName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::store::{DISK_FULL, StoreError, durable};

/// What was given to runtimes, by model.
pub type Records = BTreeMap<ModelName, Record>;

/// One of the files.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

/// What was found in a file.
#[derive(Debug)]
pub enum Found<T> {
    /// What was kept.
    Kept(T),
    /// There is no file.
    Nothing,
    /// There is one, and it cannot be believed; it lies aside now, for whoever wants to look.
    Corrupt(String),
}

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file could not be replaced.
    #[error(transparent)]
    Write(#[from] StoreError),
    /// The content has no JSON form.
    #[error("cannot encode {}", .0.display())]
    Encode(PathBuf, #[source] serde_json::Error),
}

impl StateError {
    /// The reason in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Write(error) if error.reason() == DISK_FULL => DISK_FULL,
            Self::Write(_) | Self::Io { .. } | Self::Encode(..) => "StateNotWritable",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    /// SHA-256 of `content` as serde_json writes it without spaces.
    checksum: Digest,
    content: serde_json::Value,
}

/// The file of the [`Ledger`].
pub fn ledger(state_dir: &Path) -> StateFile {
    StateFile { path: state_dir.join("ledger.json") }
}

/// The file of the [`Records`].
pub fn serving(state_dir: &Path) -> StateFile {
    StateFile { path: state_dir.join("serving.json") }
}

/// The file of the [`Imports`](nave_agent_plan::Imports).
pub fn imports(state_dir: &Path) -> StateFile {
    StateFile { path: state_dir.join("imports.json") }
}

impl StateFile {
    /// What the file holds.
    ///
    /// # Errors
    /// The file system; a file with wrong content is [`Found::Corrupt`].
    pub fn load<T: DeserializeOwned>(&self) -> Result<Found<T>, StateError> {
        let fail = |action| {
            let path = self.path.clone();
            move |source| StateError::Io { action, path, source }
        };
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(fail("read")(error)),
        };
        match open(&bytes) {
            Ok(content) => Ok(Found::Kept(content)),
            Err(problem) => {
                let aside = self.path.with_extension("json.corrupt");
                fs::rename(&self.path, aside).map_err(fail("put aside"))?;
                Ok(Found::Corrupt(format!("{}: {problem}", self.path.display())))
            }
        }
    }

    /// Replaces the file; durable when it returns.
    ///
    /// # Errors
    /// See [`StateError`]; the old content is then still there.
    pub fn save<T: Serialize>(&self, content: &T) -> Result<(), StateError> {
        let encode = |error| StateError::Encode(self.path.clone(), error);
        let content = serde_json::to_value(content).map_err(encode)?;
        let checksum = Digest::of(&serde_json::to_vec(&content).map_err(encode)?);
        let bytes = serde_json::to_vec_pretty(&Envelope { checksum, content }).map_err(encode)?;
        Ok(durable::replace(&self.path, &bytes, 0o600)?)
    }
}

fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let content = serde_json::to_vec(&envelope.content).map_err(|error| error.to_string())?;
    if Digest::of(&content) != envelope.checksum {
        return Err("its checksum does not match its content".to_owned());
    }
    serde_json::from_value(envelope.content).map_err(|error| error.to_string())
}

/// The ledger, or an empty one where there is none to be believed: then nothing is taken away until the hub has told
/// its wishes anew.
///
/// # Errors
/// The file system.
pub fn load_ledger(file: &StateFile) -> Result<Ledger, StateError> {
    Ok(match file.load()? {
        Found::Kept(ledger) => ledger,
        Found::Nothing => Ledger::default(),
        Found::Corrupt(problem) => {
            tracing::warn!(
                problem,
                "the ledger is corrupt: serving on, and asking the hub for everything anew"
            );
            Ledger::default()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_or_missing_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile { path: dir.path().join("x.json") };
        assert!(matches!(file.load::<Vec<u32>>().unwrap(), Found::Nothing));
        file.save(&vec![1, 2, 3]).unwrap();
        let good = fs::read(&file.path).unwrap();
        assert!(matches!(file.load::<Vec<u32>>().unwrap(), Found::Kept(kept) if kept == [1, 2, 3]));
        for at in 0..good.len() {
            if good[at].is_ascii_whitespace() {
                continue;
            }
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file.path, &bad).unwrap();
            let found = file.load::<Vec<u32>>().unwrap();
            assert!(matches!(found, Found::Corrupt(_)), "byte {at} of {}", String::from_utf8_lossy(&bad));
            fs::write(&file.path, &good[..at]).unwrap();
            assert!(matches!(file.load::<Vec<u32>>().unwrap(), Found::Corrupt(_)), "cut at {at}");
        }
        assert!(dir.path().join("x.json.corrupt").exists());
    }
}
