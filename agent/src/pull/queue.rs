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
    /// Jobs that may come back: somebody tries to get them elsewhere.
    lent: usize,
}

/// Something that could be taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Candidate<'a> {
    Small(&'a FileEntry),
    Chunk(&'a LargeFile, usize),
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
    pub(super) fn take_blocks(&mut self, length: u64) -> Option<Job> {
        let (delta, rest) = self.delta.as_mut()?;
        let count = run_of(rest, length)?;
        Some(Job::Blocks { delta: Arc::clone(delta), blocks: rest.drain(..count).collect() })
    }

    /// The first thing that is wanted: a small file, or chunks that follow one another, at most `length` bytes or one.
    pub(super) fn take_where(
        &mut self,
        length: u64,
        mut want: impl FnMut(Candidate<'_>) -> bool,
    ) -> Option<Job> {
        if let Some(at) = self.small.iter().position(|file| want(Candidate::Small(file))) {
            return self.small.remove(at).map(Job::Small);
        }
        for at in 0..self.spans.len() {
            let (file, first, end) = self.spans[at].clone();
            let Some(begin) = (first..end).find(|chunk| want(Candidate::Chunk(&file, *chunk))) else {
                continue;
            };
            let limit = file.chunks[begin].offset.saturating_add(length);
            let ends =
                |chunk: &usize| file.chunks[*chunk].end() > limit || !want(Candidate::Chunk(&file, *chunk));
            let stop = (begin + 1..end).find(ends).unwrap_or(end);
            self.spans.remove(at);
            if stop < end {
                self.spans.insert(at, (Arc::clone(&file), stop, end));
            }
            if first < begin {
                self.spans.insert(at, (Arc::clone(&file), first, begin));
            }
            return Some(Job::Range { file, first: begin, end: stop });
        }
        None
    }

    /// The same, for somebody who may not succeed: [`Queue::settle`] ends it.
    pub(super) fn lend_where(&mut self, length: u64, want: impl FnMut(Candidate<'_>) -> bool) -> Option<Job> {
        let job = self.take_where(length, want)?;
        self.lent += 1;
        Some(job)
    }

    /// A lent job is over; what is left of it is to be fetched again.
    pub(super) fn settle(&mut self, left: Option<Job>) {
        self.lent = self.lent.saturating_sub(1);
        match left {
            None => {}
            Some(Job::Small(file)) => self.small.push_front(file),
            Some(Job::Range { file, first, end }) => {
                let missing: Vec<_> = (first..end).filter(|chunk| !file.is_done(*chunk)).collect();
                for run in missing.chunk_by(|a, b| a + 1 == *b).rev() {
                    self.spans.push_front((Arc::clone(&file), run[0], run[run.len() - 1] + 1));
                }
            }
            Some(Job::Blocks { delta, blocks }) => {
                let (_, rest) = self.delta.get_or_insert_with(|| (delta, VecDeque::new()));
                blocks.into_iter().rev().for_each(|block| rest.push_front(block));
            }
        }
    }

    /// Begins elsewhere: those who fetch the same files begin at places of their own.
    pub(super) fn rotate(&mut self, key: u64) {
        let total: u64 = self.spans.iter().map(|(_, first, end)| (end - first) as u64).sum();
        let Some(mut skip) = key.checked_rem(total).and_then(|skip| usize::try_from(skip).ok()) else {
            return;
        };
        while let Some((file, first, end)) = self.spans.pop_front() {
            if skip < end - first {
                self.spans.push_front((Arc::clone(&file), first + skip, end));
                if skip > 0 {
                    self.spans.push_back((file, first, first + skip));
                }
                return;
            }
            skip -= end - first;
            self.spans.push_back((file, first, end));
        }
    }

    /// Nothing is left to take, and nothing will come back.
    pub(super) fn is_exhausted(&self) -> bool {
        self.is_empty() && self.lent == 0
    }

    pub(super) fn is_empty(&self) -> bool {
        let no_blocks = self.delta.as_ref().is_none_or(|(_, blocks)| blocks.is_empty());
        self.small.is_empty() && self.spans.is_empty() && no_blocks
    }

    pub(super) fn small(&self) -> impl DoubleEndedIterator<Item = &Arc<FileEntry>> {
        self.small.iter()
    }

    /// Missing chunks of large files.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (&Arc<LargeFile>, usize)> {
        let blocks = self.delta.iter().flat_map(|(_, blocks)| blocks);
        let rebuilt = blocks.map(|block| (&block.file, block.record.chunk));
        let spans = self.spans.iter();
        spans.flat_map(|(file, first, end)| (*first..*end).map(move |chunk| (file, chunk))).chain(rebuilt)
    }

    /// Large files of which something is missing, in order.
    pub(super) fn large(&self) -> impl DoubleEndedIterator<Item = &Arc<LargeFile>> {
        self.spans.iter().map(|(file, _, _)| file)
    }
}

/// How many of these blocks lie one after the other in the delta, and in at most `length` bytes of it; one always does.
fn run_of(blocks: &VecDeque<Rebuild>, length: u64) -> Option<usize> {
    let first = blocks.front()?.record;
    let follows = |pair: (&Rebuild, &Rebuild)| {
        pair.0.record.end() == pair.1.record.offset
            && pair.1.record.end() <= first.offset.saturating_add(length)
    };
    Some(1 + blocks.iter().zip(blocks.iter().skip(1)).take_while(|pair| follows(*pair)).count())
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
