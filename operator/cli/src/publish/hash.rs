//! From files to a manifest.

use std::{fs::File, io::Read as _, path::PathBuf};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;
use nave_manifest::{FileEntry, FileHasher, Manifest};
use nave_names::RelativePath;

use super::scan::Found;

/// Bytes read at once: large enough that the system calls do not show, small enough to stay in the cache.
const PIECE: usize = 1 << 20;

/// Reads every file once and says what the version consists of. As many files at a time as there are processors.
pub(super) async fn hash_files(files: &[Found], progress: &ProgressBar) -> anyhow::Result<Manifest> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let entries = futures::stream::iter(files.iter().cloned())
        .map(|file| {
            let progress = progress.clone();
            async move {
                tokio::task::spawn_blocking(move || hash_file(file.path, &file.on_disk, &progress))
                    .await
                    .context("hashing ended early")?
            }
        })
        .buffer_unordered(processors)
        .try_collect::<Vec<FileEntry>>()
        .await?;
    Manifest::new(entries).context("making the manifest")
}

fn hash_file(path: RelativePath, on_disk: &PathBuf, progress: &ProgressBar) -> anyhow::Result<FileEntry> {
    let reading = || format!("reading {}", on_disk.display());
    let mut file = File::open(on_disk).with_context(reading)?;
    let mut hasher = FileHasher::new(path);
    let mut piece = vec![0; PIECE];
    loop {
        let length = file.read(&mut piece).with_context(reading)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&piece[..length]);
        progress.inc(length as u64);
    }
}
