//! The spoke's content-addressed store. Blobs are files named by their SHA-256, read-only and verified; a version is in
//! the store when its manifest is. What is not verified yet lies in `staging/` and nowhere else.
//!
//! ```text
//! lock                     held by the one process that writes
//! roots.json               versions that must not go, and why
//! cold.json                which folder is the cold tier, where there is one
//! spare                    room for small files on a full disk
//! blobs/<ab>/<sha256>      verified, 0444
//! signatures/<sha256>.sig  of versions, by their manifest's digest; as they came
//! manifests/<sha256>.json  one for each complete version; written after the last of its blobs
//! staging/<sha256>/        a pull under way: manifest, parts, journals
//! incoming/                files on their way from the cold tier
//! ```
//!
//! Everything here blocks; async callers use `spawn_blocking`.

mod chunk_index;
mod cold;
pub(crate) mod durable;
mod error;
mod gc;
pub mod journal;
mod lock;
mod materialise;
mod moves;
mod part;
mod room;
mod roots;
mod rough;
mod serve;
mod signature;
mod space;
mod spare;
mod staging;
mod verify;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicU64},
};

use nave_manifest::Manifest;
use nave_names::Digest;

use cold::{Cold, blob_in};

pub use cold::ColdTier;
pub use error::{COLD_TIER_FULL, DISK_FULL, StoreError};
pub use gc::GcReport;
pub use materialise::Materialised;
pub use moves::Moved;
pub use roots::Roots;
pub use space::{Shortage, Space};
pub use verify::{Finding, VerifyReport};

pub(crate) use chunk_index::ChunkIndex;
pub(crate) use part::Part;
pub(crate) use rough::{Rough, RoughError};
pub(crate) use space::Promise;
pub(crate) use staging::Staging;

/// The store of one spoke. Cheap to clone; one process at a time may have it open.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Held until the last clone goes.
    lock: Option<lock::Lock>,
    /// Versions that a running pull needs, with what they consist of.
    pins: Mutex<BTreeMap<Digest, Arc<Manifest>>>,
    /// Bytes that running pulls will still write.
    promised: Mutex<u64>,
    /// Most bytes that the store may take.
    quota: AtomicU64,
    /// Watermarks in percent, the high one shifted by 8; 0 = none.
    marks: AtomicU64,
    /// What could go when that was last counted.
    evictable: Mutex<Option<Evictable>>,
    /// Publishing reads, collecting writes: a blob is never collected between its rename and its manifest.
    collecting: RwLock<()>,
    /// The cold tier.
    cold: Mutex<Cold>,
    /// Versions that belong on the hot tier; `None` = nobody said so yet, and all do.
    hot: Mutex<Option<BTreeSet<Digest>>>,
    /// One move between the tiers at a time.
    moving: Mutex<()>,
    /// The files of versions by their contents, which never change.
    contents: Mutex<BTreeMap<Digest, BTreeMap<Digest, u64>>>,
}

/// Bytes that would be free without what nothing needs, and what that was counted of.
#[derive(Debug)]
struct Evictable {
    held: Vec<Digest>,
    needed: BTreeSet<Digest>,
    bytes: u64,
}

/// A version that the store holds completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Of its manifest.
    pub digest: Digest,
    /// Files in it.
    pub files: usize,
    /// Sum of their sizes in bytes.
    pub size: u64,
    /// Where they lie.
    pub tier: Tier,
}

/// Where the files of a version lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// On the hot tier; the only one of most stores.
    Hot,
    /// On the cold one.
    Cold,
    /// Some here and some there: it is moving, or shares files with a version on the other.
    Both,
    /// Some are on a cold tier that is not there now.
    Away,
}

