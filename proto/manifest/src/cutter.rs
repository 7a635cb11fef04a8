//! Where chunks end. A pure function of the bytes so far (and, for data of an ONNX model, of what the model says of
//! them), so that everyone who streams the same file cuts it alike: every 1 MiB, or, where a format has a table of tensors,
//! every 1 MiB from each tensor's start, so that tensors that did not change keep their chunks when others grow, move or
//! change. docs/manifest.md has the measurements.

use crate::{
    gguf::{self, HeaderReader},
    onnx::Walker,
    safetensors::{self, LENGTH_BYTES},
};

/// The length of a chunk in bytes.
pub const CHUNK: u32 = 1 << 20;
/// The length of a chunk of an embedding table, whose rows change one by one.
pub const EMBEDDING_CHUNK: u32 = 256 << 10;

/// Parts of tensor names that mark a table with a row for each token or position.
const EMBEDDING_NAMES: [&str; 5] = ["embed", "wte", "wpe", "lm_head", "vocab"];
/// The same in GGUF, which has names of its own.
const GGUF_EMBEDDINGS: [&str; 2] = ["token_embd", "position_embd"];

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
    /// The header of a GGUF file is being read; it goes on up to `horizon` at least.
    Gguf { reader: HeaderReader, horizon: u64, whole: Option<gguf::Layout> },
    /// An ONNX file, from its start to its end.
    Onnx(Box<Walker>),
    /// The borders that are to come are known.
    Known { borders: std::vec::IntoIter<Border>, current: Border },
}

/// Where a tensor ends, and the length of the chunks up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Border {
    end: u64,
    step: u32,
}

impl Border {
    /// From where tensors start (with a name) and end to borders up to the end of the file.
    pub(crate) fn between<'a>(starts: impl IntoIterator<Item = (u64, &'a str)>) -> Vec<Self> {
        let mut borders = Vec::new();
        let mut step = CHUNK;
        for (start, name) in starts {
            if start > 0 {
                borders.push(Self { end: start, step });
            }
            step = chunk_length(name);
        }
        borders.push(Self { end: u64::MAX, step });
        borders
    }
}

impl Cutter {
    pub(crate) fn new(path: &str, borders: Vec<Border>) -> Self {
        let layout = if path.ends_with(".safetensors") {
            Layout::Header { collected: Vec::new(), end: None }
        } else if path.ends_with(".gguf") {
            Layout::Gguf { reader: HeaderReader::default(), horizon: 1, whole: None }
        } else if path.ends_with(".onnx") {
            Layout::Onnx(Box::default())
        } else {
            Layout::known(borders)
        };
        Self { start: 0, layout }
    }

    /// The offset up to which bytes may be observed before [`Cutter::cut_at`] must be asked.
    pub(crate) fn horizon(&self) -> u64 {
        let full = self.start + u64::from(self.step());
        match &self.layout {
            Layout::Opaque => full,
            Layout::Header { end, .. } => full.min(end.unwrap_or(LENGTH_BYTES)),
            Layout::Gguf { horizon, .. } => full.min(*horizon),
            Layout::Onnx(walker) => full.min(walker.horizon()),
            Layout::Known { current, .. } => full.min(current.end),
        }
    }

    /// The length that the current chunk may have.
    fn step(&self) -> u32 {
        match &self.layout {
            Layout::Opaque | Layout::Header { .. } | Layout::Gguf { .. } => CHUNK,
            Layout::Onnx(walker) => walker.tensor().map_or(CHUNK, chunk_length),
            Layout::Known { current, .. } => current.step,
        }
    }

    /// Sees the next bytes.
    pub(crate) fn observe(&mut self, bytes: &[u8]) {
        match &mut self.layout {
            Layout::Header { collected, .. } => collected.extend_from_slice(bytes),
            Layout::Gguf { reader, horizon, whole } => match reader.read(bytes) {
                gguf::Progress::Reading(until) => *horizon = until,
                gguf::Progress::Whole(layout) => *whole = Some(layout),
                gguf::Progress::Broken => self.layout = Layout::Opaque,
            },
            Layout::Onnx(walker) => {
                walker.read(bytes);
                if walker.is_broken() {
                    self.layout = Layout::Opaque;
                }
            }
            Layout::Opaque | Layout::Known { .. } => {}
        }
    }

