//! Which bit stands for which chunk of a version, and which bits a piece of a file needs.

use std::{collections::BTreeMap, ops::Range};

use nave_manifest::Manifest;
use nave_names::Digest;

/// The chunks of a version, numbered through in the manifest's order. Equal files count once.
#[derive(Debug)]
pub(crate) struct Layout {
    files: BTreeMap<Digest, Placed>,
    len: usize,
}

#[derive(Debug)]
struct Placed {
    first: usize,
    /// Where each chunk ends.
    ends: Vec<u64>,
}

impl Layout {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let mut layout = Self { files: BTreeMap::new(), len: 0 };
        for file in manifest.files() {
            let first = layout.len;
            layout.files.entry(file.sha256).or_insert_with(|| {
                layout.len += file.chunks.len();
                Placed { first, ends: file.chunks.iter().map(|chunk| chunk.end()).collect() }
            });
        }
        layout
    }

    /// How many chunks there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The bits of a file.
    pub(crate) fn file(&self, sha256: &Digest) -> Option<Range<usize>> {
        let placed = self.files.get(sha256)?;
        Some(placed.first..placed.first + placed.ends.len())
    }

    /// The bits of the chunks that these bytes of a file lie in; `None` where the file has no such bytes.
    pub(crate) fn covering(&self, sha256: &Digest, offset: u64, length: u64) -> Option<Range<usize>> {
        let placed = self.files.get(sha256)?;
        let end = offset.checked_add(length)?;
        if length == 0 || end > placed.ends.last().copied()? {
            return None;
        }
        let first = placed.ends.partition_point(|chunk| *chunk <= offset);
        let last = placed.ends.partition_point(|chunk| *chunk < end);
        Some(placed.first + first..placed.first + last + 1)
    }
}

#[cfg(test)]
mod tests {
    use nave_manifest::FileHasher;
    use nave_names::RelativePath;

    use super::*;

    #[test]
    fn pieces_need_the_chunks_that_they_lie_in() {
        let chunk = u64::from(nave_manifest::CHUNK);
        let big = vec![7; usize::try_from(2 * chunk + 10).unwrap()];
        let file = |path: &str, bytes: &[u8]| {
            let mut hasher = FileHasher::new(RelativePath::new(path).unwrap());
            hasher.update(bytes);
            hasher.finish()
        };
        let files = vec![file("a", b"small"), file("b", &big), file("c", b"small"), file("d", b"last")];
        let layout = Layout::of(&Manifest::new(files).unwrap());
        assert_eq!(layout.len(), 5, "the second small one is the first's content");
        let sha256 = Digest::of(&big);
        assert_eq!(layout.file(&sha256), Some(1..4));
        assert_eq!(layout.covering(&sha256, 0, chunk), Some(1..2));
        assert_eq!(layout.covering(&sha256, chunk - 1, 2), Some(1..3));
        assert_eq!(layout.covering(&sha256, 2 * chunk, 10), Some(3..4));
        assert_eq!(layout.covering(&sha256, 2 * chunk, 11), None);
        assert_eq!(layout.covering(&sha256, u64::MAX, 2), None);
        assert_eq!(layout.covering(&Digest::of(b"other"), 0, 1), None);
    }
}
