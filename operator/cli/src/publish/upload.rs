//! From a folder to a prefix: the files first, the manifest last and only where there is none, so that a version is
//! there as a whole or not at all, and never written over.

use std::{io, path::Path as DiskPath, sync::Arc};

use anyhow::{Context as _, anyhow, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;
use nave_manifest::{FileEntry, MANIFEST_FILE, Manifest};
use nave_names::{Digest, RelativePath};
use nave_signature::SIGNATURE_FILE;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, WriteMultipart, path::Path,
};
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::failure;

/// Files up to this size go in one request.
const SINGLE_PUT: u64 = 16 << 20;
/// Small files under way at once: their time is the round trip's.
const SMALL_AT_ONCE: usize = 8;
/// Parts of a large file under way at once: together with their size this bounds the memory.
const PARTS_AT_ONCE: usize = 4;
/// Least size of a part; S3 wants 5 MiB or more.
const PART: u64 = 8 << 20;
/// S3 allows 10,000 parts of an upload.
const MOST_PARTS: u64 = 9_000;

/// Where a version goes.
pub(super) struct Destination {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) bucket: String,
    /// Ends with `/`.
    pub(super) prefix: String,
}

/// What was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Present {
    /// Nothing, or some of the version's own files without a manifest: an upload that was cut short.
    Nothing,
    /// The very same version.
    Same,
}

impl Destination {
    /// For messages.
    pub(super) fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    pub(super) fn key(&self, path: &str) -> anyhow::Result<Path> {
        let key = format!("{}{path}", self.prefix);
        Path::parse(&key).with_context(|| format!("{key:?} cannot be a key"))
    }

    /// Looks at what is below the prefix; anything that is not of this version is an error that names it.
    pub(super) async fn look(&self, manifest: &Manifest) -> anyhow::Result<Present> {
        let key = self.key(MANIFEST_FILE)?;
        match self.store.get(&key).await {
            Ok(found) => {
                let bytes = found.bytes().await.map_err(|error| self.failed("reading", &error))?;
                return self.compare(&bytes, manifest);
            }
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(self.failed("looking at", &error)),
        }
        let foreign = self.foreign(manifest).await?;
        if foreign.is_empty() {
            return Ok(Present::Nothing);
        }
        bail!(
            "{} holds objects that this folder does not have: {}; publish below another --prefix, or delete them",
            self.url(),
            foreign.join(", ")
        )
    }

    fn compare(&self, bytes: &[u8], manifest: &Manifest) -> anyhow::Result<Present> {
        let there = Digest::of(bytes);
        if there == manifest.digest() {
            return Ok(Present::Same);
        }
        bail!(
            "{} holds another version already ({there}, this folder is {}): a version is never written over, publish \
             this one as a new version",
            self.url(),
            manifest.digest()
        )
    }

    /// The first few objects below the prefix that the manifest does not name.
    async fn foreign(&self, manifest: &Manifest) -> anyhow::Result<Vec<String>> {
        let folder = Path::parse(self.prefix.trim_end_matches('/'))?;
        let listed = self.store.list(Some(&folder));
        let foreign = listed
            .map_ok(|object| object.location.to_string())
            .try_filter(|key| futures::future::ready(!self.is_ours(key, manifest)))
            .take(3)
            .try_collect()
            .await;
        match foreign {
            Ok(foreign) => Ok(foreign),
            // Some servers make a bucket with its first object; the others say it again when that is uploaded.
            Err(error) if failure::is_no_such_bucket(&error) => Ok(Vec::new()),
            Err(error) => Err(self.failed("listing", &error)),
        }
    }

    fn is_ours(&self, key: &str, manifest: &Manifest) -> bool {
        key.strip_prefix(&self.prefix)
            .and_then(|path| RelativePath::new(path).ok())
            .is_some_and(|path| nave_manifest::is_reserved(&path) || manifest.file(&path).is_some())
    }