    /// True if a chunk ends at this offset, which is at most the horizon; the next one starts there.
    pub(crate) fn cut_at(&mut self, offset: u64) -> bool {
        let full = offset == self.start + u64::from(self.step());
        let cut = full | self.border_at(offset);
        if cut {
            self.start = offset;
        }
        cut
    }

    /// True if something of the file's layout ends or starts here.
    fn border_at(&mut self, offset: u64) -> bool {
        match &mut self.layout {
            Layout::Opaque => false,
            Layout::Header { collected, end: None } if offset == LENGTH_BYTES => {
                let length = collected.first_chunk().and_then(|f| safetensors::header_length(*f).ok());
                match length {
                    Some(length) => {
                        let end = Some(LENGTH_BYTES + length);
                        self.layout = Layout::Header { collected: std::mem::take(collected), end };
                    }
                    None => self.layout = Layout::Opaque,
                }
                false
            }
            Layout::Header { collected, end: Some(end) } if offset == *end => {
                self.layout = safetensors_layout(collected, *end);
                matches!(self.layout, Layout::Known { .. })
            }
            Layout::Header { .. } => false,
            Layout::Gguf { whole, .. } => {
                let Some(layout) = whole.take() else { return false };
                self.layout = gguf_layout(&layout);
                self.border_at(offset)
            }
            Layout::Onnx(walker) => walker.take_border(),
            Layout::Known { borders, current } => {
                if offset < current.end {
                    return false;
                }
                match borders.next() {
                    Some(next) => *current = next,
                    None => self.layout = Layout::Opaque,
                }
                true
            }
        }
    }

    /// What an ONNX file says of other files.
    pub(crate) fn into_external(self) -> Vec<crate::onnx::External> {
        match self.layout {
            Layout::Onnx(walker) => walker.into_external(),
            Layout::Opaque | Layout::Header { .. } | Layout::Gguf { .. } | Layout::Known { .. } => Vec::new(),
        }
    }
}

impl Layout {
    fn known(borders: Vec<Border>) -> Self {
        let mut borders = borders.into_iter();
        match borders.next() {
            Some(current) => Self::Known { borders, current },
            None => Self::Opaque,
        }
    }
}

/// The layout after a safetensors header; a header that is not one leaves an opaque file.
fn safetensors_layout(collected: &[u8], data: u64) -> Layout {
    let header = collected.get(LENGTH_BYTES as usize..).unwrap_or_default();
    let Ok(tensors) = safetensors::parse_header(header) else { return Layout::Opaque };
    let Some(last) = tensors.last() else { return Layout::Opaque };
    if data.checked_add(last.end).is_none() {
        return Layout::Opaque;
    }
    let with_bytes = tensors.iter().filter(|tensor| tensor.end > tensor.begin);
    let border = |tensor: &safetensors::Tensor| Border {
        end: data + tensor.end,
        step: chunk_length_of(&tensor.name, &EMBEDDING_NAMES),
    };
    Layout::known(with_bytes.map(border).collect())
}

/// The layout after a GGUF header: the rest of it up to the data, then each tensor up to the next.
fn gguf_layout(layout: &gguf::Layout) -> Layout {
    let starts = layout.tensors.iter().map(|tensor| (layout.data + tensor.offset, tensor.name.as_str()));
    Layout::known(Border::between(starts))
}

fn chunk_length(name: &str) -> u32 {
    chunk_length_of(name, &EMBEDDING_NAMES).min(chunk_length_of(name, &GGUF_EMBEDDINGS))
}

fn chunk_length_of(name: &str, embeddings: &[&str]) -> u32 {
    if embeddings.iter().any(|part| name.contains(part)) { EMBEDDING_CHUNK } else { CHUNK }
}
