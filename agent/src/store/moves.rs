//! Moving versions between the tiers. What moves is the planner's decision, [`nave_agent_plan::plan_tiers()`]; here it is
//! done so that a process that is killed at any moment loses nothing: a file is copied beside its place and hashed,
//! flushed, and renamed to its place; only when that is on the disk does the other copy go. Whatever is in a tier's
//! `blobs/` is whole, and what a version needs is in one of them at least.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use nave_agent_plan::tiers::{files_of, movable};
use nave_names::Digest;
use sha2::{Digest as _, Sha256};

use super::{
    Store, StoreError,
    cold::{INCOMING, blob_in},
    durable,
    staging::{make_private, remove_all},
};

/// So much is copied before it is flushed and the first copies go: a process that is killed begins with the next of these.
const BATCH: u64 = 256 << 20;
/// Copied at a time; between two of these a move can be stopped.
const PIECE: usize = 1 << 20;

/// What a move came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Files that changed their tier.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Between which tiers, and whether to stop.
struct Way<'a> {
    from: &'a Path,
    to: &'a Path,
    stop: &'a dyn Fn() -> bool,
}

impl Store {
    /// Says which versions belong on the hot tier; all others may leave it. `None`, as at first: none may.
    pub fn keep_hot(&self, versions: Option<BTreeSet<Digest>>) {
        *self.inner.hot.lock().unwrap_or_else(PoisonError::into_inner) = versions;
    }

