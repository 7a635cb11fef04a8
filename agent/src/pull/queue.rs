//! What a pull has to fetch, cut into ranges when they are taken: their length depends on the link by then.

use std::{collections::VecDeque, sync::Arc};

use nave_manifest::{CHUNK, FileEntry};

use super::large::LargeFile;

/// Files up to this size are fetched whole, hashed in memory and written once.
pub(super) const SMALL: u64 = CHUNK as u64;

/// Something to fetch over one connection.
#[derive(Debug)]
pub(super) enum Job {
    Small(Arc<FileEntry>),
    /// These chunks, which follow one another.
    Range {
        file: Arc<LargeFile>,
        first: usize,
        end: usize,
    },
}

/// Everything that is still to be fetched: small files first, so that they are not what is waited for at the end.
#[derive(Debug, Default)]
pub(super) struct Queue {
    small: VecDeque<Arc<FileEntry>>,
    /// Missing chunks that follow one another.
    spans: VecDeque<(Arc<LargeFile>, usize, usize)>,
}

impl Queue {
    pub(super) fn push_small(&mut self, file: FileEntry) {
        self.small.push_back(Arc::new(file));
    }

    /// Adds what is missing of a large file.
    pub(super) fn push_large(&mut self, file: &Arc<LargeFile>) {
        let missing = file.missing();
        for run in missing.chunk_by(|a, b| a + 1 == *b) {
            self.spans.push_back((Arc::clone(file), run[0], run[run.len() - 1] + 1));
        }
    }

    /// The next thing to fetch; a range has at most `length` bytes, or one chunk.
    pub(super) fn take(&mut self, length: u64) -> Option<Job> {
        if let Some(small) = self.small.pop_front() {
            return Some(Job::Small(small));
        }
        let (file, first, end) = self.spans.pop_front()?;
        let limit = file.chunks[first].offset.saturating_add(length);
        let fitting = file.chunks[first..end].iter().take_while(|chunk| chunk.end() <= limit).count().max(1);
        if first + fitting < end {
            self.spans.push_front((Arc::clone(&file), first + fitting, end));
        }
        Some(Job::Range { file, first, end: first + fitting })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.spans.is_empty()
    }

    pub(super) fn small(&self) -> impl DoubleEndedIterator<Item = &Arc<FileEntry>> {
        self.small.iter()
    }

    /// Large files of which something is missing, in order.
    pub(super) fn large(&self) -> impl DoubleEndedIterator<Item = &Arc<LargeFile>> {
        self.spans.iter().map(|(file, _, _)| file)
    }
}
