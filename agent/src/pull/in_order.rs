//! Hashes a file while its pieces arrive, in whatever order they do: behind the front of those that are there without a
//! gap, by whoever brought one. The bytes are read back from the page cache, which costs a copy and no wait, so that what
//! is hashed is what lies there.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nave_manifest::{FileEntry, FileHasher};
use nave_names::RelativePath;

use crate::store::{Part, StoreError};

/// Read at a time.
const BUFFER: u64 = 1 << 20;

/// What is hashed of one file.
#[derive(Debug)]
pub(super) struct InOrder {
    path: RelativePath,
    size: u64,
    /// Length of each piece but the last.
    piece: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Which pieces are there.
    there: Vec<bool>,
    front: Front,
}

/// How far it is hashed. A hasher is some kilobytes: a file has one only between its first piece and its last.
#[derive(Debug)]
enum Front {
    Begin,
    /// For the piece at which the hasher is.
    Waits(Box<FileHasher>),
    /// Somebody hashes, and looks for more when done.
    Taken,
    Done(FileEntry),
}

impl InOrder {
    /// Nothing is hashed yet; these pieces are there, from an earlier attempt.
    pub(super) fn new(path: &RelativePath, size: u64, piece: u64, earlier: &[u32]) -> Self {
        let count = usize::try_from(size.div_ceil(piece)).unwrap_or(usize::MAX);
        let mut there = vec![false; count];
        for index in earlier {
            there[*index as usize] = true;
        }
        let state = Mutex::new(State { there, front: Front::Begin });
        Self { path: path.clone(), size, piece, state }
    }

    /// A piece was written. Hashes it, and what waited for it, unless somebody else is about to. Blocks.
    pub(super) fn arrived(&self, index: u32, part: &Part) -> Result<(), StoreError> {
        self.state().there[index as usize] = true;
        self.advance(part)
    }

    /// Hashes what is there without a gap, unless somebody else is about to. Blocks.
    pub(super) fn advance(&self, part: &Part) -> Result<(), StoreError> {
        let Some(mut hasher) = self.take() else { return Ok(()) };
        loop {
            let end = {
                let mut state = self.state();
                let end = self.gapless(&state, hasher.size());
                if end == hasher.size() {
                    state.front = match end {
                        _ if end == self.size => Front::Done(hasher.finish()),
                        0 => Front::Begin,
                        _ => Front::Waits(hasher),
                    };
                    return Ok(());
                }
                end
            };
            hash(&mut hasher, end, part)?;
        }
    }

    /// The entry of the file, all of which is there. Blocks.
    pub(super) fn finish(&self, part: &Part) -> Result<FileEntry, StoreError> {
        let mut hasher = match mem::replace(&mut self.state().front, Front::Taken) {
            Front::Done(entry) => return Ok(entry),
            Front::Waits(hasher) => hasher,
            Front::Begin | Front::Taken => Box::new(FileHasher::new(self.path.clone())),
        };
        hash(&mut hasher, self.size, part)?;
        Ok(hasher.finish())
    }

    /// The hasher, for whoever is to go on.
    fn take(&self) -> Option<Box<FileHasher>> {
        let mut state = self.state();
        match mem::replace(&mut state.front, Front::Taken) {
            Front::Begin => Some(Box::new(FileHasher::new(self.path.clone()))),
            Front::Waits(hasher) => Some(hasher),
            Front::Taken => None,
            done @ Front::Done(_) => {
                state.front = done;
                None
            }
        }
    }

    /// Up to where the pieces from this border on are there.
    fn gapless(&self, state: &State, from: u64) -> u64 {
        let first = usize::try_from(from.div_ceil(self.piece)).unwrap_or(usize::MAX);
        let there = state.there.iter().skip(first).take_while(|there| **there).count() as u64;
        self.size.min(from + there * self.piece)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the hasher on to `end`.
fn hash(hasher: &mut FileHasher, end: u64, part: &Part) -> Result<(), StoreError> {
    let mut buffer = vec![0; usize::try_from((end - hasher.size()).min(BUFFER)).unwrap_or_default()];
    while hasher.size() < end {
        let length = usize::try_from(end - hasher.size()).unwrap_or(usize::MAX).min(buffer.len());
        part.read(hasher.size(), &mut buffer[..length])?;
        hasher.update(&buffer[..length]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nave_names::Digest;

    use super::*;
    use crate::store::{Rough, Store};

    const PIECE: usize = 600_000;

    fn bytes() -> Vec<u8> {
        (0..2_500_000_u32).map(|n| (n % 251) as u8).collect()
    }

    fn whole(path: &RelativePath) -> FileEntry {
        let mut hasher = FileHasher::new(path.clone());
        hasher.update(&bytes());
        hasher.finish()
    }

    fn part(store: &Store) -> Part {
        let rough = Rough::open(store, &Digest::of(b"list"));
        rough.begin().unwrap();
        rough.part(&Digest::of(b"file"), bytes().len() as u64, 5).unwrap().0
    }

    fn write(part: &Part, index: usize) {
        let (bytes, begin) = (bytes(), index * PIECE);
        part.write(begin as u64, &[&bytes[begin..bytes.len().min(begin + PIECE)]]).unwrap();
    }

    fn hashed(file: &InOrder) -> u64 {
        match &file.state().front {
            Front::Begin => 0,
            Front::Waits(hasher) => hasher.size(),
            Front::Taken => panic!("nobody hashes"),
            Front::Done(entry) => entry.size,
        }
    }

    #[test]
    fn what_arrived_without_a_gap_is_hashed_already_whatever_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let part = part(&Store::open(folder.path()).unwrap());
        let path = RelativePath::new("model.bin").unwrap();
        // The second came with an earlier attempt.
        write(&part, 1);
        let file = InOrder::new(&path, bytes().len() as u64, PIECE as u64, &[1]);
        file.advance(&part).unwrap();
        assert_eq!(hashed(&file), 0);
        for (index, expected) in [(3, 0), (0, 1_200_000), (2, 2_400_000), (4, 2_500_000)] {
            write(&part, index);
            file.arrived(index as u32, &part).unwrap();
            assert_eq!(hashed(&file), expected, "after piece {index}");
        }
        assert_eq!(file.finish(&part).unwrap(), whole(&path));
    }

    #[test]
    fn pieces_that_arrive_at_once_are_each_hashed_once() {
        let folder = tempfile::tempdir().unwrap();
        let part = part(&Store::open(folder.path()).unwrap());
        let path = RelativePath::new("model.bin").unwrap();
        let file = InOrder::new(&path, bytes().len() as u64, PIECE as u64, &[]);
        std::thread::scope(|scope| {
            for index in [4, 2, 0, 3, 1] {
                let (file, part) = (&file, &part);
                scope.spawn(move || {
                    write(part, index);
                    file.arrived(index as u32, part).unwrap();
                });
            }
        });
        assert_eq!(hashed(&file), 2_500_000);
        assert_eq!(file.finish(&part).unwrap(), whole(&path));
    }
}
