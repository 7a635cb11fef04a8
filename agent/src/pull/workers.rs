//! The workers of one pull: each takes something to fetch, waits for its place, fetches, and deals with trouble until
//! it is there or cannot be had.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use nave_manifest::{Blake3, FileEntry};
use nave_names::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};

use super::{
    PullError,
    fetch::{Body, Part},
    large::{Arrival, LargeFile},
    queue::{Job, Queue},
    recovery::Recovery,
    sharing::Sharing,
    trouble::{Failure, Streak, Trouble},
};
use crate::store::{Staging, StoreError};

/// How often a chunk or a small file is fetched when its bytes are wrong each time.
const MAX_CORRUPT: u32 = 4;
/// The length of a range: long enough that a request's round trip does not show, short enough that a range is over
/// within seconds on a link of 10 MB/s.
const RANGE: u64 = 8 << 20;
/// On a limited link a range is no longer than what the limit lets through in this many seconds.
const RANGE_SECONDS: u64 = 2;

/// What the workers of one pull share.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) recovery: Recovery,
    pub(super) staging: Arc<Staging>,
    pub(super) queue: Mutex<Queue>,
    /// With the other spokes of the site, if there can be any.
    pub(super) sharing: Option<Sharing>,
}

/// What one worker knows of the range it is at.
struct Attempt {
    streak: Streak,
    /// Wrong bytes came: do not use that connection again.
    fresh: bool,
    /// The beginning of the next chunk, from an attempt that was cut off: not yet verified, not to be fetched again.
    begun: Begun,
}

/// The received beginning of a chunk.
#[derive(Default)]
struct Begun {
    chunk: usize,
    length: u64,
    pieces: Vec<Bytes>,
}

impl Attempt {
    fn new() -> Self {
        Self { streak: Streak::default(), fresh: false, begun: Begun::default() }
    }
}

