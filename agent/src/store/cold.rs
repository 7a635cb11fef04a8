//! The cold tier: a second folder, on a larger and slower disk, for files of versions that are kept and not served. The
//! hot tier is the store itself, which alone has the manifests: a version is in the store when its manifest is, wherever
//! its files lie.
//!
//! ```text
//! tier                   whose it is: the id that the store has in cold.json
//! blobs/<ab>/<sha256>    verified, 0444, as in the store itself
//! incoming/              on their way here; emptied at every start
//! ```
//!
//! A disk that is not mounted looks like an empty folder. So a cold tier that was used once and does not show its id is
//! away: nothing is written there, and the versions that lie there are not held until it is back.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{MutexGuard, PoisonError},
};

use nave_names::Digest;
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError, durable,
    gc::entries,
    parse_hex,
    staging::{make_private, remove_all},
};

const RECORD: &str = "cold.json";
const MARK: &str = "tier";
pub(super) const INCOMING: &str = "incoming";

/// The cold tier as a site configures it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdTier {
    /// Its folder.
    pub dir: PathBuf,
    /// Most bytes that it may take; `None` = what its disk has.
    pub quota: Option<u64>,
    /// Part of the quota, or of the disk, in percent: above it, versions that nothing needs go.
    pub high: u8,
    /// Until no more than this is taken.
    pub low: u8,
}

/// Which cold tier this store has, kept on the hot one: every command finds it, and another disk is not taken for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    dir: PathBuf,
    id: String,
    /// Whether the folder has been given its id.
    claimed: bool,
}

/// How the cold tier is.
#[derive(Clone, Debug, Default)]
pub(super) struct Cold {
    /// What the site wants; `None` = nothing more is moved there.
    pub(super) limits: Option<ColdTier>,
    pub(super) state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There never was one.
    #[default]
    None,
    There(PathBuf),
    Away {
        dir: PathBuf,
        why: String,
    },
}

impl Store {
    /// Uses this cold tier from now on. One that is not there is no error: it is looked for again with every
    /// [`Store::look_for_cold`].
    ///
    /// # Errors
    /// What the file system of the store itself says.
    pub fn use_cold(&self, tier: ColdTier) -> Result<(), StoreError> {
        if self.cold_record()?.is_none() {
            let id = format!("{:032x}", rand::random::<u128>());
            self.write_cold_record(&Record { dir: tier.dir.clone(), id, claimed: false })?;
        }
        self.cold().limits = Some(tier);
        self.look_for_cold()?;
        Ok(())
    }

    /// Looks whether the cold tier is there; true = it has come or gone since the last look.
    ///
    /// # Errors
    /// What the file system of the store itself says.
    pub fn look_for_cold(&self) -> Result<bool, StoreError> {
        let Some(record) = self.cold_record()? else { return Ok(false) };
        let dir = self.cold().limits.as_ref().map_or_else(|| record.dir.clone(), |tier| tier.dir.clone());
        let state = match self.find(&record, &dir) {
            Ok(true) => State::There(dir),
            Ok(false) => State::None,
            Err(why) => State::Away { dir, why },
        };
        let before = std::mem::replace(&mut self.cold().state, state.clone());
        let changed = match (&before, &state) {
            (State::Away { .. }, State::Away { .. }) => false,
            (before, now) => before != now,
        };
        if let (true, State::There(dir)) = (changed && self.is_writer(), &state) {
            self.tidy_cold(dir)?;
        }
        if let (true, State::Away { dir, why }) = (changed, &state) {
            tracing::warn!(dir = %dir.display(), why, "the cold tier is away");
        }
        Ok(changed)
    }

    /// Why the cold tier is not there, if it should be.
    pub fn cold_away(&self) -> Option<StoreError> {
        match &self.cold().state {
            State::Away { dir, why } => {
                Some(StoreError::ColdTierAway { path: dir.clone(), why: why.clone() })
            }
            State::None | State::There(_) => None,
        }
    }

