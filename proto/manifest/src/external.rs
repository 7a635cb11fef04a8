//! Tensors of ONNX models that lie in files beside them: where those files' chunks should end.

use std::collections::BTreeMap;

use nave_names::RelativePath;

use crate::{cutter::Border, onnx::External};

/// What the `.onnx` files of a version say of its other files. Hash the `.onnx` files first, finishing
/// each one's [`FileHasher`](crate::FileHasher) into this, and make the others' hashers with it.
#[derive(Debug, Default)]
pub struct ExternalData(BTreeMap<RelativePath, Vec<Span>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: u64,
    end: Option<u64>,
    tensor: String,
}

impl ExternalData {
    /// Whether a file with this path may refer to others, and so has to be hashed before them.
    pub fn refers(path: &RelativePath) -> bool {
        path.as_str().ends_with(".onnx")
    }

    /// Notes the references of one `.onnx` file.
    pub(crate) fn add(&mut self, path: &RelativePath, external: Vec<External>) {
        let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        for External { location, offset, length, tensor } in external {
            let location = location.strip_prefix("./").unwrap_or(&location);
            let joined = if folder.is_empty() { location.to_owned() } else { format!("{folder}/{location}") };
            // What leads elsewhere is no file of this version.
            let Ok(file) = RelativePath::new(joined) else { continue };
            let end = length.and_then(|length| offset.checked_add(length));
            self.0.entry(file).or_default().push(Span { start: offset, end, tensor });
        }
    }

    /// Takes over what another one knows.
    pub fn extend(&mut self, other: Self) {
        for (file, spans) in other.0 {
            self.0.entry(file).or_default().extend(spans);
        }
    }

    /// Where chunks of this file should end; empty where nothing refers to it. References that overlap are taken for
    /// borders all the same: borders are only a hint of where equal bytes may start.
    pub(crate) fn borders(&self, path: &RelativePath) -> Vec<Border> {
        let Some(spans) = self.0.get(path) else { return Vec::new() };
        let mut spans = spans.clone();
        spans.sort_unstable();
        let mut borders: BTreeMap<u64, &str> = BTreeMap::new();
        for span in &spans {
            borders.insert(span.start, &span.tensor);
            if let Some(end) = span.end {
                borders.entry(end).or_default();
            }
        }
        Border::between(borders)
    }
}
