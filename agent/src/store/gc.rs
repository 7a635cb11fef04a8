//! Garbage collection. Safe to be killed at any moment: a version loses its manifest first, durably, and only then its
//! blobs, so that a manifest in the store always means a complete version.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use nave_names::Digest;

use super::{Store, StoreError, durable, parse_hex};

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Versions that nothing needs any more.
    pub versions: Vec<Digest>,
    /// Blobs that no version names any more.
    pub blobs: usize,
    /// Interrupted pulls of versions that nothing needs any more.
    pub stagings: usize,
    /// Bytes of all those. Files that are linked into a runtime's folder take their room until they go there too.
    pub bytes: u64,
}

impl Store {
    /// Removes what neither the roots nor a running pull need. Without recorded roots every version stays.
    ///
    /// # Errors
    /// What the file system says; what was removed until then stays removed, and the store is consistent.
    pub fn gc(&self) -> Result<GcReport, StoreError> {
        self.collect(|_| true)
    }

    /// The same, but of the versions that nothing needs only these go.
    ///
    /// # Errors
    /// As [`Store::gc`].
    pub fn evict(&self, versions: &BTreeSet<Digest>) -> Result<GcReport, StoreError> {
        self.collect(|digest| versions.contains(digest))
    }

    fn collect(&self, goes: impl Fn(&Digest) -> bool) -> Result<GcReport, StoreError> {
        let _nobody_publishes = self.inner.collecting.write().unwrap_or_else(PoisonError::into_inner);
        let mut report = GcReport::default();
        let roots = self.roots()?;
        let pins = self.pins().clone();
        let stays = |digest: &Digest| {
            pins.contains_key(digest) || roots.as_ref().is_none_or(|roots| roots.0.contains_key(digest))
        };

        for digest in self.digests()?.into_iter().filter(|digest| !stays(digest) && goes(digest)) {
            let path = self.manifest_path(&digest);
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            report.versions.push(digest);
        }
        durable::sync_dir(&self.dir().join("manifests"))?;

        let mut needed = BTreeSet::new();
        for digest in self.digests()? {
            needed.extend(self.manifest(&digest)?.files().iter().map(|file| file.sha256));
        }
        for manifest in pins.values() {
            needed.extend(manifest.files().iter().map(|file| file.sha256));
        }
        remove_blobs(self.dir(), &needed, &mut report)?;
        if let Some(cold) = self.cold_dir() {
            remove_blobs(&cold, &needed, &mut report)?;
        }
        self.remove_signatures(|digest| stays(digest) || self.has(digest), &mut report)?;
        self.remove_stagings(stays, &mut report)?;
        Ok(report)
    }

    fn remove_stagings(
        &self,
        stays: impl Fn(&Digest) -> bool,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        for folder in entries(&self.dir().join("staging"))? {
            let digest = folder.file_name().and_then(|name| name.to_str()).and_then(parse_hex);
            if digest.is_some_and(|digest| stays(&digest) && !self.has(&digest)) {
                continue;
            }
            for file in entries(&folder)? {
                report.bytes += fs::metadata(&file).map_err(StoreError::io("look at", &file))?.len();
            }
            fs::remove_dir_all(&folder).map_err(StoreError::io("remove", &folder))?;
            report.stagings += 1;
        }
        Ok(())
    }
}

fn remove_blobs(tier: &Path, needed: &BTreeSet<Digest>, report: &mut GcReport) -> Result<(), StoreError> {
    for folder in entries(&tier.join("blobs"))? {
        for blob in entries(&folder)? {
            let digest = blob.file_name().and_then(|name| name.to_str()).and_then(parse_hex);
            if digest.is_some_and(|digest| needed.contains(&digest)) {
                continue;
            }
            report.bytes += fs::metadata(&blob).map_err(StoreError::io("look at", &blob))?.len();
            fs::remove_file(&blob).map_err(StoreError::io("remove", &blob))?;
            report.blobs += 1;
        }
    }
    Ok(())
}

/// What lies in a folder, sorted; nothing if there is no such folder.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("list", dir)(error)),
    };
    let mut paths = list
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(StoreError::io("list", dir))?;
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod tests;
