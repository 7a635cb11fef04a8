//! One version on its way from S3 into the parts. Nothing is written that was not compared with the version's manifest:
//! a bundle that is damaged shall not be found out at the site.

use std::{collections::HashSet, sync::Arc};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use indicatif::ProgressBar;
use nave_bundle::{Base, Contents, Had, Part, Version};
use nave_manifest::Manifest;
use nave_names::{Digest, RelativePath};
use nave_signature::{MAX_SIGNATURE_BYTES, SIGNATURE_FILE};

use super::{
    deltas::Delta,
    parts::Writer,
    select::{Named, Selection},
};
use crate::{
    connection::Connected,
    publish::{reader::Reader, storage},
};

/// One version, and what of it is carried.
pub(super) struct Load {
    pub(super) version: Version,
    pub(super) reader: Arc<Reader>,
    pub(super) delta: Option<Delta>,
    signature: Option<Bytes>,
}

impl Load {
    /// Looks at every version of the selection, in order: a later one needs not carry what an earlier one has.
    pub(super) async fn plan(hub: &Connected, selection: &Selection) -> anyhow::Result<Vec<Self>> {
        let mut had = Had::default();
        // What the site will have by then, to build upon.
        let mut bases: Vec<(Base, Arc<Reader>)> = Vec::new();
        if let Some(base) = &selection.base {
            let reader = open(hub, base).await.context("--delta-from")?;
            had.add(reader.manifest());
            bases.push((named(base)?, reader));
        }
        let mut loads = Vec::new();
        for version in &selection.versions {
            let reader = open(hub, version).await?;
            let load = Self::of(selection, version, Arc::clone(&reader), &had, &bases).await?;
            had.add(reader.manifest());
            bases.push((named(version)?, reader));
            loads.push(load);
        }
        Ok(loads)
    }

    async fn of(
        selection: &Selection,
        (object, digest): &Named,
        reader: Arc<Reader>,
        had: &Had,
        bases: &[(Base, Arc<Reader>)],
    ) -> anyhow::Result<Self> {
        let manifest = reader.manifest();
        let path = RelativePath::new(SIGNATURE_FILE).context("path of the signature")?;
        let signature = reader.optional(&path, MAX_SIGNATURE_BYTES).await?;
        let whole = had.lacks(manifest, &HashSet::new());
        let delta = Delta::find(&reader, bases).await?;
        let rebuilt = delta.as_ref().map(Delta::rebuilt).unwrap_or_default();
        let lacking = had.lacks(manifest, &rebuilt);
        // A delta that is not smaller than what it rebuilds is of no use here either.
        let saves = delta
            .as_ref()
            .is_some_and(|delta| delta.size + bytes_of(manifest, &lacking) < bytes_of(manifest, &whole));
        let (delta, chunks) = if saves { (delta, lacking) } else { (None, whole) };
        let base = match (&delta, &selection.base) {
            (Some(delta), _) => Some(delta.base.clone()),
            (None, Some(_)) => bases.first().map(|(base, _)| base.clone()),
            (None, None) => None,
        };
        let version = Version {
            namespace: namespace(object)?.parse().context("the namespace")?,
            model: object.spec.model.parse().context("the model's name")?,
            version: object.spec.version.parse().context("the version's name")?,
            manifest_digest: *digest,
            size_bytes: manifest.total_size(),
            base,
            contents: Contents {
                manifest_bytes: manifest.to_canonical_bytes().len() as u64,
                signature_bytes: signature.as_ref().map_or(0, |bytes| bytes.len() as u64),
                signature_digest: signature.as_ref().map(|bytes| Digest::of(bytes)),
                delta_bytes: delta.as_ref().map_or(0, |delta| delta.size),
                delta_index_bytes: delta.as_ref().map_or(0, |delta| delta.tail.len() as u64),
                chunk_bytes: bytes_of(manifest, &chunks),
                chunks,
            },
        };
        Ok(Self { version, reader, delta, signature })
    }

    /// Bytes in the parts.
    pub(super) fn bytes(&self) -> u64 {
        let contents = &self.version.contents;
        contents.manifest_bytes + contents.signature_bytes + contents.delta_bytes + contents.chunk_bytes
    }
}

/// Where the parts are written, and what was done so far.
pub(super) struct Carried {
    pub(super) writer: Writer,
    pub(super) bar: ProgressBar,
    pub(super) fetched: u64,
    pub(super) resumed: u64,
}

impl Carried {
    pub(super) const fn new(writer: Writer, bar: ProgressBar) -> Self {
        Self { writer, bar, fetched: 0, resumed: 0 }
    }

    /// Writes everything of one version, in the order of the format.
    pub(super) async fn load(&mut self, load: &Load) -> anyhow::Result<()> {
        let manifest = load.reader.manifest();
        self.put(&Piece::fetched(manifest.to_canonical_bytes().into()))?;
        if let Some(signature) = &load.signature {
            self.put(&Piece::fetched(signature.clone()))?;
        }
        if let Some(delta) = &load.delta {
            self.carry_delta(delta, &load.reader).await?;
        }
        self.carry_chunks(load).await
    }

    pub(super) fn put(&mut self, piece: &Piece) -> anyhow::Result<()> {
        let length = piece.bytes.len() as u64;
        *if piece.is_there { &mut self.resumed } else { &mut self.fetched } += length;
        self.bar.inc(length);
        // A few megabytes at a time; the next ones are being fetched meanwhile.
        tokio::task::block_in_place(|| self.writer.put(&piece.bytes, piece.is_there))
    }

    /// The parts, and the bytes fetched and found.
    pub(super) fn finish(self) -> anyhow::Result<(Vec<Part>, u64, u64)> {
        Ok((self.writer.finish()?, self.fetched, self.resumed))
    }
}

/// Verified bytes that come next.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// An export that was interrupted wrote them at their place already.
    pub(super) is_there: bool,
}

impl Piece {
    pub(super) const fn fetched(bytes: Bytes) -> Self {
        Self { bytes, is_there: false }
    }
}

fn bytes_of(
    manifest: &Manifest,
    chunks: &std::collections::BTreeMap<RelativePath, nave_bundle::Runs>,
) -> u64 {
    let of_file = |(path, runs): (&RelativePath, &nave_bundle::Runs)| {
        let lengths: Vec<u64> = manifest
            .file(path)
            .map_or_else(Vec::new, |file| file.chunks.iter().map(|c| c.length.into()).collect());
        runs.iter()
            .map(|(first, last)| lengths[first as usize..=last as usize].iter().sum::<u64>())
            .sum::<u64>()
    };
    chunks.iter().map(of_file).sum()
}

async fn open(hub: &Connected, (version, digest): &Named) -> anyhow::Result<Arc<Reader>> {
    let source = &version.spec.source.s3;
    let store = storage::open(source, Some(hub)).await?;
    Ok(Arc::new(Reader::s3(store, &source.bucket, &source.prefix, digest).await?))
}

fn named((version, digest): &Named) -> anyhow::Result<Base> {
    let name = version.spec.version.parse().context("the version's name")?;
    Ok(Base { version: name, manifest_digest: *digest })
}

fn namespace(version: &nave_crds::ModelVersion) -> anyhow::Result<&str> {
    version.metadata.namespace.as_deref().ok_or_else(|| anyhow!("a ModelVersion without a namespace"))
}
