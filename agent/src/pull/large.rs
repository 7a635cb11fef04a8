//! A large file on its way: which chunks are there, and its SHA-256, computed in order behind the front of chunks that
//! arrive in any order. The bytes are read back from the page cache, which costs a copy and no wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nave_manifest::{Blake3, Chunk, FileEntry};
use nave_names::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Notify, Semaphore},
    task::{JoinHandle, spawn_blocking},
};

use super::PullError;
use crate::store::{Part, StoreError};

/// How many chunks are hashed in one go before the thread is given back.
const BATCH: usize = 16;
/// Read back at a time: with what it came from it stays in the processor's second cache, where a whole chunk does not.
const READ: usize = 128 << 10;
/// After so many hashed bytes the disk is made to write them, so that what is left to flush at the end is little.
const FLUSH: u64 = 64 << 20;

/// One large file and what is there of it.
#[derive(Debug)]
pub(super) struct LargeFile {
    pub(super) entry: FileEntry,
    pub(super) chunks: Vec<Chunk>,
    pub(super) part: Part,
    state: Mutex<State>,
    arrived: Notify,
    /// Held by whoever reads the whole body, where the server ignores ranges.
    pub(super) whole_body: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    done: Vec<bool>,
    /// How often a chunk came with wrong bytes.
    corrupt: Vec<(usize, u32)>,
    ignores_ranges: bool,
}

/// The SHA-256 of the chunks before the front, and a buffer for what is read next: a fresh one each time costs the page faults
/// of its whole length.
#[derive(Debug)]
struct Hashing {
    sha256: Sha256,
    buffer: Vec<u8>,
}

/// What became of a chunk that arrived.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Right and written.
    Written,
    /// Wrong, for the nth time.
    Corrupt { found: Blake3, times: u32 },
}

impl LargeFile {
    pub(super) fn new(entry: FileEntry, part: Part) -> Self {
        let chunks: Vec<_> = entry.chunks.iter().collect();
        let state = State { done: vec![false; chunks.len()], corrupt: Vec::new(), ignores_ranges: false };
        Self {
            entry,
            chunks,
            part,
            state: Mutex::new(state),
            arrived: Notify::new(),
            whole_body: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn is_done(&self, chunk: usize) -> bool {
        self.state().done[chunk]
    }

    pub(super) fn ignores_ranges(&self) -> bool {
        self.state().ignores_ranges
    }

    pub(super) fn note_ignored_range(&self) {
        self.state().ignores_ranges = true;
    }

    /// The chunks that are still to be had, in order.
    pub(super) fn missing(&self) -> Vec<usize> {
        let state = self.state();
        state.done.iter().enumerate().filter(|(_, done)| !**done).map(|(index, _)| index).collect()
    }

    /// Hashes a chunk of an interrupted pull. Blocks.
    pub(super) fn accept_earlier(&self, index: usize, buffer: &mut Vec<u8>) -> Result<bool, StoreError> {
        let chunk = self.chunks[index];
        buffer.resize(chunk.length as usize, 0);
        if self.part.read(chunk.offset, buffer).is_err() {
            return Ok(false);
        }
        let good = Blake3::of(buffer) == chunk.blake3;
        if good {
            self.mark(index);
        }
        Ok(good)
    }

    /// Hashes a chunk that arrived, and writes it if it is right. Blocks.
    pub(super) fn accept(&self, index: usize, pieces: &[impl AsRef<[u8]>]) -> Result<Arrival, StoreError> {
        Ok(match self.keep(index, pieces)? {
            None => Arrival::Written,
            Some(found) => Arrival::Corrupt { found, times: self.note_corrupt(index) },
        })
    }

    /// The same, but wrong bytes are not held against the object in S3; their hash.
    pub(super) fn keep(
        &self,
        index: usize,
        pieces: &[impl AsRef<[u8]>],
    ) -> Result<Option<Blake3>, StoreError> {
        let chunk = self.chunks[index];
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            hasher.update(piece.as_ref());
        }
        let found = Blake3::from(hasher.finalize());
        if found != chunk.blake3 {
            return Ok(Some(found));
        }
        self.part.write(chunk.offset, pieces)?;
        self.part.record(u32::try_from(index).unwrap_or(u32::MAX))?;
        self.mark(index);
        Ok(None)
    }

    fn mark(&self, index: usize) {
        self.state().done[index] = true;
        self.arrived.notify_one();
    }

    fn note_corrupt(&self, index: usize) -> u32 {
        let mut state = self.state();
        if let Some((_, times)) = state.corrupt.iter_mut().find(|(chunk, _)| *chunk == index) {
            *times += 1;
            return *times;
        }
        state.corrupt.push((index, 1));
        1
    }

    /// Follows the front of chunks and compares the file's SHA-256 once all of them are there. `turns` bounds how many
    /// files are hashed at once.
    pub(super) async fn hash_in_order(self: Arc<Self>, turns: Arc<Semaphore>) -> Result<(), PullError> {
        let mut hashing = Hashing { sha256: Sha256::new(), buffer: vec![0; READ] };
        let mut front = 0;
        let mut unflushed = 0;
        let mut flushing: Option<JoinHandle<Result<(), StoreError>>> = None;
        while front < self.chunks.len() {
            let ready = self.ready_from(front);
            if ready == front {
                self.arrived.notified().await;
                continue;
            }
            let _turn = turns.acquire().await;
            let file = Arc::clone(&self);
            let hashed = spawn_blocking(move || file.hash(hashing, front, ready)).await;
            hashing = hashed.map_err(|_| PullError::Cancelled)??;
            unflushed += self.chunks[front..ready].iter().map(|chunk| u64::from(chunk.length)).sum::<u64>();
            front = ready;
            if unflushed >= FLUSH && flushing.as_ref().is_none_or(JoinHandle::is_finished) {
                unflushed = 0;
                let file = Arc::clone(&self);
                flushing = Some(spawn_blocking(move || file.part.flush()));
            }
        }
        if let Some(flushing) = flushing {
            flushing.await.map_err(|_| PullError::Cancelled)??;
        }
        let found = Digest::from_bytes(hashing.sha256.finalize().into());
        if found == self.entry.sha256 {
            return Ok(());
        }
        self.part.forget()?;
        let (object, expected) = (self.entry.path.to_string(), self.entry.sha256);
        Err(PullError::FileDigestMismatch { object, expected, found })
    }

    fn ready_from(&self, front: usize) -> usize {
        let state = self.state();
        front + state.done[front..].iter().take(BATCH).take_while(|done| **done).count()
    }

    fn hash(&self, mut hashing: Hashing, from: usize, to: usize) -> Result<Hashing, StoreError> {
        let Hashing { sha256, buffer } = &mut hashing;
        let (mut at, end) = (self.chunks[from].offset, self.chunks[to - 1].end());
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            self.part.read(at, &mut buffer[..length])?;
            sha256.update(&buffer[..length]);
            at += length as u64;
        }
        Ok(hashing)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
