//! A version to be compared: its manifest, and any bytes of its files, from S3 or from a folder.

use std::{ops::Range, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use nave_delta::{Layout, Tensors};
use nave_manifest::{FileEntry, MANIFEST_FILE, Manifest, safetensors};
use nave_names::{Digest, RelativePath};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};

use crate::failure;

/// Where the bytes are.
pub(crate) enum Place {
    Folder(PathBuf),
    /// `prefix` ends with `/`.
    S3 {
        store: Arc<dyn ObjectStore>,
        bucket: String,
        prefix: String,
    },
}

/// One version.
pub(crate) struct Reader {
    place: Place,
    manifest: Manifest,
}

impl Reader {
    /// A folder that was hashed.
    pub(crate) fn folder(folder: PathBuf, manifest: Manifest) -> Self {
        Self { place: Place::Folder(folder), manifest }
    }

    /// A published version. Its manifest has to be the one with this digest.
    pub(crate) async fn s3(
        store: Arc<dyn ObjectStore>,
        bucket: &str,
        prefix: &str,
        digest: &Digest,
    ) -> anyhow::Result<Self> {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let url = format!("s3://{bucket}/{prefix}{MANIFEST_FILE}");
        let reading = || format!("reading {url}");
        let key = Path::parse(format!("{prefix}{MANIFEST_FILE}")).with_context(reading)?;
        let found = store.get(&key).await.map_err(|error| failure::stored(&error)).with_context(reading)?;
        let bytes = found.bytes().await.map_err(|error| failure::stored(&error)).with_context(reading)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            bail!("{url} has the digest {found}, the ModelVersion has {digest}: the object was changed");
        }
        let manifest = Manifest::parse(&bytes).with_context(reading)?;
        Ok(Self { place: Place::S3 { store, bucket: bucket.to_owned(), prefix }, manifest })
    }

    /// What it consists of.
    pub(crate) const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of one file.
    pub(crate) async fn read(&self, file: &FileEntry, range: Range<u64>) -> anyhow::Result<Bytes> {
        self.range(&file.path, range).await
    }

    /// Bytes of whatever lies at this path of the version, a delta say.
    pub(crate) async fn range(&self, path: &RelativePath, range: Range<u64>) -> anyhow::Result<Bytes> {
        match &self.place {
            Place::Folder(folder) => {
                let path = folder.join(path.as_str());
                let reading = format!("reading {}", path.display());
                let read = move || {
                    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
                    std::fs::File::open(&path)?.read_exact_at(&mut bytes, range.start)?;
                    std::io::Result::Ok(Bytes::from(bytes))
                };
                tokio::task::spawn_blocking(read).await?.context(reading)
            }
            Place::S3 { store, bucket, prefix } => {
                let reading = || format!("reading s3://{bucket}/{prefix}{path}");
                let key = Path::parse(format!("{prefix}{path}")).with_context(reading)?;
                let bytes = store.get_range(&key, range.clone()).await;
                let bytes = bytes.map_err(|error| failure::stored(&error)).with_context(reading)?;
                if bytes.len() as u64 != range.end - range.start {
                    bail!("{}: it is shorter than its manifest says", reading());
                }
                Ok(bytes)
            }
        }
    }
}

impl Reader {
    /// A small object of a published version that need not be there, of at most `limit` bytes.
    pub(crate) async fn optional(&self, path: &RelativePath, limit: u64) -> anyhow::Result<Option<Bytes>> {
        let Place::S3 { store, bucket, prefix } = &self.place else { return Ok(None) };
        let reading = || format!("reading s3://{bucket}/{prefix}{path}");
        let key = Path::parse(format!("{prefix}{path}")).with_context(reading)?;
        let found = match store.get(&key).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failure::stored(&error)).with_context(reading),
        };
        if found.meta.size > limit {
            bail!("{}: it has {} bytes, more than the {limit} that it may have", reading(), found.meta.size);
        }
        found.bytes().await.map(Some).map_err(|error| failure::stored(&error)).with_context(reading)
    }
}

/// The version with the tensor tables of its safetensors files. A file whose header is none is an opaque one.
pub(crate) async fn layout(reader: &Reader) -> anyhow::Result<Layout> {
    let mut layout = Layout::new(reader.manifest().clone());
    for (at, file) in reader.manifest().files().iter().enumerate() {
        let first = safetensors::LENGTH_BYTES;
        if !file.path.as_str().ends_with(".safetensors") || file.size < first {
            continue;
        }
        let length = reader.read(file, 0..first).await?;
        let Some(Ok(length)) = length.first_chunk().map(|bytes| safetensors::header_length(*bytes)) else {
            continue;
        };
        if first + length > file.size {
            continue;
        }
        let header = reader.read(file, first..first + length).await?;
        if let Ok(tensors) = safetensors::parse_header(&header) {
            layout.set_tensors(at, Tensors { data: first + length, tensors });
        }
    }
    Ok(layout)
}
