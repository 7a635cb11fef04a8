//! Reads every byte of the store again and compares it with its name. Disks rot; this is how one finds out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use nave_names::Digest;
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, cold::blob_in, durable, gc::entries, parse_hex};

const MISSING: &str = "missing";

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path of the file in the store.
    pub file: String,
    /// What is wrong: `missing`, `wrong size`, `wrong digest`, `unknown name`.
    pub problem: &'static str,
    /// Versions that are not whole because of it.
    pub versions: Vec<Digest>,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Versions looked at.
    pub versions: usize,
    /// Blobs read.
    pub blobs: usize,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong; empty = the store is whole.
    pub findings: Vec<Finding>,
    /// Versions that were taken out, to be pulled again.
    pub repaired: Vec<Digest>,
}

impl Store {
    /// Hashes every blob. With `repair`, damaged blobs and the versions that need them are taken out of the store, so
    /// that the next pull fetches what is missing and nothing else.
    ///
    /// # Errors
    /// What the file system says.
    pub fn verify(&self, repair: bool) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let mut users: BTreeMap<Digest, (u64, BTreeSet<Digest>)> = BTreeMap::new();
        let mut broken = BTreeSet::new();
        for digest in self.digests()? {
            report.versions += 1;
            match self.manifest(&digest) {
                Ok(manifest) => {
                    for file in manifest.files() {
                        users.entry(file.sha256).or_insert((file.size, BTreeSet::new())).1.insert(digest);
                    }
                }
                Err(StoreError::Damaged { .. }) => {
                    broken.insert(digest);
                    report.find(&self.manifest_path(&digest), "wrong digest", [digest]);
                }
                // The agent that runs beside this has just collected it.
                Err(StoreError::NotHeld(_)) => report.versions -= 1,
                Err(error) => return Err(error),
            }
        }
        let mut bad_blobs = Vec::new();
        for (sha256, (size, versions)) in &users {
            let (path, problem) = match self.check_copies(sha256, *size, &mut report)? {
                Some(bad) => bad,
                None => continue,
            };
            // The agent that runs beside this may just have collected them, manifests first.
            let held = versions.iter().filter(|version| self.manifest_path(version).is_file());
            let held: Vec<_> = held.copied().collect();
            if held.is_empty() {
                continue;
            }
            broken.extend(&held);
            report.find(&path, problem, held);
            bad_blobs.push(path);
        }
        self.find_strangers(&mut report)?;
        if repair {
            self.take_out(&broken, &bad_blobs)?;
            report.repaired = broken.into_iter().collect();
        }
        Ok(report)
    }

    /// What is wrong with a blob, and where; looked for on both tiers, and again where it has just been moved.
    fn check_copies(
        &self,
        sha256: &Digest,
        size: u64,
        report: &mut VerifyReport,
    ) -> Result<Option<(PathBuf, &'static str)>, StoreError> {
        let hot = self.hot_blob(sha256);
        let cold = self.cold_dir().map(|dir| blob_in(&dir, sha256));
        for path in [Some(&hot), cold.as_ref(), cold.as_ref().map(|_| &hot)].into_iter().flatten() {
            match check_blob(path, sha256, size, report)? {
                None => return Ok(None),
                Some(MISSING) => {}
                Some(problem) => return Ok(Some((path.clone(), problem))),
            }
        }
        Ok(Some((hot, MISSING)))
    }

    /// Takes a damaged blob out of the store, and the versions that it belongs to.
    pub(super) fn condemn(&self, sha256: &Digest, path: &Path) -> Result<(), StoreError> {
        let _nobody_publishes = self.inner.collecting.write().unwrap_or_else(PoisonError::into_inner);
        let mut broken = BTreeSet::new();
        for digest in self.digests()? {
            if self.manifest(&digest)?.files().iter().any(|file| file.sha256 == *sha256) {
                broken.insert(digest);
            }
        }
        tracing::warn!(path = %path.display(), versions = broken.len(), "a file of the store is damaged: it is taken out");
        self.take_out(&broken, &[path.to_owned()])
    }

    fn find_strangers(&self, report: &mut VerifyReport) -> Result<(), StoreError> {
        let mut folders = entries(&self.dir().join("blobs"))?;
        if let Some(cold) = self.cold_dir() {
            folders.extend(entries(&cold.join("blobs"))?);
        }
        for folder in folders {
            for blob in entries(&folder)? {
                let known = blob.file_name().and_then(|name| name.to_str()).and_then(parse_hex);
                if known.is_none() {
                    report.find(&blob, "unknown name", []);
                }
            }
        }
        Ok(())
    }

    fn take_out(&self, broken: &BTreeSet<Digest>, blobs: &[PathBuf]) -> Result<(), StoreError> {
        for digest in broken {
            let path = self.manifest_path(digest);
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        durable::sync_dir(&self.dir().join("manifests"))?;
        for blob in blobs.iter().filter(|blob| blob.exists()) {
            fs::remove_file(blob).map_err(StoreError::io("remove", blob))?;
        }
        Ok(())
    }
}

impl VerifyReport {
    fn find(&mut self, path: &Path, problem: &'static str, versions: impl IntoIterator<Item = Digest>) {
        let file = path.display().to_string();
        self.findings.push(Finding { file, problem, versions: versions.into_iter().collect() });
    }
}

fn check_blob(
    path: &Path,
    sha256: &Digest,
    size: u64,
    report: &mut VerifyReport,
) -> Result<Option<&'static str>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some(MISSING)),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    report.blobs += 1;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let read = file.read(&mut buffer).map_err(StoreError::io("read", path))?;
        if read == 0 {
            break;
        }
        total += read as u64;
        hasher.update(&buffer[..read]);
    }
    report.bytes += total;
    if total != size {
        return Ok(Some("wrong size"));
    }
    let found = Digest::from_bytes(hasher.finalize().into());
    Ok((found != *sha256).then_some("wrong digest"))
}
