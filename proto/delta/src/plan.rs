//! Which chunks of the target are worth a block, and which bytes of the base each is compared with: those of the tensor
//! with the same name, type and shape, wherever it lies in the base; for other bytes, the same place of a file with the
//! same path and size. Chunks that the base has as they are get no block: whoever holds the base has them.

use std::collections::{BTreeMap, HashMap, HashSet};

use nave_manifest::{Blake3, Chunk, FileEntry, safetensors::Tensor};
use nave_names::RelativePath;

use crate::{Layout, Span, Tensors};

/// One chunk to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Position of the file in the target's manifest.
    pub file: usize,
    /// Position of the chunk in that file.
    pub chunk: usize,
    /// First byte of the chunk in that file.
    pub offset: u64,
    /// The chunk's length in bytes.
    pub length: u32,
    /// What to compare it with.
    pub base: Option<Span>,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub width: u8,
}

/// Every chunk of the target that the base does not have, by file and chunk.
pub fn plan(base: &Layout, target: &Layout) -> Vec<Recipe> {
    let known = Known::of(base);
    let mut recipes = Vec::new();
    for (file, entry) in target.manifest().files().iter().enumerate() {
        let same_place = known
            .files
            .get(&entry.path)
            .copied()
            .filter(|&at| base.manifest().files()[at].size == entry.size);
        let mut tensors = Cursor::new(target.tensors(file));
        for chunk in entry.chunks.iter() {
            let inside = tensors.holding(&chunk);
            if known.chunks.contains(&chunk.blake3) {
                continue;
            }
            let twin = inside.and_then(|(data, tensor)| known.twin(&entry.path, data, tensor, &chunk));
            let same_place = same_place.map(|file| Span { file, offset: chunk.offset });
            let width = inside.map_or_else(|| opaque_width(&entry.path), |(_, tensor)| width(tensor));
            recipes.push(Recipe {
                file,
                chunk: chunk.index,
                offset: chunk.offset,
                length: chunk.length,
                base: twin.or(same_place),
                width,
            });
        }
    }
    recipes
}

/// What the base has, to look things up in. Only looked up, never iterated over.
struct Known<'a> {
    chunks: HashSet<Blake3>,
    files: BTreeMap<&'a RelativePath, usize>,
    tensors: HashMap<&'a str, Vec<(usize, &'a FileEntry, u64, &'a Tensor)>>,
}

impl<'a> Known<'a> {
    fn of(base: &'a Layout) -> Self {
        let entries = base.manifest().files();
        let mut tensors: HashMap<&str, Vec<_>> = HashMap::new();
        for (file, entry) in entries.iter().enumerate() {
            let Some(Tensors { data, tensors: list }) = base.tensors(file) else { continue };
            for tensor in list {
                tensors.entry(tensor.name.as_str()).or_default().push((file, entry, *data, tensor));
            }
        }
        Self {
            chunks: entries.iter().flat_map(|entry| entry.chunks.hashes()).copied().collect(),
            files: entries.iter().enumerate().map(|(at, entry)| (&entry.path, at)).collect(),
            tensors,
        }
    }

    /// The bytes of the base's tensor that lie where the chunk lies in the target's. Of several tensors with one name,
    /// as a text and an image encoder have, the one in the file with the same path is meant, or none.
    fn twin(&self, path: &RelativePath, data: u64, tensor: &Tensor, chunk: &Chunk) -> Option<Span> {
        let named = self.tensors.get(tensor.name.as_str())?;
        let (file, _, base_data, twin) = match named.as_slice() {
            [only] => only,
            several => several.iter().find(|(_, entry, _, _)| entry.path == *path)?,
        };
        let alike = twin.dtype == tensor.dtype
            && twin.shape == tensor.shape
            && twin.end - twin.begin == tensor.end - tensor.begin;
        alike.then(|| Span {
            file: *file,
            offset: base_data + twin.begin + (chunk.offset - data - tensor.begin),
        })
    }
}

/// Walks the tensors of a file beside its chunks.
struct Cursor<'a> {
    data: u64,
    rest: &'a [Tensor],
}

impl<'a> Cursor<'a> {
    fn new(tensors: Option<&'a Tensors>) -> Self {
        Self {
            data: tensors.map_or(0, |tensors| tensors.data),
            rest: tensors.map(|tensors| tensors.tensors.as_slice()).unwrap_or_default(),
        }
    }

    /// The tensor that the whole chunk lies in. Chunks come in order.
    fn holding(&mut self, chunk: &Chunk) -> Option<(u64, &'a Tensor)> {
        while let Some((first, rest)) = self.rest.split_first()
            && self.data + first.end <= chunk.offset
        {
            self.rest = rest;
        }
        let tensor = self.rest.first()?;
        let inside = self.data + tensor.begin <= chunk.offset && chunk.end() <= self.data + tensor.end;
        inside.then_some((self.data, tensor))
    }
}

fn width(tensor: &Tensor) -> u8 {
    match tensor.element_size() {
        Some(2) => 2,
        Some(4) => 4,
        Some(8) => 8,
        Some(_) | None => 1,
    }
}

/// Without a table: ONNX holds float32 nearly always; of other formats nothing is known.
fn opaque_width(path: &RelativePath) -> u8 {
    if path.as_str().ends_with(".onnx") { 4 } else { 1 }
}