impl Crew {
    /// Takes and fetches until nothing is left.
    pub(super) async fn work(self: Arc<Self>) -> Result<(), PullError> {
        loop {
            let length = self
                .recovery
                .limiter
                .rate()
                .map_or(RANGE, |rate| rate.saturating_mul(RANGE_SECONDS).min(RANGE));
            let job = match &self.sharing {
                None => self.queue().take(length),
                Some(sharing) => self.next_own(sharing, length).await,
            };
            let begun = Instant::now();
            let chunks = match job {
                None => return Ok(()),
                Some(Job::Small(file)) => {
                    let chunks = file.chunks.len();
                    self.fetch_small(file).await?;
                    chunks
                }
                Some(Job::Range { file, first, end }) => {
                    self.fetch_range(&file, first, end).await?;
                    end - first
                }
                Some(Job::Blocks { delta, blocks }) => {
                    let chunks = blocks.len();
                    self.fetch_blocks(&delta, blocks).await?;
                    chunks
                }
            };
            if let Some(sharing) = &self.sharing {
                sharing.paced(begun.elapsed(), chunks);
            }
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch_small(&self, file: Arc<FileEntry>) -> Result<(), PullError> {
        let mut streak = Streak::default();
        let mut corrupt = 0;
        loop {
            self.recovery.wait_for_window().await;
            let failure = match self.try_small(&file, corrupt > 0).await {
                Ok(None) => {
                    self.recovery.meter.moved();
                    self.recovery.urls.finish(&file.path);
                    if let Some(sharing) = &self.sharing {
                        sharing.verified_file(&file.sha256);
                    }
                    self.recovery.meter.change(|progress| {
                        progress.bytes_done += file.size;
                        progress.files_done += 1;
                    });
                    return Ok(());
                }
                Ok(Some(wrong)) => {
                    corrupt += 1;
                    self.report_corrupt(&file, wrong, corrupt)?;
                    Failure::Retry(Trouble::Corrupt)
                }
                Err(failure) => failure,
            };
            self.recovery.recover(&file.path, failure, &mut streak).await?;
        }
    }

    /// One attempt at a small file; the chunk and its hash if its bytes are wrong.
    async fn try_small(
        &self,
        file: &Arc<FileEntry>,
        fresh: bool,
    ) -> Result<Option<(usize, Blake3)>, Failure> {
        let mut pieces = Vec::new();
        if file.size > 0 {
            let _slot = self.recovery.limiter.slot(self.recovery.rank).await;
            let mut body = self
                .recovery
                .fetcher()
                .get(self.recovery.client(fresh)?, &file.path, Part::Whole(file.size))
                .await?;
            while let Some(piece) = body.next().await? {
                pieces.push(piece);
            }
        }
        let (staging, file) = (Arc::clone(&self.staging), Arc::clone(file));
        let write = move || match check_small(&file, &pieces) {
            Some(wrong) => Ok(Some(wrong)),
            None => staging.write_small(&file, &pieces).map(|()| None),
        };
        Ok(joined(spawn_blocking(write).await)?)
    }

    async fn fetch_range(&self, file: &Arc<LargeFile>, first: usize, end: usize) -> Result<(), PullError> {
        let mut attempt = Attempt::new();
        loop {
            let missing: VecDeque<_> = (first..end).filter(|&chunk| !file.is_done(chunk)).collect();
            let Some(&next) = missing.front() else { return Ok(()) };
            // Up to the first gap: chunks in between are there already.
            let run = missing.iter().zip(next..).take_while(|(a, b)| **a == *b).count();
            self.recovery.wait_for_window().await;
            if let Err(failure) = self.try_range(file, next, next + run, &mut attempt).await {
                self.recovery.recover(&file.entry.path, failure, &mut attempt.streak).await?;
            }
        }
    }

    /// One attempt at chunks that follow one another.
    async fn try_range(
        &self,
        file: &Arc<LargeFile>,
        first: usize,
        end: usize,
        attempt: &mut Attempt,
    ) -> Result<(), Failure> {
        let whole = if file.ignores_ranges() { Some(file.whole_body.lock().await) } else { None };
        if whole.is_some() && (first..end).all(|chunk| file.is_done(chunk)) {
            return Ok(());
        }
        if attempt.begun.chunk != first {
            attempt.begun = Begun { chunk: first, ..Begun::default() };
        }
        let begin = file.chunks[first].offset + attempt.begun.length;
        let part = Part::Range { begin, end: file.chunks[end - 1].end(), size: file.entry.size };
        let slot = self.recovery.limiter.slot(self.recovery.rank).await;
        let body =
            self.recovery.fetcher().get(self.recovery.client(attempt.fresh)?, &file.entry.path, part).await?;
        if !body.whole {
            return self.receive(file, body, first, end, attempt).await;
        }
        // The server ignores ranges: one worker takes the whole body, the others find their chunks there.
        attempt.begun = Begun::default();
        if whole.is_none() {
            drop((slot, body));
            file.note_ignored_range();
            return Ok(());
        }
        self.receive(file, body, 0, file.chunks.len(), attempt).await
    }

    /// Reads a body that starts in chunk `first`, chunk by chunk; hashing and writing one overlaps reading the next.
    async fn receive(
        &self,
        file: &Arc<LargeFile>,
        mut body: Body<'_>,
        first: usize,
        end: usize,
        attempt: &mut Attempt,
    ) -> Result<(), Failure> {
        let mut begun = std::mem::take(&mut attempt.begun);
        begun.chunk = first;
        let mut writing: Option<(usize, JoinHandle<Result<Arrival, StoreError>>)> = None;
        let mut corrupt = false;
        let ended = loop {
            if begun.chunk >= end {
                break Ok(());
            }
            let mut piece = match body.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(()),
                Err(trouble) => break Err(trouble),
            };
            while !piece.is_empty() && begun.chunk < end {
                let length = u64::from(file.chunks[begun.chunk].length);
                let room = usize::try_from(length - begun.length).unwrap_or(usize::MAX);
                let taken = piece.split_to(piece.len().min(room));
                begun.length += taken.len() as u64;
                begun.pieces.push(taken);
                if begun.length == length {
                    let chunk = begun.chunk;
                    let pieces = std::mem::take(&mut begun.pieces);
                    begun = Begun { chunk: chunk + 1, ..Begun::default() };
                    corrupt |= self.settle(file, writing.take(), attempt).await?;
                    if !file.is_done(chunk) {
                        let file = Arc::clone(file);
                        writing = Some((chunk, spawn_blocking(move || file.accept(chunk, &pieces))));
                    }
                }
            }
        };
        corrupt |= self.settle(file, writing.take(), attempt).await?;
        attempt.begun = begun;
        ended?;
        if corrupt { Err(Trouble::Corrupt.into()) } else { Ok(()) }
    }

    /// Waits for a chunk to be hashed and written; true if its bytes were wrong.
    async fn settle(
        &self,
        file: &LargeFile,
        writing: Option<(usize, JoinHandle<Result<Arrival, StoreError>>)>,
        attempt: &mut Attempt,
    ) -> Result<bool, Failure> {
        let Some((chunk, writing)) = writing else { return Ok(false) };
        match joined(writing.await)? {
            Arrival::Written => {
                attempt.streak.broken();
                self.recovery.meter.moved();
                let length = u64::from(file.chunks[chunk].length);
                self.recovery.meter.change(|progress| progress.bytes_done += length);
                if let Some(sharing) = &self.sharing {
                    sharing.verified_chunk(&file.entry.sha256, chunk);
                }
                Ok(false)
            }
            Arrival::Corrupt { found, times } => {
                attempt.fresh = true;
                self.report_corrupt(&file.entry, (chunk, found), times)?;
                Ok(true)
            }
        }
    }

    /// Names wrong bytes; an error once they came too often.
    fn report_corrupt(&self, file: &FileEntry, wrong: (usize, Blake3), times: u32) -> Result<(), PullError> {
        let (index, found) = wrong;
        let Some(chunk) = file.chunks.iter().nth(index) else { return Ok(()) };
        self.recovery.meter.change(|progress| progress.corrupt_chunks += 1);
        let (begin, end) = (chunk.offset, chunk.end());
        tracing::warn!(object = %file.path, chunk = index, begin, end, times, "wrong bytes arrived; fetching the chunk over a new connection");
        if times < MAX_CORRUPT {
            return Ok(());
        }
        Err(PullError::DigestMismatch {
            object: file.path.to_string(),
            chunk: index,
            begin,
            end,
            attempts: times,
            expected: chunk.blake3.to_string(),
            found: found.to_string(),
        })
    }
}

/// The first chunk of a small file that is wrong. Right chunks and a wrong SHA-256 is a manifest that contradicts
/// itself; it shows as chunk 0.
pub(super) fn check_small(file: &FileEntry, pieces: &[Bytes]) -> Option<(usize, Blake3)> {
    let mut sha256 = Sha256::new();
    pieces.iter().for_each(|piece| sha256.update(piece));
    if Digest::from_bytes(sha256.finalize().into()) == file.sha256 {
        return None;
    }
    let bytes = pieces.concat();
    let hash = |chunk: &nave_manifest::Chunk| {
        let begin = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
        Blake3::of(bytes.get(begin..begin + chunk.length as usize).unwrap_or_default())
    };
    let wrong =
        file.chunks.iter().map(|chunk| (chunk, hash(&chunk))).find(|(chunk, found)| *found != chunk.blake3);
    wrong.map(|(chunk, found)| (chunk.index, found)).or_else(|| Some((0, Blake3::of(&bytes))))
}

/// The result of a blocking task, which is only ever lost when the runtime goes.
pub(super) fn joined<T>(
    result: Result<Result<T, StoreError>, tokio::task::JoinError>,
) -> Result<T, PullError> {
    result.map_err(|_| PullError::Cancelled)?.map_err(PullError::Store)
}