    pub(super) fn kept_hot(&self) -> Option<BTreeSet<Digest>> {
        self.inner.hot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a version's files to the cold tier, but for those that a version that belongs on the hot one has too. One that
    /// comes to belong there meanwhile goes no further: whoever asks for it is not to wait for that.
    ///
    /// # Errors
    /// [`StoreError::ColdTierFull`] and [`StoreError::ColdTierAway`], [`StoreError::Stopped`] when `stop` says so, and
    /// what the file systems say; what moved until then has moved.
    pub fn demote(&self, digest: &Digest, stop: &dyn Fn() -> bool) -> Result<Moved, StoreError> {
        let Some(hot) = self.kept_hot() else { return Ok(Moved::default()) };
        let _alone = self.inner.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let cold = self.cold_dir().ok_or_else(|| self.no_cold())?;
        let versions = self.kept()?;
        let kept = versions.get(digest).ok_or(StoreError::NotHeld(*digest))?;
        let fixed = files_of(&versions, &hot);
        let files: BTreeMap<_, _> =
            if hot.contains(digest) { BTreeMap::new() } else { movable(kept, &fixed).collect() };
        let needed: u64 = files.values().sum();
        let shelf = self.cold_shelf()?.ok_or_else(|| self.no_cold())?;
        if needed > shelf.most.saturating_sub(shelf.taken) {
            return Err(StoreError::ColdTierFull {
                path: cold,
                needed,
                taken: shelf.taken,
                most: shelf.most,
                tiers: self.tiers_in_words(),
            });
        }
        let is_asked_for = || self.kept_hot().is_none_or(|hot| hot.contains(digest));
        self.transfer(&files, &Way { from: self.dir(), to: &cold, stop: &|| stop() || is_asked_for() })
    }

    /// Brings a version's files to the hot tier.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] before anything moves, [`StoreError::ColdTierAway`], [`StoreError::Stopped`] when `stop`
    /// says so, and what the file systems say; what moved until then has moved.
    pub fn promote(&self, digest: &Digest, stop: &dyn Fn() -> bool) -> Result<Moved, StoreError> {
        let cold_files = |store: &Self| {
            let versions = store.kept()?;
            let kept = versions.get(digest).ok_or(StoreError::NotHeld(*digest))?;
            let cold = kept.cold.iter().filter_map(|file| Some((*file, *kept.files.get(file)?)));
            Ok::<_, StoreError>(cold.collect::<BTreeMap<_, _>>())
        };
        // Making room may move others: that is not to wait for us.
        let _promise = self.promise(cold_files(self)?.values().sum())?;
        let _alone = self.inner.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let cold = self.cold_dir().ok_or_else(|| self.no_cold())?;
        self.transfer(&cold_files(self)?, &Way { from: &cold, to: self.dir(), stop })
    }

    fn no_cold(&self) -> StoreError {
        let why = "this store has none".to_owned();
        self.cold_away().unwrap_or_else(|| StoreError::ColdTierAway { path: self.dir().to_owned(), why })
    }

    fn transfer(&self, files: &BTreeMap<Digest, u64>, way: &Way<'_>) -> Result<Moved, StoreError> {
        make_private(&way.to.join(INCOMING))?;
        let moved = self.transfer_all(files, way);
        // What did not get to its place is no use and takes room.
        if moved.is_err()
            && let Err(error) = remove_all(&way.to.join(INCOMING))
        {
            tracing::warn!(%error, "cannot clear away a move that did not end");
        }
        moved
    }

    fn transfer_all(&self, files: &BTreeMap<Digest, u64>, way: &Way<'_>) -> Result<Moved, StoreError> {
        let mut moved = Moved::default();
        let mut batch = BTreeMap::new();
        let mut left = files.len();
        for (sha256, size) in files {
            match Self::copy(sha256, *size, way) {
                // It is no use to any version; they are pulled anew when they are asked for.
                Err(error @ StoreError::Damaged { .. }) => {
                    self.condemn(sha256, &blob_in(way.from, sha256))?;
                    return Err(error);
                }
                copied => copied?,
            }
            batch.insert(*sha256, *size);
            left -= 1;
            if batch.values().sum::<u64>() >= BATCH || left == 0 {
                self.switch(&batch, way)?;
                moved.files += batch.len();
                moved.bytes += batch.values().sum::<u64>();
                batch.clear();
            }
        }
        Ok(moved)
    }

    /// Copies one file beside its place on the other tier.
    fn copy(sha256: &Digest, size: u64, way: &Way<'_>) -> Result<(), StoreError> {
        let (from, beside) = (blob_in(way.from, sha256), incoming(way.to, sha256));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", beside)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut source = File::open(&from).map_err(StoreError::io("open", &from))?;
        let mut copy = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(durable::READ_ONLY)
            .open(&beside)
            .map_err(StoreError::io("create", &beside))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE).max(1))];
        loop {
            if (way.stop)() {
                return Err(StoreError::Stopped);
            }
            let read = source.read(&mut buffer).map_err(StoreError::io("read", &from))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            copy.write_all(&buffer[..read]).map_err(StoreError::io("write", &beside))?;
        }
        if Digest::from_bytes(hasher.finalize().into()) != *sha256 {
            return Err(StoreError::Damaged { what: format!("blob {sha256}") });
        }
        // What was laid out from it is told by its time from what was changed since.
        let time = source.metadata().and_then(|found| found.modified());
        time.and_then(|time| copy.set_modified(time)).map_err(StoreError::io("set the time of", &beside))
    }

    /// The copies take their places, and when they are safe there the first ones go.
    fn switch(&self, batch: &BTreeMap<Digest, u64>, way: &Way<'_>) -> Result<(), StoreError> {
        if batch.len() > durable::ONE_BY_ONE {
            durable::sync_file_system(way.to)?;
        } else {
            for sha256 in batch.keys() {
                let path = incoming(way.to, sha256);
                let open = File::open(&path).map_err(StoreError::io("open", &path))?;
                open.sync_all().map_err(StoreError::io("sync", &path))?;
            }
        }
        // A collection between the two would take one copy for waste, and then the other goes.
        let _nobody_collects = self.inner.collecting.read().unwrap_or_else(PoisonError::into_inner);
        let mut there = BTreeSet::from([way.to.join("blobs")]);
        let mut here = BTreeSet::new();
        for sha256 in batch.keys() {
            let place = blob_in(way.to, sha256);
            if let Some(folder) = place.parent().filter(|folder| there.insert(folder.to_path_buf())) {
                fs::create_dir_all(folder).map_err(StoreError::io("create folder", folder))?;
            }
            fs::rename(incoming(way.to, sha256), &place).map_err(StoreError::io("move to", &place))?;
        }
        durable::sync_dirs(&there)?;
        for sha256 in batch.keys() {
            let from = blob_in(way.from, sha256);
            match fs::remove_file(&from) {
                // A version that went meanwhile: the copy is waste, and the next collection takes it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(StoreError::io("remove", &from))?,
            }
            here.extend(from.parent().map(Path::to_path_buf));
        }
        durable::sync_dirs(&here)
    }
}

fn incoming(tier: &Path, sha256: &Digest) -> PathBuf {
    tier.join(INCOMING).join(sha256.to_hex())
}
