//! Tests of `queue`: whatever is taken, lent and given back, each missing chunk is in it once.

use nave_delta::Record;
use nave_manifest::FileHasher;
use nave_names::RelativePath;

use super::*;
use crate::store::{Rough, Store};

const MIB: u64 = CHUNK as u64;

struct World {
    _folder: tempfile::TempDir,
    rough: Rough,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let rough = Rough::open(&store, &nave_names::Digest::of(b"list"));
        rough.begin().unwrap();
        Self { _folder: folder, rough }
    }

    /// A large file of so many chunks, of which nothing is there.
    fn file(&self, path: &str, chunks: usize) -> Arc<LargeFile> {
        let mut hasher = FileHasher::new(RelativePath::new(path).unwrap());
        hasher.update(&content(chunks));
        let entry = hasher.finish();
        let (part, _) = self.rough.part(&entry.sha256, entry.size, chunks).unwrap();
        assert_eq!(entry.chunks.len(), chunks);
        Arc::new(LargeFile::new(entry, part))
    }
}

fn content(chunks: usize) -> Vec<u8> {
    (0..chunks).map(|chunk| vec![chunk as u8; CHUNK as usize]).collect::<Vec<_>>().concat()
}

/// Marks a chunk as there.
fn bring(file: &LargeFile, chunk: usize) {
    file.accept(chunk, &[&content(chunk + 1)[chunk * CHUNK as usize..]]).unwrap();
}

/// The chunks that are in the queue, in its order.
fn chunks(queue: &Queue) -> Vec<(String, usize)> {
    queue.chunks().map(|(file, chunk)| (file.entry.path.to_string(), chunk)).collect()
}

fn range(job: &Option<Job>) -> (usize, usize) {
    let Some(Job::Range { first, end, .. }) = job else { panic!("{job:?}") };
    (*first, *end)
}

#[test]
fn who_begins_elsewhere_fetches_the_same() {
    let world = World::new();
    let files = [world.file("a", 5), world.file("b", 3)];
    bring(&files[0], 2);
    let queue = || {
        let mut queue = Queue::default();
        files.iter().for_each(|file| queue.push_large(file));
        queue
    };
    let all = chunks(&queue());
    assert_eq!(all.len(), 7);
    for key in 0..15 {
        let mut rotated = queue();
        rotated.rotate(key);
        let mut expected = all.clone();
        expected.rotate_left(key as usize % 7);
        assert_eq!(chunks(&rotated), expected, "{key}");
    }
}

#[test]
fn a_range_is_as_long_as_it_may_be_and_ends_where_a_chunk_is_there() {
    let world = World::new();
    let file = world.file("a", 6);
    bring(&file, 4);
    let mut queue = Queue::default();
    queue.push_large(&file);
    let taken = [3 * MIB - 1, MIB, 0, u64::MAX, u64::MAX].map(|length| queue.take(length));
    let [a, b, c, d, e] = taken;
    assert_eq!([a, b, c, d].each_ref().map(range), [(0, 2), (2, 3), (3, 4), (5, 6)]);
    assert!(e.is_none() && queue.is_exhausted());
}

#[test]
fn of_what_was_lent_only_that_comes_back_which_is_not_there() {
    let world = World::new();
    let file = world.file("a", 6);
    let mut queue = Queue::default();
    queue.push_large(&file);
    let job = queue.lend_where(u64::MAX, |_| true);
    assert_eq!((queue.is_empty(), queue.is_exhausted()), (true, false), "it may come back");
    bring(&file, 1);
    bring(&file, 4);
    queue.settle(job);
    let left: Vec<_> = chunks(&queue).into_iter().map(|(_, chunk)| chunk).collect();
    assert_eq!(left, [0, 2, 3, 5]);
    let other = queue.lend_where(u64::MAX, |_| true);
    assert_eq!(range(&other), (0, 1));
    queue.settle(None);
    while queue.take(u64::MAX).is_some() {}
    assert!(queue.is_exhausted());
}

#[test]
fn what_a_delta_could_not_rebuild_is_fetched_as_it_is() {
    let world = World::new();
    let (a, b) = (world.file("a", 6), world.file("b", 6));
    let mut queue = Queue::default();
    for (file, chunk) in [(&a, 1), (&a, 2), (&a, 4), (&b, 5)] {
        queue.push_chunk(file, chunk);
    }
    let expected = [("a", 1), ("a", 2), ("a", 4), ("b", 5)].map(|(path, chunk)| (path.to_owned(), chunk));
    assert_eq!(chunks(&queue), expected);
    assert_eq!(range(&queue.take(u64::MAX)), (1, 3));
}

#[test]
fn blocks_are_taken_together_up_to_a_gap_or_a_length() {
    let world = World::new();
    let file = world.file("a", 5);
    let blocks = |places: &[(u64, u32)]| -> VecDeque<Rebuild> {
        let block = |(chunk, (offset, stored)): (usize, &(u64, u32))| Rebuild {
            file: Arc::clone(&file),
            record: Record {
                file: 0,
                chunk,
                length: CHUNK,
                base: None,
                width: 1,
                offset: *offset,
                stored: *stored,
            },
        };
        places.iter().enumerate().map(block).collect()
    };
    let five = blocks(&[(8, 10), (18, 10), (28, 10), (40, 10), (50, 10)]);
    for (length, expected) in [(0, 1), (19, 1), (20, 2), (29, 2), (30, 3), (u64::MAX, 3)] {
        assert_eq!(run_of(&five, length), Some(expected), "{length}");
    }
    assert_eq!(run_of(&blocks(&[]), u64::MAX), None);
}
