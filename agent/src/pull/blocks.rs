//! The workers' way with a delta: a range of it is fetched, and each block becomes its chunk while the next one comes.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use nave_delta::Record;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    PullError,
    delta::{Delta, is_about_the_object},
    fetch::Part,
    large::{Arrival, LargeFile},
    trouble::{Failure, Streak, Trouble},
    workers::{Crew, joined},
};
use crate::store::StoreError;

/// One chunk to rebuild.
#[derive(Clone, Debug)]
pub(super) struct Rebuild {
    pub(super) file: Arc<LargeFile>,
    pub(super) record: Record,
}

/// What came of a range and is not taken yet.
#[derive(Debug, Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    length: usize,
}

/// What became of a block.
enum Outcome {
    Written,
    Refused(String),
}

type Writing = Option<(Rebuild, JoinHandle<Result<Outcome, StoreError>>)>;

impl Crew {
    /// Fetches blocks that follow one another, and rebuilds their chunks. What cannot be rebuilt goes to the queue, to be
    /// fetched as it is.
    pub(super) async fn fetch_blocks(
        &self,
        delta: &Arc<Delta>,
        mut blocks: VecDeque<Rebuild>,
    ) -> Result<(), PullError> {
        let mut streak = Streak::default();
        while !blocks.is_empty() {
            if delta.is_given_up() {
                blocks.drain(..).for_each(|block| self.fetch_whole(&block));
                return Ok(());
            }
            self.recovery.wait_for_window().await;
            let Err(failure) = self.try_blocks(delta, &mut blocks, &mut streak).await else { continue };
            match self.recovery.recover(&delta.path, failure, &mut streak).await {
                Err(error) if is_about_the_object(&error) => {
                    self.recovery.meter.change(|progress| progress.delta_refusals += 1);
                    delta.give_up(&error);
                }
                recovered => recovered?,
            }
        }
        Ok(())
    }

    /// One attempt; blocks leave the list when they have come, whatever they were good for.
    async fn try_blocks(
        &self,
        delta: &Arc<Delta>,
        blocks: &mut VecDeque<Rebuild>,
        streak: &mut Streak,
    ) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (blocks.front(), blocks.back()) else { return Ok(()) };
        let part = Part::Range { begin: first.record.offset, end: last.record.end(), size: delta.size };
        let _slot = self.recovery.limiter.slot(self.recovery.rank).await;
        let fetcher = self.recovery.fetcher();
        let mut body = fetcher.get(self.recovery.client(false)?, &delta.path, part).await?;
        if body.whole {
            let what = "comes as a whole although a part was asked for".to_owned();
            return Err(PullError::VersionBroken { object: delta.path.to_string(), what }.into());
        }
        let mut pieces = Pieces::default();
        let mut writing: Writing = None;
        let ended = loop {
            match body.next().await {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break Ok(()),
                Err(trouble) => break Err(trouble),
            }
            while let Some(next) = blocks.front()
                && let Some(block) = pieces.take(next.record.stored as usize)
                && let Some(next) = blocks.pop_front()
            {
                self.settle_block(delta, writing.take(), streak).await?;
                let (delta, rebuild) = (Arc::clone(delta), next.clone());
                writing = Some((next, spawn_blocking(move || write(&delta, &rebuild, &block))));
            }
        };
        self.settle_block(delta, writing.take(), streak).await?;
        ended?;
        match blocks.front() {
            None => Ok(()),
            Some(next) => Err(Trouble::Short { missing: last_end(blocks) - next.record.offset }.into()),
        }
    }

    async fn settle_block(
        &self,
        delta: &Delta,
        writing: Writing,
        streak: &mut Streak,
    ) -> Result<(), PullError> {
        let Some((rebuild, writing)) = writing else { return Ok(()) };
        match joined(writing.await)? {
            Outcome::Written => {
                streak.broken();
                let length = u64::from(rebuild.record.length);
                self.recovery.meter.change(|progress| {
                    progress.bytes_done += length;
                    progress.bytes_rebuilt += length;
                });
                if let Some(sharing) = &self.sharing {
                    sharing.verified_chunk(&rebuild.file.entry.sha256, rebuild.record.chunk);
                }
            }
            Outcome::Refused(why) => {
                self.recovery.meter.change(|progress| progress.delta_refusals += 1);
                delta.note_refused(&why);
                self.fetch_whole(&rebuild);
            }
        }
        Ok(())
    }

    fn fetch_whole(&self, rebuild: &Rebuild) {
        self.queue().push_chunk(&rebuild.file, rebuild.record.chunk);
    }
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        self.pieces.push_back(piece);
    }

    /// The next `length` bytes once they are there. Copied only where they came in several pieces.
    fn take(&mut self, length: usize) -> Option<Bytes> {
        self.length = self.length.checked_sub(length)?;
        let mut first = self.pieces.pop_front().unwrap_or_default();
        if first.len() >= length {
            let taken = first.split_to(length);
            if !first.is_empty() {
                self.pieces.push_front(first);
            }
            return Some(taken);
        }
        let mut taken = BytesMut::with_capacity(length);
        taken.extend_from_slice(&first);
        while let Some(mut piece) = self.pieces.pop_front() {
            let rest = length - taken.len();
            taken.extend_from_slice(&piece.split_to(piece.len().min(rest)));
            if taken.len() == length {
                if !piece.is_empty() {
                    self.pieces.push_front(piece);
                }
                break;
            }
        }
        Some(taken.freeze())
    }
}

fn last_end(blocks: &VecDeque<Rebuild>) -> u64 {
    blocks.back().map_or(0, |last| last.record.end())
}

/// Rebuilds a chunk, and writes it if it is right. Blocks.
fn write(delta: &Delta, rebuild: &Rebuild, block: &[u8]) -> Result<Outcome, StoreError> {
    let keep = |bytes: &[u8]| rebuild.file.accept(rebuild.record.chunk, &[bytes]);
    let arrival = match delta.rebuild(&rebuild.record, block, keep) {
        Ok(arrival) => arrival?,
        Err(why) => return Ok(Outcome::Refused(why)),
    };
    match arrival {
        Arrival::Written => Ok(Outcome::Written),
        Arrival::Corrupt { found, .. } => {
            let path = &rebuild.file.entry.path;
            Ok(Outcome::Refused(format!("chunk {} of {path} has BLAKE3 {found} then", rebuild.record.chunk)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_taken_in_order_wherever_pieces_end() {
        let bytes: Vec<u8> = (0..60).collect();
        for piece in [1, 7, 10, 25, 60] {
            // Each block as soon as it is there, as the workers do; and all of them when everything is there.
            for at_once in [false, true] {
                let (mut pieces, mut taken) = (Pieces::default(), Vec::new());
                let mut blocks = [10, 20, 3, 27].into_iter().peekable();
                let mut take = |pieces: &mut Pieces| {
                    while let Some(block) = blocks.peek().and_then(|length| pieces.take(*length)) {
                        assert_eq!(Some(block.len()), blocks.next());
                        taken.extend_from_slice(&block);
                    }
                };
                for piece in bytes.chunks(piece) {
                    pieces.push(Bytes::copy_from_slice(piece));
                    if !at_once {
                        take(&mut pieces);
                    }
                }
                take(&mut pieces);
                assert_eq!(
                    (taken, pieces.length),
                    (bytes.clone(), 0),
                    "pieces of {piece}, at once: {at_once}"
                );
            }
        }
    }
}
