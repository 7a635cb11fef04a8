//! Reads every byte of the store again and compares it with its name. Disks rot; this is how one finds out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use nave_names::Digest;
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, durable, gc::entries, parse_hex};

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
            let path = self.blob_path(sha256);
            if let Some(problem) = check_blob(&path, sha256, *size, &mut report)? {
                // The agent that runs beside this may just have collected them, manifests first.
                let held: Vec<_> = versions.iter().copied().filter(|version| self.has(version)).collect();
                if held.is_empty() {
                    continue;
                }
                broken.extend(&held);
                report.find(&path, problem, held);
                bad_blobs.push(path);
            }
        }
        self.find_strangers(&mut report)?;
        if repair {
            self.take_out(&broken, &bad_blobs)?;
            report.repaired = broken.into_iter().collect();
        }
        Ok(report)
    }

    fn find_strangers(&self, report: &mut VerifyReport) -> Result<(), StoreError> {
        for folder in entries(&self.dir().join("blobs"))? {
            for blob in entries(&folder)? {
                let known = blob.file_name().and_then(|name| name.to_str()).and_then(parse_hex);
                if known.is_none() {
                    report.find(&blob, "unknown name", []);
                }
            }
        }
        Ok(())
    }

    fn take_out(&self, broken: &BTreeSet<Digest>, blobs: &[std::path::PathBuf]) -> Result<(), StoreError> {
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some("missing")),
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
