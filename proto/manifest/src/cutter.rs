//! Where chunks end. A pure function of the bytes so far, so that everyone who streams the same file cuts it alike:
//! every 1 MiB, or, in a safetensors file, every 1 MiB from each tensor's start, so that tensors that did not change
//! keep their chunks when others grow, move or change. docs/manifest.md has the measurements.

use crate::safetensors::{self, LENGTH_BYTES};

/// The length of a chunk in bytes.
pub const CHUNK: u32 = 1 << 20;
/// The length of a chunk of an embedding table, whose rows change one by one.
pub const EMBEDDING_CHUNK: u32 = 256 << 10;

/// Parts of tensor names that mark a table with a row for each token or position.
const EMBEDDING_NAMES: [&str; 5] = ["embed", "wte", "wpe", "lm_head", "vocab"];

/// Follows one file and says where its chunks end.
#[derive(Debug)]
pub(crate) struct Cutter {
    /// Where the current chunk started.
    start: u64,
    layout: Layout,
}

#[derive(Debug)]
enum Layout {
    /// No table: every [`CHUNK`] bytes.
    Opaque,
    /// The header of a safetensors file is being collected.
    Header { collected: Vec<u8>, end: Option<u64> },
    /// The rest of a safetensors file: the end of each tensor and the length of its chunks.
    Tensors { ends: std::vec::IntoIter<(u64, u32)>, current: (u64, u32) },
}

impl Cutter {
    pub(crate) fn new(path: &str) -> Self {
        let layout = if path.ends_with(".safetensors") {
            Layout::Header { collected: Vec::new(), end: None }
        } else {
            Layout::Opaque
        };
        Self { start: 0, layout }
    }

    /// The offset up to which bytes may be observed before [`Cutter::cut_at`] must be asked.
    pub(crate) fn horizon(&self) -> u64 {
        let opaque = self.start + u64::from(CHUNK);
        match &self.layout {
            Layout::Opaque => opaque,
            Layout::Header { end, .. } => opaque.min(end.unwrap_or(LENGTH_BYTES)),
            Layout::Tensors { current: (end, step), .. } => (self.start + u64::from(*step)).min(*end),
        }
    }

    /// Sees the next bytes.
    pub(crate) fn observe(&mut self, bytes: &[u8]) {
        if let Layout::Header { collected, .. } = &mut self.layout {
            collected.extend_from_slice(bytes);
        }
    }

    /// True if a chunk ends at this offset, which is at most the horizon; the next one starts there.
    pub(crate) fn cut_at(&mut self, offset: u64) -> bool {
        if offset != self.horizon() {
            return false;
        }
        let full = offset == self.start + u64::from(CHUNK);
        let cut = match std::mem::replace(&mut self.layout, Layout::Opaque) {
            Layout::Opaque => true,
            Layout::Header { collected, end: Some(end) } if offset < end => {
                self.layout = Layout::Header { collected, end: Some(end) };
                true
            }
            Layout::Header { collected, end: None } => {
                if let Some(length) =
                    collected.first_chunk().and_then(|f| safetensors::header_length(*f).ok())
                {
                    self.layout = Layout::Header { collected, end: Some(LENGTH_BYTES + length) };
                }
                false
            }
            Layout::Header { collected, end: Some(end) } => {
                self.layout = tensor_layout(&collected, end);
                full || matches!(self.layout, Layout::Tensors { .. })
            }
            Layout::Tensors { mut ends, current } => {
                let next = if offset < current.0 { Some(current) } else { ends.next() };
                if let Some(current) = next {
                    self.layout = Layout::Tensors { ends, current };
                }
                true
            }
        };
        if cut {
            self.start = offset;
        }
        cut
    }
}

/// The layout after the header; a header that is not one leaves an opaque file.
fn tensor_layout(collected: &[u8], data: u64) -> Layout {
    let header = collected.get(LENGTH_BYTES as usize..).unwrap_or_default();
    let Ok(tensors) = safetensors::parse_header(header) else { return Layout::Opaque };
    let Some(last) = tensors.last() else { return Layout::Opaque };
    if data.checked_add(last.end).is_none() {
        return Layout::Opaque;
    }
    let spans: Vec<_> = tensors
        .iter()
        .filter(|tensor| tensor.end > tensor.begin)
        .map(|tensor| (data + tensor.end, chunk_length(&tensor.name)))
        .collect();
    let mut ends = spans.into_iter();
    match ends.next() {
        Some(current) => Layout::Tensors { ends, current },
        None => Layout::Opaque,
    }
}

fn chunk_length(name: &str) -> u32 {
    if EMBEDDING_NAMES.iter().any(|part| name.contains(part)) { EMBEDDING_CHUNK } else { CHUNK }
}
