//! What a pull has to fetch, cut into ranges when they are taken: their length depends on the link by then.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use nave_manifest::{CHUNK, FileEntry};

use super::{blocks::Rebuild, delta::Delta, large::LargeFile};

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
    /// These blocks of a delta, which follow one another.
    Blocks {
        delta: Arc<Delta>,
        blocks: VecDeque<Rebuild>,
    },
}

/// Everything that is still to be fetched: small files first, so that they are not what is waited for at the end.
#[derive(Debug, Default)]
pub(super) struct Queue {
    small: VecDeque<Arc<FileEntry>>,
    /// Missing chunks that follow one another.
    spans: VecDeque<(Arc<LargeFile>, usize, usize)>,
    /// Chunks that a delta rebuilds, in the order of its blocks.
    delta: Option<(Arc<Delta>, VecDeque<Rebuild>)>,
}

impl Queue {
    pub(super) fn push_small(&mut self, file: FileEntry) {
        self.small.push_back(Arc::new(file));
    }

    /// The same small files, and of the large ones these blocks and what is missing beside them.
    pub(super) fn with_delta(
        mut self,
        delta: Delta,
        blocks: VecDeque<Rebuild>,
        large: &[Arc<LargeFile>],
    ) -> Self {
        self.spans.clear();
        let rebuilt: HashSet<_> =
            blocks.iter().map(|block| (Arc::as_ptr(&block.file), block.record.chunk)).collect();
        for file in large {
            let missing = file.missing();
            self.push_spans(
                file,
                missing.into_iter().filter(|&chunk| !rebuilt.contains(&(Arc::as_ptr(file), chunk))),
            );
        }
        self.delta = Some((Arc::new(delta), blocks));
        self
    }

    /// Adds what is missing of a large file.
    pub(super) fn push_large(&mut self, file: &Arc<LargeFile>) {
        self.push_spans(file, file.missing().into_iter());
    }

    fn push_spans(&mut self, file: &Arc<LargeFile>, missing: impl Iterator<Item = usize>) {
        let missing: Vec<_> = missing.collect();
        for run in missing.chunk_by(|a, b| a + 1 == *b) {
            self.spans.push_back((Arc::clone(file), run[0], run[run.len() - 1] + 1));
        }
    }

    /// Adds a chunk that a delta was to rebuild.
    pub(super) fn push_chunk(&mut self, file: &Arc<LargeFile>, chunk: usize) {
        match self.spans.back_mut() {
            Some((last, _, end)) if Arc::ptr_eq(last, file) && *end == chunk => *end += 1,
            Some(_) | None => self.spans.push_back((Arc::clone(file), chunk, chunk + 1)),
        }
    }

    /// Bytes of large files that are to be fetched as they are.
    pub(super) fn large_bytes(&self) -> u64 {
        let span = |(file, first, end): &(Arc<LargeFile>, usize, usize)| {
            file.chunks[end - 1].end() - file.chunks[*first].offset
        };
        self.spans.iter().map(span).sum()
    }

    /// The next thing to fetch; a range has at most `length` bytes, or one chunk.
    pub(super) fn take(&mut self, length: u64) -> Option<Job> {
        if let Some(small) = self.small.pop_front() {
            return Some(Job::Small(small));
        }
        if let Some(job) = self.take_blocks(length) {
            return Some(job);
        }
        let (file, first, end) = self.spans.pop_front()?;
        let limit = file.chunks[first].offset.saturating_add(length);
        let fitting = file.chunks[first..end].iter().take_while(|chunk| chunk.end() <= limit).count().max(1);
        if first + fitting < end {
            self.spans.push_front((Arc::clone(&file), first + fitting, end));
        }
        Some(Job::Range { file, first, end: first + fitting })
    }

    /// Blocks of the delta up to a gap between them, or up to `length` bytes.
    fn take_blocks(&mut self, length: u64) -> Option<Job> {
        let (delta, rest) = self.delta.as_mut()?;
        let first = rest.front()?.record;
        let follows = |pair: (&Rebuild, &Rebuild)| {
            pair.0.record.end() == pair.1.record.offset
                && pair.1.record.end() <= first.offset.saturating_add(length)
        };
        let count = 1 + rest.iter().zip(rest.iter().skip(1)).take_while(|pair| follows(*pair)).count();
        Some(Job::Blocks { delta: Arc::clone(delta), blocks: rest.drain(..count).collect() })
    }

    pub(super) fn is_empty(&self) -> bool {
        let no_blocks = self.delta.as_ref().is_none_or(|(_, blocks)| blocks.is_empty());
        self.small.is_empty() && self.spans.is_empty() && no_blocks
    }

    pub(super) fn small(&self) -> impl DoubleEndedIterator<Item = &Arc<FileEntry>> {
        self.small.iter()
    }

    /// Large files of which something is missing, in order.
    pub(super) fn large(&self) -> impl DoubleEndedIterator<Item = &Arc<LargeFile>> {
        self.spans.iter().map(|(file, _, _)| file)
    }
}