impl Store {
    /// Opens the store in this folder, for reading and writing, and makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it, or what the file system says.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        for folder in ["blobs", "manifests", "staging"] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(StoreError::io("create folder", &path))?;
        }
        durable::sync_dir(&dir)?;
        let lock = lock::Lock::acquire(&dir)?;
        let store = Self::new(dir, Some(lock));
        staging::remove_all(&store.dir().join(cold::INCOMING))?;
        store.look_for_cold()?;
        Ok(store)
    }

    /// Opens an existing store to look at it; nothing that writes may be called.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open_read_only(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        fs::metadata(dir.join("manifests")).map_err(StoreError::io("open store", &dir))?;
        let store = Self::new(dir, None);
        store.look_for_cold()?;
        Ok(store)
    }

    fn new(dir: PathBuf, lock: Option<lock::Lock>) -> Self {
        let inner = Inner {
            dir,
            lock,
            pins: Mutex::default(),
            promised: Mutex::default(),
            quota: AtomicU64::new(u64::MAX),
            marks: AtomicU64::new(0),
            evictable: Mutex::default(),
            collecting: RwLock::default(),
            cold: Mutex::default(),
            hot: Mutex::default(),
            moving: Mutex::default(),
            contents: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Whether the version with this manifest digest is complete and verified.
    pub fn has(&self, digest: &Digest) -> bool {
        self.manifest_path(digest).is_file() && (!self.is_cold_away() || self.is_whole(digest))
    }

    /// Whether every file of a version is there; without its cold tier a store may have only some.
    fn is_whole(&self, digest: &Digest) -> bool {
        let whole =
            |manifest: Manifest| manifest.files().iter().all(|file| self.has_blob(&file.sha256, file.size));
        self.manifest(digest).is_ok_and(whole)
    }

    /// The manifest of a version that the store holds.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`], or [`StoreError::Damaged`] if the file is not what its name says.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let path = self.manifest_path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotHeld(*digest));
            }
            Err(error) => return Err(StoreError::io("read manifest", path)(error)),
        };
        let damaged = || StoreError::Damaged { what: format!("manifest {digest}") };
        if Digest::of(&bytes) != *digest {
            return Err(damaged());
        }
        Manifest::parse(&bytes).map_err(|_| damaged())
    }

    /// Digests of the versions that the store holds and has at hand, sorted: all, unless its cold tier is away.
    ///
    /// # Errors
    /// What the file system says.
    pub fn held(&self) -> Result<Vec<Digest>, StoreError> {
        let mut digests = self.digests()?;
        if self.is_cold_away() {
            digests.retain(|digest| self.is_whole(digest));
        }
        Ok(digests)
    }

    /// Digests of every version that the store holds, sorted.
    ///
    /// # Errors
    /// What the file system says.
    pub fn digests(&self) -> Result<Vec<Digest>, StoreError> {
        let folder = self.inner.dir.join("manifests");
        let mut digests = Vec::new();
        for entry in fs::read_dir(&folder).map_err(StoreError::io("list", &folder))? {
            let name = entry.map_err(StoreError::io("list", &folder))?.file_name();
            let digest = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(parse_hex);
            digests.extend(digest);
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// Digests of the versions that an interrupted or running pull has left parts of.
    ///
    /// # Errors
    /// What the file system says.
    pub fn unfinished(&self) -> Result<Vec<Digest>, StoreError> {
        let folders = gc::entries(&self.inner.dir.join("staging"))?;
        let digest = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).and_then(parse_hex);
        Ok(folders.iter().filter_map(digest).collect())
    }

    /// Every version that the store holds, sorted by digest.
    ///
    /// # Errors
    /// What the file system says, or [`StoreError::Damaged`].
    pub fn list(&self) -> Result<Vec<StoredVersion>, StoreError> {
        let mut versions = Vec::new();
        let cold = self.cold_only()?;
        for digest in self.digests()? {
            match self.manifest(&digest) {
                Ok(manifest) => {
                    let (files, size) = (manifest.files().len(), manifest.total_size());
                    let on_cold = manifest.files().iter().filter(|file| cold.contains(&file.sha256)).count();
                    let tier = match on_cold {
                        0 if self.is_cold_away() && !self.is_whole(&digest) => Tier::Away,
                        0 => Tier::Hot,
                        all if all == files => Tier::Cold,
                        _ => Tier::Both,
                    };
                    versions.push(StoredVersion { digest, files, size, tier });
                }
                // The agent that runs beside this has just collected it.
                Err(StoreError::NotHeld(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(versions)
    }

    /// Where a verified blob lies, on either tier.
    pub fn blob_path(&self, sha256: &Digest) -> PathBuf {
        let hot = self.hot_blob(sha256);
        let cold = self.cold_dir().map(|dir| blob_in(&dir, sha256));
        cold.filter(|cold| !hot.exists() && cold.exists()).unwrap_or(hot)
    }

    /// Its place on the hot tier.
    fn hot_blob(&self, sha256: &Digest) -> PathBuf {
        blob_in(self.dir(), sha256)
    }

    /// Opens a verified blob, which may be moving.
    pub(crate) fn open_blob(&self, sha256: &Digest) -> io::Result<File> {
        match File::open(self.blob_path(sha256)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(self.blob_path(sha256)),
            opened => opened,
        }
    }

    pub(crate) fn has_blob(&self, sha256: &Digest, size: u64) -> bool {
        let there =
            |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size);
        let hot = self.hot_blob(sha256);
        // One that moves is in one of the two at any time, and by the third look where it went.
        let cold = || self.cold_dir().is_some_and(|dir| there(&blob_in(&dir, sha256)) || there(&hot));
        there(&hot) || cold()
    }

    fn is_writer(&self) -> bool {
        self.inner.lock.is_some()
    }

    fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.inner.dir.join("manifests").join(format!("{}.json", digest.to_hex()))
    }

    pub(crate) fn staging_path(&self, digest: &Digest) -> PathBuf {
        self.inner.dir.join("staging").join(digest.to_hex())
    }

    fn pins(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<Manifest>>> {
        self.inner.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A digest from a file name of ours.
fn parse_hex(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}
