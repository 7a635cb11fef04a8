//! Versions in memory, a delta between two of them, and a spoke that holds the base.

use std::collections::BTreeMap;

use nave_delta::{Decoder, DeltaError, Encoder, Index, IndexWriter, Layout, MAGIC, Tensors, plan};
use nave_manifest::{Blake3, FileHasher, Manifest, safetensors};
use nave_names::RelativePath;

/// A version with its bytes.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) layout: Layout,
    pub(crate) files: Vec<Vec<u8>>,
}

/// One tensor: type, shape, bytes.
pub(crate) type Tensor = (&'static str, Vec<u64>, Vec<u8>);

impl Version {
    pub(crate) fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let entries = files.iter().map(|(path, bytes)| {
            let mut hasher = FileHasher::new(RelativePath::new(path.as_str()).unwrap());
            hasher.update(bytes);
            hasher.finish()
        });
        let mut layout = Layout::new(Manifest::new(entries.collect()).unwrap());
        for (file, bytes) in files.values().enumerate() {
            let Some(length) = bytes.first_chunk::<8>().map(|first| u64::from_le_bytes(*first)) else {
                continue;
            };
            let header = usize::try_from(length).ok().and_then(|length| bytes.get(8..length.checked_add(8)?));
            if let Some(Ok(tensors)) = header.map(safetensors::parse_header) {
                layout.set_tensors(file, Tensors { data: 8 + length, tensors });
            }
        }
        Self { layout, files: files.values().cloned().collect() }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.layout.manifest()
    }
}

/// A safetensors file of these tensors, in this order.
pub(crate) fn safetensors_file(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let mut header = Vec::new();
    let mut at = 0;
    for (name, (dtype, shape, bytes)) in tensors {
        let end = at + bytes.len();
        header.push(format!(
            "{name:?}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}"
        ));
        at = end;
    }
    let header = format!("{{{}}}", header.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    tensors.iter().for_each(|(_, (_, _, bytes))| file.extend(bytes));
    file
}

/// The delta object, and where its tail begins.
pub(crate) fn encode(base: &Version, target: &Version) -> (Vec<u8>, usize) {
    let mut encoder = Encoder::new().unwrap();
    let mut writer = IndexWriter::new(base.manifest().digest(), target.manifest().digest());
    let mut object = MAGIC.to_vec();
    for recipe in plan(&base.layout, &target.layout) {
        let begin = recipe.offset as usize;
        let chunk = &target.files[recipe.file][begin..begin + recipe.length as usize];
        let base = recipe.base.map(|span| {
            let begin = span.offset as usize;
            &base.files[span.file][begin..begin + chunk.len()]
        });
        if let Some(block) = encoder.encode(chunk, base, recipe.width).unwrap() {
            writer.push(&recipe, &block);
            object.extend(&block.bytes);
        }
    }
    let (tail, size) = (object.len(), writer.size());
    object.extend(writer.finish());
    assert_eq!(object.len() as u64, size);
    (object, tail)
}

/// How the bytes of a rebuilt version came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    /// Bytes of chunks that were rebuilt from blocks.
    pub(crate) from_blocks: u64,
    /// Bytes of blocks.
    pub(crate) blocks: u64,
    /// Bytes of chunks that the base has.
    pub(crate) from_base: u64,
    /// Bytes of chunks that had to be fetched.
    pub(crate) fetched: u64,
}

/// Rebuilds the target as a spoke does that holds the base, and compares every byte.
pub(crate) fn rebuild(
    object: &[u8],
    tail: usize,
    base: &Version,
    target: &Version,
) -> Result<Rebuilt, DeltaError> {
    let index = Index::parse(&object[tail..], object.len() as u64, base.manifest(), target.manifest())?;
    let held: Vec<Blake3> =
        base.manifest().files().iter().flat_map(|file| file.chunks.hashes().iter().copied()).collect();
    let mut decoder = Decoder::new()?;
    let mut rebuilt = Rebuilt::default();
    let mut bytes = Vec::new();
    for (number, file) in target.manifest().files().iter().enumerate() {
        for chunk in file.chunks.iter() {
            let length = u64::from(chunk.length);
            let record = index.records().iter().find(|r| (r.file, r.chunk) == (number, chunk.index));
            let Some(record) = record else {
                *(if held.contains(&chunk.blake3) {
                    &mut rebuilt.from_base
                } else {
                    &mut rebuilt.fetched
                }) += length;
                continue;
            };
            bytes.resize(chunk.length as usize, 0xaa);
            if let Some(span) = record.base {
                let begin = span.offset as usize;
                bytes.copy_from_slice(&base.files[span.file][begin..begin + chunk.length as usize]);
            }
            let block = &object[record.offset as usize..record.end() as usize];
            decoder.decode(record, block, &mut bytes)?;
            assert_eq!(Blake3::of(&bytes), chunk.blake3, "chunk {} of {}", chunk.index, file.path);
            rebuilt.from_blocks += length;
            rebuilt.blocks += u64::from(record.stored);
        }
    }
    Ok(rebuilt)
}
