//! Which chunks of a version a bundle has to carry: those that neither its base nor an earlier version of the bundle has.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use nave_manifest::{Blake3, Manifest};
use nave_names::{Digest, RelativePath};

use crate::Runs;

/// What the site will have when a version is imported.
#[derive(Clone, Debug, Default)]
pub struct Had {
    chunks: HashSet<Blake3>,
    files: HashSet<Digest>,
}

impl Had {
    /// The site has this version too.
    pub fn add(&mut self, manifest: &Manifest) {
        for file in manifest.files() {
            self.files.insert(file.sha256);
            self.chunks.extend(file.chunks.hashes());
        }
    }

    /// What it lacks of `target`: chunks by file. `rebuilt` are the (file, chunk) that a delta makes.
    pub fn lacks(
        &self,
        target: &Manifest,
        rebuilt: &HashSet<(usize, usize)>,
    ) -> BTreeMap<RelativePath, Runs> {
        let mut seen = BTreeSet::new();
        let mut lacking = BTreeMap::new();
        for (at, file) in target.files().iter().enumerate() {
            // Of files with the same content one is stored.
            if self.files.contains(&file.sha256) || !seen.insert(file.sha256) {
                continue;
            }
            let hashes = file.chunks.hashes().iter().enumerate();
            let missing = hashes
                .filter(|(chunk, blake3)| !self.chunks.contains(*blake3) && !rebuilt.contains(&(at, *chunk)))
                .filter_map(|(chunk, _)| u32::try_from(chunk).ok());
            if let Some(runs) = Runs::of(missing) {
                lacking.insert(file.path.clone(), runs);
            }
        }
        lacking
    }
}
