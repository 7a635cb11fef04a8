//! `--delta-from`: what a spoke that holds another version needs to rebuild this one, as an object beside it. The base is
//! read from S3 in ranges, the version from its folder, and the blocks go to S3 as they are made, so memory is a few
//! ranges however large the model is. Nothing is stored where nothing is saved.

use std::{ops::Range, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;
use nave_delta::{Block, Encoder, IndexWriter, Layout, MAGIC, Offer, Recipe, delta_path, plan};
use nave_manifest::CHUNK;
use nave_names::Digest;
use object_store::{ObjectStoreExt as _, WriteMultipart};
use serde::Serialize;

use super::{
    catalog,
    reader::{Reader, layout},
    upload::Destination,
};

/// Bytes that are read and encoded in one go.
const GROUP: u64 = 8 << 20;
/// Parts of the object under way at once.
const PARTS_AT_ONCE: usize = 4;
/// Of the object's parts; S3 allows 10,000 of them.
const PART: usize = 16 << 20;

/// What became of a delta.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    /// The version that it starts from, as the user named it.
    pub(super) from: String,
    pub(super) base_digest: Digest,
    /// False where it would not have been smaller.
    pub(super) stored: bool,
    /// What a spoke with the base fetches of large files without the delta.
    pub(super) whole_bytes: u64,
    /// The same with the delta.
    pub(super) delta_bytes: u64,
}

impl Outcome {
    /// For people.
    pub(super) fn percent_saved(&self) -> f64 {
        let (whole, delta) = (self.whole_bytes as f64, self.delta_bytes as f64);
        if self.whole_bytes == 0 { 0.0 } else { 100.0 * (1.0 - delta / whole) }
    }
}

/// Both versions, and what lies between them.
pub(super) struct Comparison {
    base: Arc<Reader>,
    target: Arc<Reader>,
    from: Layout,
    to: Layout,
    recipes: Vec<Recipe>,
}

impl Comparison {
    /// Reads the tensor tables of both versions and compares their chunks.
    pub(super) async fn of(base: Reader, target: Reader) -> anyhow::Result<Self> {
        let from = layout(&base).await.context("reading the base")?;
        let to = layout(&target).await.context("reading the version")?;
        let mut recipes = plan(&from, &to);
        // Smaller files are fetched whole by one request.
        recipes.retain(|recipe| to.manifest().files()[recipe.file].size > u64::from(CHUNK));
        Ok(Self { base: Arc::new(base), target: Arc::new(target), from, to, recipes })
    }

    /// Bytes of the chunks that differ.
    pub(super) fn whole_bytes(&self) -> u64 {
        self.recipes.iter().map(|recipe| u64::from(recipe.length)).sum()
    }

    /// Encodes and uploads; the object and its place in the list are there only where they save something.
    pub(super) async fn store(
        &self,
        name: &str,
        destination: &Destination,
        progress: &ProgressBar,
    ) -> anyhow::Result<Outcome> {
        let base_digest = self.from.manifest().digest();
        let path = delta_path(&base_digest);
        let key = destination.key(path.as_str())?;
        let not_uploaded =
            |error: &object_store::Error| destination.failed(&format!("uploading {path} to"), error);
        let started = destination.store.put_multipart(&key).await.map_err(|error| not_uploaded(&error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(started, PART);
        let mut writer = IndexWriter::new(base_digest, self.to.manifest().digest());
        let encoded = self.encode(&mut writer, &mut upload, progress).await;
        let whole_bytes = self.whole_bytes();
        let rebuilt: u64 = writer.records().iter().map(|record| u64::from(record.length)).sum();
        let stored = encoded.is_ok() && writer.size() < rebuilt;
        if !stored {
            upload.abort().await.map_err(|error| not_uploaded(&error))?;
            encoded?;
            let (from, delta_bytes) = (name.to_owned(), whole_bytes);
            return Ok(Outcome { from, base_digest, stored, whole_bytes, delta_bytes });
        }
        let size = writer.size();
        let tail = writer.finish();
        upload.write(&tail);
        upload.finish().await.map_err(|error| not_uploaded(&error))?;
        let offer = Offer { base: base_digest, size, index_size: tail.len() as u64 };
        catalog::add(destination, offer).await?;
        let delta_bytes = whole_bytes - rebuilt + size;
        Ok(Outcome { from: name.to_owned(), base_digest, stored, whole_bytes, delta_bytes })
    }

    async fn encode(
        &self,
        writer: &mut IndexWriter,
        upload: &mut WriteMultipart,
        progress: &ProgressBar,
    ) -> anyhow::Result<()> {
        upload.write(MAGIC);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let groups = futures::stream::iter(groups(&self.recipes));
        let mut encoded = groups.map(|group| self.encode_group(group)).buffered(processors + 2);
        while let Some((group, blocks)) = encoded.try_next().await? {
            for (recipe, block) in group.iter().zip(blocks) {
                progress.inc(recipe.length.into());
                if let Some(block) = block {
                    writer.push(recipe, &block);
                    upload.wait_for_capacity(PARTS_AT_ONCE).await.context("uploading the delta")?;
                    upload.write(&block.bytes);
                }
            }
        }
        Ok(())
    }

    async fn encode_group<'a>(
        &self,
        group: &'a [Recipe],
    ) -> anyhow::Result<(&'a [Recipe], Vec<Option<Block>>)> {
        let bytes =
            self.target.read(&self.to.manifest().files()[group[0].file], span(group, |r| r.offset)).await?;
        let base = match group[0].base {
            Some(first) => {
                let file = &self.from.manifest().files()[first.file];
                let offset = |recipe: &Recipe| recipe.base.map_or(0, |span| span.offset);
                Some(self.base.read(file, span(group, offset)).await?)
            }
            None => None,
        };
        let recipes = group.to_vec();
        let blocks = tokio::task::spawn_blocking(move || encode_all(&recipes, &bytes, base.as_ref()));
        Ok((group, blocks.await.context("encoding ended early")??))
    }
}

fn encode_all(recipes: &[Recipe], bytes: &Bytes, base: Option<&Bytes>) -> anyhow::Result<Vec<Option<Block>>> {
    let mut encoder = Encoder::new()?;
    let mut at = 0;
    let encode = |recipe: &Recipe| {
        let range = at..at + recipe.length as usize;
        at = range.end;
        let base = base.map(|base| &base[range.clone()]);
        Ok(encoder.encode(&bytes[range], base, recipe.width)?)
    };
    recipes.iter().map(encode).collect()
}

/// From the first chunk's first byte to the last one's last, where chunks begin as `offset` says.
fn span(group: &[Recipe], offset: impl Fn(&Recipe) -> u64) -> Range<u64> {
    let length: u64 = group.iter().map(|recipe| u64::from(recipe.length)).sum();
    let begin = offset(&group[0]);
    begin..begin + length
}

/// Chunks that follow one another in both versions, up to [`GROUP`] bytes.
fn groups(recipes: &[Recipe]) -> Vec<&[Recipe]> {
    let mut begin = 0;
    recipes
        .chunk_by(|a, b| {
            let end = a.offset + u64::from(a.length);
            let base_follows = match (a.base, b.base) {
                (Some(a_base), Some(b_base)) => {
                    a_base.file == b_base.file && a_base.offset + u64::from(a.length) == b_base.offset
                }
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            let follows = a.file == b.file && end == b.offset && base_follows;
            if begin > a.offset || !follows {
                begin = a.offset;
            }
            let fits = b.offset + u64::from(b.length) - begin <= GROUP;
            if !(follows && fits) {
                begin = b.offset;
            }
            follows && fits
        })
        .collect()
}
