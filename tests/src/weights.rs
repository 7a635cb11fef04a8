//! Weights for tests: folders of pseudo-random files that a seed determines, and what lies in a folder, by digest.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

/// Writes a file of `size` bytes that `seed` determines and that does not compress.
///
/// # Errors
/// It cannot be written.
pub fn write_random(path: &Path, size: u64, seed: u64) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = BufWriter::new(File::create(path)?);
        let mut random = SmallRng::seed_from_u64(seed);
        let mut block = [0_u8; 8192];
        let mut left = size;
        while left > 0 {
            random.fill(&mut block[..]);
            let part = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
            file.write_all(&block[..part])?;
            left -= part as u64;
        }
        file.flush()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Every file below a folder, links followed, with the SHA-256 of its content.
///
/// # Errors
/// The folder cannot be read.
pub fn digests(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in WalkDir::new(folder).follow_links(true) {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(folder).context("a path outside of its folder")?;
            found.insert(name.to_string_lossy().into_owned(), file_digest(entry.path())?);
        }
    }
    Ok(found)
}

/// The SHA-256 of one file, in hex.
///
/// # Errors
/// It cannot be read.
pub fn file_digest(path: &Path) -> anyhow::Result<String> {
    let hash = || -> io::Result<String> {
        let mut hasher = Sha256::new();
        let mut file = File::open(path)?;
        let mut block = vec![0_u8; 1 << 20];
        loop {
            let count = io::Read::read(&mut file, &mut block)?;
            if count == 0 {
                return Ok(hex::encode(hasher.finalize()));
            }
            hasher.update(&block[..count]);
        }
    };
    hash().with_context(|| format!("hashing {}", path.display()))
}
