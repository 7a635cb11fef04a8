//! From files to a manifest.

use std::{fs::File, io::Read as _, sync::Arc};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;
use nave_manifest::{ExternalData, FileEntry, FileHasher, Manifest};

use super::scan::Found;

/// Bytes read at once: large enough that the system calls do not show, small enough to stay in the cache.
const PIECE: usize = 1 << 20;

/// Reads every file once and says what the version consists of. As many files at a time as there are processors; files
/// that say where others' tensors lie come first.
pub(super) async fn hash_files(files: &[Found], progress: &ProgressBar) -> anyhow::Result<Manifest> {
    let (first, rest): (Vec<_>, Vec<_>) =
        files.iter().cloned().partition(|file| ExternalData::refers(&file.path));
    let mut entries = Vec::with_capacity(files.len());
    let mut external = ExternalData::default();
    for files in [first, rest] {
        let known = Arc::new(std::mem::take(&mut external));
        for (entry, learned) in hash_at_once(files, &known, progress).await? {
            entries.push(entry);
            external.extend(learned);
        }
    }
    Manifest::new(entries).context("making the manifest")
}

async fn hash_at_once(
    files: Vec<Found>,
    known: &Arc<ExternalData>,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<(FileEntry, ExternalData)>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    futures::stream::iter(files)
        .map(|file| {
            let (known, progress) = (Arc::clone(known), progress.clone());
            async move {
                tokio::task::spawn_blocking(move || hash_file(file, &known, &progress))
                    .await
                    .context("hashing ended early")?
            }
        })
        .buffer_unordered(processors)
        .try_collect()
        .await
}

fn hash_file(
    file: Found,
    known: &ExternalData,
    progress: &ProgressBar,
) -> anyhow::Result<(FileEntry, ExternalData)> {
    let reading = || format!("reading {}", file.on_disk.display());
    let mut open = File::open(&file.on_disk).with_context(reading)?;
    let mut hasher = FileHasher::knowing(file.path, known);
    let mut piece = vec![0; PIECE];
    loop {
        let length = open.read(&mut piece).with_context(reading)?;
        if length == 0 {
            let mut learned = ExternalData::default();
            return Ok((hasher.finish_into(&mut learned), learned));
        }
        hasher.update(&piece[..length]);
        progress.inc(length as u64);
    }
}
