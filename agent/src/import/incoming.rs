//! The versions of a bundle before anything of them is written: what each consists of, where it lies, and whether what it
//! builds upon is here.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use nave_bundle::{Base, Had, Place, Sections, Version};
use nave_delta::{DeltaError, Index, MAGIC, Record, tail_limit};
use nave_manifest::Manifest;
use nave_names::{Digest, RelativePath};

use super::{ImportError, opened::Opened};
use crate::store::{Part, Store};

/// One version to be imported.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) version: Version,
    pub(super) digest: Digest,
    pub(super) manifest: Arc<Manifest>,
    /// As it came; checked when somebody asks for it.
    pub(super) signature: Option<Vec<u8>>,
    /// Where its chunks lie, by file and chunk.
    pub(super) places: Vec<Place>,
    pub(super) delta: Option<Delta>,
}

/// Blocks that become chunks.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) base: Arc<Manifest>,
    /// By file and chunk.
    pub(super) records: Vec<Record>,
    /// Of the object's first byte.
    pub(super) offset: u64,
}

/// What the spoke will have when the next version's turn comes.
#[derive(Debug, Default)]
struct Before {
    /// Versions of this bundle.
    earlier: BTreeMap<Digest, Arc<Manifest>>,
    /// Chunks and files of those, and of what they build upon.
    had: Had,
    /// What a version builds upon that is here already, and is not here any more.
    gone: Option<Base>,
}

impl Incoming {
    /// All versions of the bundle, in order.
    pub(super) fn all(opened: &Opened, store: &Store) -> Result<Vec<Self>, ImportError> {
        let mut before = Before::default();
        let mut all = Vec::new();
        for (version, sections) in opened.bundle.versions.iter().zip(opened.bundle.sections()) {
            let one = Self::of(opened, version, &sections, store, &mut before)?;
            before.had.add(&one.manifest);
            before.earlier.insert(one.digest, Arc::clone(&one.manifest));
            all.push(one);
        }
        Ok(all)
    }

    fn of(
        opened: &Opened,
        version: &Version,
        sections: &Sections,
        store: &Store,
        before: &mut Before,
    ) -> Result<Self, ImportError> {
        let digest = version.manifest_digest;
        let manifest = read_manifest(opened, sections, digest)?;
        let signature = read_signature(opened, version, sections)?;
        let places = version.places(&manifest, sections.chunks.offset)?;
        let mut one = Self { version: version.clone(), digest, manifest, signature, places, delta: None };
        let (found, said) = (one.manifest.total_size(), version.size_bytes);
        if found != said {
            let what = format!("{} has {found} bytes by its manifest, and {said} by bundle.json", one.name());
            return Err(ImportError::Contradiction(what));
        }
        let base = before.base_of(&one, store)?;
        // Of what is held already nothing is needed.
        if store.has(&digest) {
            return Ok(one);
        }
        if let Some(base) = base.filter(|_| version.contents.delta_bytes > 0) {
            one.delta = Some(one.read_delta(opened, sections, base)?);
        }
        one.check_complete(before)?;
        Ok(one)
    }

    /// For people.
    fn name(&self) -> String {
        format!("{} {}", self.version.model, self.version.version)
    }

    /// Every chunk comes from somewhere, and none from the parts and the delta both.
    fn check_complete(&self, before: &Before) -> Result<(), ImportError> {
        let carried = &self.version.contents.chunks;
        let is_carried =
            |path: &RelativePath, chunk: u32| carried.get(path).is_some_and(|runs| runs.contains(chunk));
        let mut rebuilt = HashSet::new();
        for Record { file, chunk, .. } in self.delta.iter().flat_map(|delta| &delta.records) {
            let path = &self.manifest.files()[*file].path;
            if u32::try_from(*chunk).is_ok_and(|chunk| is_carried(path, chunk)) {
                let what = format!("chunk {chunk} of {path} is carried as it is and by the delta");
                return Err(ImportError::Contradiction(what));
            }
            rebuilt.insert((*file, *chunk));
        }
        for (path, runs) in before.had.lacks(&self.manifest, &rebuilt) {
            let mut chunks = runs.iter().flat_map(|(first, last)| first..=last);
            let Some(chunk) = chunks.find(|chunk| !is_carried(&path, *chunk)) else { continue };
            return Err(match &before.gone {
                Some(base) => self.base_missing(base),
                None => ImportError::Contradiction(format!(
                    "it has nothing for chunk {chunk} of {path} of {}, and neither has what that builds upon",
                    self.name()
                )),
            });
        }
        Ok(())
    }

    fn base_missing(&self, base: &Base) -> ImportError {
        let (base, digest) = (base.version.to_string(), base.manifest_digest);
        ImportError::BaseMissing { version: self.name(), base, digest }
    }