    /// Uploads every file, then the manifest.
    pub(super) async fn upload(
        &self,
        folder: &DiskPath,
        manifest: &Manifest,
        progress: &ProgressBar,
    ) -> anyhow::Result<()> {
        let (small, large): (Vec<_>, Vec<_>) =
            manifest.files().iter().partition(|entry| entry.size <= SINGLE_PUT);
        futures::stream::iter(small)
            .map(|entry| self.put_whole(folder, entry, progress))
            .buffer_unordered(SMALL_AT_ONCE)
            .try_collect::<()>()
            .await?;
        for entry in large {
            self.put_in_parts(folder, entry, progress).await?;
        }
        self.put_manifest(manifest).await
    }

    async fn put_whole(
        &self,
        folder: &DiskPath,
        entry: &FileEntry,
        progress: &ProgressBar,
    ) -> anyhow::Result<()> {
        let on_disk = folder.join(entry.path.as_str());
        let bytes =
            tokio::fs::read(&on_disk).await.with_context(|| format!("reading {}", on_disk.display()))?;
        if Digest::of(&bytes) != entry.sha256 {
            return Err(changed(entry));
        }
        let size = bytes.len() as u64;
        let key = self.key(entry.path.as_str())?;
        self.store.put(&key, bytes.into()).await.map_err(|error| self.not_uploaded(entry, &error))?;
        progress.inc(size);
        Ok(())
    }

