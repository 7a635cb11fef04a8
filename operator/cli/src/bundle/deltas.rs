//! A delta that lies beside a version in S3, as a spoke that holds its base takes it. It is carried only after every block
//! of it was decoded with the base's bytes: at the site there is no second source.

use std::{collections::HashSet, sync::Arc};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use nave_bundle::Base;
use nave_delta::{Catalog, Decoder, Index, MAGIC, Offer, Record, catalog_path, delta_path, tail_limit};
use nave_manifest::Blake3;
use nave_names::RelativePath;

use super::{
    carry::{Carried, Piece},
    parts::Earlier,
};
use crate::publish::reader::Reader;

/// Bytes of blocks that are read and decoded in one go.
const GROUP: u64 = 4 << 20;
/// Groups under way at once.
const AT_ONCE: usize = 4;

/// A delta from something that the site will hold.
pub(super) struct Delta {
    pub(super) base: Base,
    /// Of the object.
    pub(super) size: u64,
    /// Its index and footer.
    pub(super) tail: Bytes,
    path: RelativePath,
    records: Vec<Record>,
    from: Arc<Reader>,
}

impl Delta {
    /// The smallest delta of this version from one of these bases.
    pub(super) async fn find(reader: &Reader, bases: &[(Base, Arc<Reader>)]) -> anyhow::Result<Option<Self>> {
        if bases.is_empty() {
            return Ok(None);
        }
        let Some(catalog) = reader.optional(&catalog_path(), Catalog::MAX_BYTES as u64).await? else {
            return Ok(None);
        };
        let catalog = Catalog::parse(&catalog).context("reading the list of the version's deltas")?;
        let most = tail_limit(reader.manifest());
        let usable = catalog.offers().iter().filter(|offer| offer.index_size <= most);
        let usable = usable.filter_map(|offer| {
            let base = bases.iter().find(|(base, _)| base.manifest_digest == offer.base)?;
            Some((offer, base))
        });
        let Some((offer, (base, from))) = usable.min_by_key(|(offer, _)| offer.size) else { return Ok(None) };
        let delta = Self::open(reader, offer, base, from).await;
        delta.map(Some).with_context(|| format!("reading the delta from {}", base.version))
    }

    async fn open(reader: &Reader, offer: &Offer, base: &Base, from: &Arc<Reader>) -> anyhow::Result<Self> {
        let path = delta_path(&offer.base);
        let tail = reader.range(&path, offer.size - offer.index_size..offer.size).await?;
        let index = Index::parse(&tail, offer.size, from.manifest(), reader.manifest())?;
        Ok(Self {
            base: base.clone(),
            size: offer.size,
            tail,
            path,
            records: index.into_records(),
            from: Arc::clone(from),
        })
    }

    /// (file, chunk) of all that it makes.
    pub(super) fn rebuilt(&self) -> HashSet<(usize, usize)> {
        self.records.iter().map(|record| (record.file, record.chunk)).collect()
    }

    /// Blocks that follow one another.
    fn groups(&self) -> Vec<Vec<Record>> {
        let mut groups: Vec<Vec<Record>> = Vec::new();
        for record in &self.records {
            match groups.last_mut() {
                Some(group) if record.end() - group[0].offset <= GROUP => group.push(*record),
                Some(_) | None => groups.push(vec![*record]),
            }
        }
        groups
    }

    async fn read(
        &self,
        group: &[Record],
        reader: &Reader,
        earlier: &Earlier,
        at: u64,
    ) -> anyhow::Result<Piece> {
        let (begin, end) = (group[0].offset, group[group.len() - 1].end());
        if let Some(bytes) = earlier.read(at + begin, end - begin).await {
            let bytes = Bytes::from(bytes);
            if self.wrong(group, reader, &bytes).await?.is_none() {
                return Ok(Piece { bytes, is_there: true });
            }
        }
        let bytes = reader.range(&self.path, begin..end).await?;
        match self.wrong(group, reader, &bytes).await? {
            None => Ok(Piece::fetched(bytes)),
            Some(why) => bail!(
                "the delta from {} in S3 is damaged: {why}; delete {} below the version's prefix, or publish the delta \
                 again with `kubectl nave publish --delta-from`",
                self.base.version,
                self.path
            ),
        }
    }

    /// What is wrong with a block: it has to become the chunk of its record.
    async fn wrong(
        &self,
        group: &[Record],
        reader: &Reader,
        blocks: &Bytes,
    ) -> anyhow::Result<Option<String>> {
        for record in group {
            let mut bytes = vec![0; record.length as usize];
            if let Some(span) = record.base {
                let file = &self.from.manifest().files()[span.file];
                let range = span.offset..span.offset + u64::from(record.length);
                bytes.copy_from_slice(&self.from.read(file, range).await?);
            }
            let from = (record.offset - group[0].offset) as usize;
            let block = blocks.slice(from..from + record.stored as usize);
            let (record, file) = (*record, &reader.manifest().files()[record.file]);
            let decoded = tokio::task::spawn_blocking(move || {
                Decoder::new()?.decode(&record, &block, &mut bytes)?;
                Ok::<_, nave_delta::DeltaError>(Blake3::of(&bytes))
            });
            match decoded.await? {
                Ok(found) if found == file.chunks.hashes()[record.chunk] => {}
                Ok(_) => {
                    return Ok(Some(format!("chunk {} of {} has other bytes then", record.chunk, file.path)));
                }
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        Ok(None)
    }
}

impl Carried {
    /// Carries the whole object.
    pub(super) async fn carry_delta(&mut self, delta: &Delta, reader: &Reader) -> anyhow::Result<()> {
        let (earlier, at) = (self.writer.earlier(), self.writer.position());
        self.put(&Piece::fetched(Bytes::from_static(MAGIC)))?;
        let groups = delta.groups();
        let mut pieces = futures::stream::iter(&groups)
            .map(|group| delta.read(group, reader, &earlier, at))
            .buffered(AT_ONCE);
        while let Some(piece) = pieces.try_next().await? {
            self.put(&piece)?;
        }
        self.put(&Piece::fetched(delta.tail.clone()))
    }
}
