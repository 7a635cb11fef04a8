//! The versions of a bundle before anything of them is written: what each consists of, where it lies, and whether what it
//! builds upon is here.

use std::{collections::BTreeMap, sync::Arc};

use nave_bundle::{Place, Sections, Version};
use nave_delta::{Index, MAGIC, Record, tail_limit};
use nave_manifest::Manifest;
use nave_names::Digest;

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

impl Incoming {
    /// All versions of the bundle, in order.
    pub(super) fn all(opened: &Opened, store: &Store) -> Result<Vec<Self>, ImportError> {
        let mut earlier: BTreeMap<Digest, Arc<Manifest>> = BTreeMap::new();
        let mut all = Vec::new();
        for (version, sections) in opened.bundle.versions.iter().zip(opened.bundle.sections()) {
            let one = Self::of(opened, version, &sections, store, &earlier)?;
            earlier.insert(one.digest, Arc::clone(&one.manifest));
            all.push(one);
        }
        Ok(all)
    }

    fn of(
        opened: &Opened,
        version: &Version,
        sections: &Sections,
        store: &Store,
        earlier: &BTreeMap<Digest, Arc<Manifest>>,
    ) -> Result<Self, ImportError> {
        let digest = version.manifest_digest;
        let manifest = read_manifest(opened, sections, digest)?;
        let signature = read_signature(opened, version, sections)?;
        let places = version.places(&manifest, sections.chunks.offset)?;
        let mut one = Self { version: version.clone(), digest, manifest, signature, places, delta: None };
        // What is held already needs no base.
        let Some(base) = version.base.as_ref().filter(|_| !store.has(&digest)) else { return Ok(one) };
        let held = match earlier.get(&base.manifest_digest) {
            Some(manifest) => Arc::clone(manifest),
            None if store.has(&base.manifest_digest) => Arc::new(store.manifest(&base.manifest_digest)?),
            None => {
                let name = format!("{} {}", version.model, version.version);
                let (base, digest) = (base.version.to_string(), base.manifest_digest);
                return Err(ImportError::BaseMissing { version: name, base, digest });
            }
        };
        if version.contents.delta_bytes > 0 {
            one.delta = Some(one.read_delta(opened, sections, held)?);
        }
        Ok(one)
    }

    fn read_delta(
        &self,
        opened: &Opened,
        sections: &Sections,
        base: Arc<Manifest>,
    ) -> Result<Delta, ImportError> {
        let (size, tail) = (self.version.contents.delta_bytes, self.version.contents.delta_index_bytes);
        let name = format!("{} {}", self.version.model, self.version.version);
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
        let index = Index::parse(&bytes, size, &base, &self.manifest);
        if magic != *MAGIC || index.is_err() {
            let blamed = opened.parts.blame(begin..sections.delta.end())?;
            if let Some(damage) = blamed {
                return Err(damage);
            }
        }
        let index = index.map_err(|source| ImportError::Delta { version: name, source })?;
        Ok(Delta { base, records: index.into_records(), offset: begin })
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