    fn read_delta(
        &self,
        opened: &Opened,
        sections: &Sections,
        base: Arc<Manifest>,
    ) -> Result<Delta, ImportError> {
        let (size, tail) = (self.version.contents.delta_bytes, self.version.contents.delta_index_bytes);
        let name = self.name();
        let most = tail_limit(&self.manifest);
        if tail > most {
            let what = format!("the delta to {name} has an index of {tail} bytes, more than {most}");
            return Err(ImportError::Contradiction(what));
        }
        let mut magic = [0; MAGIC.len()];
        let mut bytes = vec![0; usize::try_from(tail).unwrap_or(usize::MAX)];
        let begin = sections.delta.offset;
        opened.parts.read(begin, &mut magic)?;
        opened.parts.read(sections.delta.end() - tail, &mut bytes)?;
        let index = check_magic(&magic).and_then(|()| Index::parse(&bytes, size, &base, &self.manifest));
        match index {
            Ok(index) => Ok(Delta { base, records: index.into_records(), offset: begin }),
            Err(source) => {
                let blamed = opened.parts.blame(begin..sections.delta.end())?;
                Err(blamed.unwrap_or(ImportError::Delta { version: name, source }))
            }
        }
    }

    /// Where a chunk lies in the parts, if the bundle carries it as it is.
    pub(super) fn place(&self, file: usize, chunk: usize, begins: u64) -> Option<u64> {
        let after = self.places.partition_point(|place| (place.file, place.first as usize) <= (file, chunk));
        let place = self.places[..after].last()?;
        let is_there = place.file == file && chunk <= place.last as usize;
        is_there.then(|| place.offset + (begins - place.begins))
    }

    /// The block that becomes a chunk, if there is one.
    pub(super) fn block(&self, file: usize, chunk: usize) -> Option<(&Delta, &Record)> {
        let delta = self.delta.as_ref()?;
        let at = delta.records.binary_search_by_key(&(file, chunk), |record| (record.file, record.chunk));
        Some((delta, &delta.records[at.ok()?]))
    }
}

impl Before {
    /// What this version builds upon, if it does.
    fn base_of(&mut self, one: &Incoming, store: &Store) -> Result<Option<Arc<Manifest>>, ImportError> {
        let Some(base) = &one.version.base else { return Ok(None) };
        if let Some(manifest) = self.earlier.get(&base.manifest_digest) {
            return Ok(Some(Arc::clone(manifest)));
        }
        let is_here = store.has(&one.digest);
        let manifest = match store.has(&base.manifest_digest) {
            true => store.manifest(&base.manifest_digest).map(Some),
            false => Ok(None),
        };
        match manifest {
            Ok(Some(manifest)) => {
                self.had.add(&manifest);
                Ok(Some(Arc::new(manifest)))
            }
            // Only a later version may miss it.
            Ok(None) | Err(_) if is_here => {
                self.gone = Some(base.clone());
                Ok(None)
            }
            Ok(None) => Err(one.base_missing(base)),
            Err(error) => Err(error.into()),
        }
    }
}

fn check_magic(magic: &[u8]) -> Result<(), DeltaError> {
    if magic == MAGIC { Ok(()) } else { Err(DeltaError::BadMagic { expected: "NAVEDLT1", at: "start" }) }
}

fn read_manifest(opened: &Opened, sections: &Sections, digest: Digest) -> Result<Arc<Manifest>, ImportError> {
    let bytes = opened.parts.section(&sections.manifest)?;
    let found = Digest::of(&bytes);
    if found != digest {
        let blamed = opened.parts.blame(sections.manifest.offset..sections.manifest.end())?;
        let other = || ImportError::Contradiction(format!("manifest {digest} has the digest {found}"));
        return Err(blamed.unwrap_or_else(other));
    }
    let manifest = Manifest::parse(&bytes).map_err(|source| ImportError::Manifest { digest, source })?;
    Ok(Arc::new(manifest))
}

fn read_signature(
    opened: &Opened,
    version: &Version,
    sections: &Sections,
) -> Result<Option<Vec<u8>>, ImportError> {
    let Some(expected) = version.contents.signature_digest else { return Ok(None) };
    if sections.signature.length > nave_signature::MAX_SIGNATURE_BYTES {
        return Err(ImportError::Contradiction(format!(
            "a signature of {} bytes",
            sections.signature.length
        )));
    }
    let bytes = opened.parts.section(&sections.signature)?;
    if Digest::of(&bytes) == expected {
        return Ok(Some(bytes));
    }
    let blamed = opened.parts.blame(sections.signature.offset..sections.signature.end())?;
    let (model, version) = (&version.model, &version.version);
    let other = || ImportError::Contradiction(format!("the signature of {model} {version} is another one"));
    Err(blamed.unwrap_or_else(other))
}

/// Bytes of disk that all versions together still need.
pub(super) fn needed(incoming: &[Incoming], store: &Store) -> u64 {
    let mut files = BTreeMap::new();
    for one in incoming.iter().filter(|one| !store.has(&one.digest)) {
        let staging = store.staging_path(&one.digest);
        for file in one.manifest.files().iter().filter(|file| !store.has_blob(&file.sha256, file.size)) {
            let left = file.size - Part::allocated(&staging, &file.sha256, file.size);
            files.entry(file.sha256).and_modify(|least: &mut u64| *least = left.min(*least)).or_insert(left);
        }
    }
    files.values().sum()
}