    async fn put_in_parts(
        &self,
        folder: &DiskPath,
        entry: &FileEntry,
        progress: &ProgressBar,
    ) -> anyhow::Result<()> {
        let on_disk = folder.join(entry.path.as_str());
        let mut file =
            File::open(&on_disk).await.with_context(|| format!("reading {}", on_disk.display()))?;
        let key = self.key(entry.path.as_str())?;
        let part = usize::try_from(PART.max(entry.size / MOST_PARTS + 1))?;
        let started =
            self.store.put_multipart(&key).await.map_err(|error| self.not_uploaded(entry, &error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(started, part);
        match self.send_parts(&mut file, entry, &mut upload, (part, progress)).await {
            Ok(()) => {
                upload.finish().await.map_err(|error| self.not_uploaded(entry, &error))?;
                Ok(())
            }
            Err(error) => match upload.abort().await {
                Ok(()) => Err(error),
                Err(left) => Err(error.context(format!("its parts could not be taken back: {left}"))),
            },
        }
    }

    async fn send_parts(
        &self,
        file: &mut File,
        entry: &FileEntry,
        upload: &mut WriteMultipart,
        (part, progress): (usize, &ProgressBar),
    ) -> anyhow::Result<()> {
        let mut hasher = Sha256::new();
        loop {
            let bytes = read_part(file, part).await.with_context(|| format!("reading {}", entry.path))?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(&bytes);
            upload
                .wait_for_capacity(PARTS_AT_ONCE)
                .await
                .map_err(|error| self.not_uploaded(entry, &error))?;
            progress.inc(bytes.len() as u64);
            upload.put(bytes.into());
        }
        if Digest::from_bytes(hasher.finalize().into()) == entry.sha256 {
            Ok(())
        } else {
            Err(changed(entry))
        }
    }

    /// Before the files and the manifest, so that a version which is complete is signed. It may be written over: it says
    /// who vouches for the version, and is no part of it.
    pub(super) async fn put_signature(&self, signature: Vec<u8>) -> anyhow::Result<()> {
        let put = self.store.put(&self.key(SIGNATURE_FILE)?, signature.into()).await;
        put.map(drop).map_err(|error| self.failed("uploading the signature to", &error))
    }

    /// If-None-Match: of two who publish at once, one is refused here.
    async fn put_manifest(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let key = self.key(MANIFEST_FILE)?;
        let only_new = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&key, manifest.to_canonical_bytes().into(), only_new).await {
            Ok(_) => Ok(()),
            Err(StoreError::AlreadyExists { .. }) => bail!(
                "{} was published by someone else meanwhile: compare its manifest with this folder's digest {}",
                self.url(),
                manifest.digest()
            ),
            Err(error) => Err(self.failed("uploading the manifest to", &error)),
        }
    }

    pub(super) fn failed(&self, doing: &str, error: &StoreError) -> anyhow::Error {
        failure::stored(error).context(format!("{doing} {}", self.url()))
    }

    fn not_uploaded(&self, entry: &FileEntry, error: &StoreError) -> anyhow::Error {
        self.failed(&format!("uploading {} to", entry.path), error)
    }
}

fn changed(entry: &FileEntry) -> anyhow::Error {
    anyhow!("{} changed while it was published", entry.path)
}

/// Up to `length` bytes; fewer only at the end.
async fn read_part(file: &mut File, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{hash::hash_files, scan::scan};
    use object_store::memory::InMemory;

    struct Case {
        folder: tempfile::TempDir,
        destination: Destination,
    }

    impl Case {
        fn new(files: &[(&str, Vec<u8>)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                std::fs::write(folder.path().join(name), bytes).unwrap();
            }
            let destination = Destination {
                store: Arc::new(InMemory::new()),
                bucket: "models".into(),
                prefix: "defects/1.0.0/".into(),
            };
            Self { folder, destination }
        }

        async fn manifest(&self) -> Manifest {
            hash_files(&scan(self.folder.path(), false).unwrap(), &ProgressBar::hidden()).await.unwrap()
        }

        async fn upload(&self, manifest: &Manifest) -> anyhow::Result<()> {
            self.destination.upload(self.folder.path(), manifest, &ProgressBar::hidden()).await
        }
    }

    #[tokio::test]
    async fn files_and_manifest_arrive_and_a_second_time_changes_nothing() {
        let large = vec![7; 2 * usize::try_from(SINGLE_PUT).unwrap() + 1];
        let case = Case::new(&[("model.onnx", large.clone()), ("größe %.txt", b"x".to_vec())]);
        let manifest = case.manifest().await;
        assert_eq!(case.destination.look(&manifest).await.unwrap(), Present::Nothing);
        case.upload(&manifest).await.unwrap();
        let key = Path::parse("defects/1.0.0/model.onnx").unwrap();
        let stored = case.destination.store.get(&key).await.unwrap().bytes().await.unwrap();
        assert!(stored == large);
        assert_eq!(case.destination.look(&manifest).await.unwrap(), Present::Same);
    }

    #[tokio::test]
    async fn a_version_is_never_written_over() {
        let case = Case::new(&[("model.onnx", b"one".to_vec())]);
        case.upload(&case.manifest().await).await.unwrap();
        std::fs::write(case.folder.path().join("model.onnx"), "two").unwrap();
        let other = case.manifest().await;
        let error = case.destination.look(&other).await.unwrap_err().to_string();
        assert!(error.contains("s3://models/defects/1.0.0/ holds another version already"), "{error}");
        let error = case.destination.put_manifest(&other).await.unwrap_err().to_string();
        assert!(error.contains("by someone else meanwhile"), "{error}");
    }

    #[tokio::test]
    async fn objects_of_something_else_are_named() {
        let case = Case::new(&[("model.onnx", b"one".to_vec())]);
        let key = Path::parse("defects/1.0.0/old.bin").unwrap();
        case.destination.store.put(&key, "x".into()).await.unwrap();
        let error = case.destination.look(&case.manifest().await).await.unwrap_err().to_string();
        assert!(error.contains("defects/1.0.0/old.bin"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_changes_meanwhile_is_named_and_no_manifest_is_written() {
        let large = vec![7; usize::try_from(SINGLE_PUT).unwrap() + 1];
        for (name, first) in [("small.bin", b"one".to_vec()), ("large.bin", large)] {
            let case = Case::new(&[(name, first.clone())]);
            let manifest = case.manifest().await;
            let mut second = first;
            second[0] ^= 1;
            std::fs::write(case.folder.path().join(name), second).unwrap();
            let error = case.upload(&manifest).await.unwrap_err().to_string();
            assert!(error.contains(&format!("{name} changed while it was published")), "{error}");
            assert_eq!(case.destination.look(&manifest).await.unwrap(), Present::Nothing);
        }
    }
}
