//! Which of the chunks that a pull needs are in the store already, in any file of any version.

use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::FileExt as _,
};

use nave_manifest::Blake3;
use nave_names::Digest;

use super::{Store, StoreError};

/// Where wanted chunks lie in the store.
#[derive(Debug, Default)]
pub(crate) struct ChunkIndex {
    places: HashMap<Blake3, Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    blob: Digest,
    offset: u64,
    length: u32,
}

impl ChunkIndex {
    /// Looks for these chunks in every version of the store.
    pub(crate) fn of(store: &Store, wanted: &HashSet<Blake3>) -> Result<Self, StoreError> {
        let mut places = HashMap::new();
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        for digest in store.digests()? {
            // A damaged version supplies nothing; verify is what reports it.
            let Ok(manifest) = store.manifest(&digest) else { continue };
            for file in manifest.files() {
                for chunk in file.chunks.iter().filter(|chunk| wanted.contains(&chunk.blake3)) {
                    let place = Place { blob: file.sha256, offset: chunk.offset, length: chunk.length };
                    places.entry(chunk.blake3).or_insert(place);
                }
            }
        }
        Ok(Self { places })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The bytes of a chunk, if the store has them and they are still right.
    pub(crate) fn read(&self, store: &Store, blake3: &Blake3, length: u32) -> Option<Vec<u8>> {
        let place = self.places.get(blake3).filter(|place| place.length == length)?;
        let blob = store.open_blob(&place.blob).ok()?;
        let mut bytes = vec![0; length as usize];
        blob.read_exact_at(&mut bytes, place.offset).ok()?;
        (Blake3::of(&bytes) == *blake3).then_some(bytes)
    }
}