    /// Where the cold tier is, if it is there.
    pub(super) fn cold_dir(&self) -> Option<PathBuf> {
        match &self.cold().state {
            State::There(dir) => Some(dir.clone()),
            State::None | State::Away { .. } => None,
        }
    }

    pub(super) fn is_cold_away(&self) -> bool {
        matches!(self.cold().state, State::Away { .. })
    }

    pub(super) fn cold(&self) -> MutexGuard<'_, Cold> {
        self.inner.cold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_on_cold(&self, sha256: &Digest) -> bool {
        self.cold_dir().is_some_and(|dir| blob_in(&dir, sha256).exists()) && !self.hot_blob(sha256).exists()
    }

    /// Files that are on the cold tier and on no other.
    pub(super) fn cold_only(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let Some(dir) = self.cold_dir() else { return Ok(BTreeSet::new()) };
        let cold = blobs_in(&dir)?;
        // In this order: a file that is on its way back meanwhile is then in one of them at least.
        let hot = if cold.is_empty() { BTreeSet::new() } else { blobs_in(self.dir())? };
        Ok(cold.difference(&hot).copied().collect())
    }

    /// Whether this is the store's cold tier (which is begun, where there was none); false = there is none yet.
    fn find(&self, record: &Record, dir: &Path) -> Result<bool, String> {
        let mark = dir.join(MARK);
        match fs::read_to_string(&mark) {
            Ok(id) if id.trim() == record.id => {}
            Ok(_) => return Err("it belongs to another store".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !record.claimed => {
                if !self.is_writer() {
                    return Ok(false);
                }
                begin(dir, &record.id).map_err(|error| nave_runtime::error_text::chain(&error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && record.dir != dir => {
                return Err(format!("the cold tier of this store was {}", record.dir.display()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(format!("{} is gone: is its disk mounted?", mark.display()));
            }
            Err(error) => return Err(format!("cannot read {}: {error}", mark.display())),
        }
        if self.is_writer() && (!record.claimed || record.dir != dir) {
            let record = Record { dir: dir.to_owned(), claimed: true, ..record.clone() };
            self.write_cold_record(&record).map_err(|error| nave_runtime::error_text::chain(&error))?;
        }
        Ok(true)
    }

    /// After a process that was killed in a move: what was on its way is no use, and of two copies the hot one counts.
    fn tidy_cold(&self, dir: &Path) -> Result<(), StoreError> {
        let _nobody_moves = self.inner.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let _nobody_collects = self.inner.collecting.write().unwrap_or_else(PoisonError::into_inner);
        remove_all(&dir.join(INCOMING))?;
        let hot = blobs_in(self.dir())?;
        for twin in blobs_in(dir)?.intersection(&hot) {
            let path = blob_in(dir, twin);
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }

    fn cold_record(&self) -> Result<Option<Record>, StoreError> {
        let path = self.dir().join(RECORD);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| StoreError::Damaged { what: RECORD.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", path)(error)),
        }
    }

    fn write_cold_record(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.dir().join(RECORD);
        let text = serde_json::to_vec_pretty(record)
            .map_err(|error| StoreError::io("write", &path)(error.into()))?;
        durable::replace(&path, &text, 0o644)
    }
}

fn begin(dir: &Path, id: &str) -> Result<(), StoreError> {
    let blobs = dir.join("blobs");
    fs::create_dir_all(&blobs).map_err(StoreError::io("create folder", &blobs))?;
    make_private(&dir.join(INCOMING))?;
    durable::replace(&dir.join(MARK), id.as_bytes(), durable::READ_ONLY)
}

/// Where a file lies on a tier.
pub(super) fn blob_in(tier: &Path, sha256: &Digest) -> PathBuf {
    let hex = sha256.to_hex();
    tier.join("blobs").join(&hex[..2]).join(hex)
}

fn blobs_in(tier: &Path) -> Result<BTreeSet<Digest>, StoreError> {
    let mut found = BTreeSet::new();
    for folder in entries(&tier.join("blobs"))? {
        let names = entries(&folder)?;
        let digest = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).and_then(parse_hex);
        found.extend(names.iter().filter_map(digest));
    }
    Ok(found)
}
