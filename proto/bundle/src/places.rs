//! Where things lie: offsets count from the first byte of the first part, as if all parts were one file.

use std::ops::Range;

use nave_manifest::Manifest;

use crate::{Bundle, BundleError, Contents, Version};

/// Some bytes of the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

impl Section {
    /// The byte after the last.
    pub const fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// Where the contents of one version lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections {
    /// Its manifest.
    pub manifest: Section,
    /// Its signature; empty = it has none.
    pub signature: Section,
    /// Its delta; empty = it has none.
    pub delta: Section,
    /// Its chunks.
    pub chunks: Section,
}

impl Sections {
    pub(crate) const fn at(offset: u64, contents: &Contents) -> Self {
        let manifest = Section { offset, length: contents.manifest_bytes };
        let signature = Section { offset: manifest.end(), length: contents.signature_bytes };
        let delta = Section { offset: signature.end(), length: contents.delta_bytes };
        let chunks = Section { offset: delta.end(), length: contents.chunk_bytes };
        Self { manifest, signature, delta, chunks }
    }

    /// The byte after the version's last.
    pub const fn end(&self) -> u64 {
        self.chunks.end()
    }
}

/// Chunks of a file that lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Position of the file in the manifest.
    pub file: usize,
    /// The first chunk.
    pub first: u32,
    /// The last.
    pub last: u32,
    /// Where the first begins in its file.
    pub begins: u64,
    /// How many bytes they have.
    pub length: u64,
    /// Where the first lies in the parts.
    pub offset: u64,
}

impl Version {
    /// Where the chunks lie that the bundle has of this version, in the manifest's order. `offset` is where they begin.
    ///
    /// # Errors
    /// [`BundleError::UnknownChunks`] where the manifest has none of that kind, and [`BundleError::Inconsistent`] where
    /// their lengths are not what was said.
    pub fn places(&self, manifest: &Manifest, offset: u64) -> Result<Vec<Place>, BundleError> {
        let unknown = |path: &str, why: String| {
            let (manifest, path) = (self.manifest_digest.to_string(), path.to_owned());
            BundleError::UnknownChunks { manifest, path, why }
        };
        let mut places = Vec::new();
        let mut at = offset;
        for (path, runs) in &self.contents.chunks {
            let file = manifest.files().binary_search_by(|file| file.path.cmp(path));
            let file = file.map_err(|_| unknown(path.as_str(), "there is no such file".to_owned()))?;
            let chunks = &manifest.files()[file].chunks;
            if runs.last() as usize >= chunks.len() {
                let why = format!("it has {} chunks, and {} is named", chunks.len(), runs.last());
                return Err(unknown(path.as_str(), why));
            }
            let mut all = chunks.iter();
            for (first, last) in runs.iter() {
                let run = all.by_ref().skip_while(|chunk| chunk.index < first as usize);
                let mut place = Place { file, first, last, begins: 0, length: 0, offset: at };
                for chunk in run.take((last - first + 1) as usize) {
                    if chunk.index == first as usize {
                        place.begins = chunk.offset;
                    }
                    place.length += u64::from(chunk.length);
                }
                at += place.length;
                places.push(place);
            }
        }
        let (found, said) = (at - offset, self.contents.chunk_bytes);
        if found == said {
            return Ok(places);
        }
        let (model, version) = (&self.model, &self.version);
        let what = format!("{model} {version}: its chunks have {found} bytes, and {said} are named");
        Err(BundleError::Inconsistent(what))
    }
}

impl Bundle {
    /// The parts that hold these bytes: the position of each, and which of its own bytes.
    pub fn parts_of(&self, bytes: &Range<u64>) -> Vec<(usize, Range<u64>)> {
        let mut begin = 0;
        let mut found = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let end = begin + part.size;
            let (from, to) = (bytes.start.max(begin), bytes.end.min(end));
            if from < to {
                found.push((at, from - begin..to - begin));
            }
            begin = end;
        }
        found
    }
}
