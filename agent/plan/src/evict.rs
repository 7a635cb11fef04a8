//! Which versions go when room is short. What is needed never does; of the rest, what was not needed for the longest
//! time goes first. The shell uses it twice: to keep between the store's watermarks, and to make room for a pull.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nave_names::Digest;

use crate::tiers::ColdShelf;

/// A version in the store, as far as its room is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its files by content, with their sizes in bytes. Versions share files.
    pub files: BTreeMap<Digest, u64>,
    /// Those of them that lie on the cold tier, and on no other.
    pub cold: BTreeSet<Digest>,
    /// When something last needed it; the beginning of time where nobody knows.
    pub last_needed: Timestamp,
}

/// Where collecting begins and ends, in bytes that are taken. Both 0, which is the default: nothing is kept that nothing
/// needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Above this, versions go.
    pub high: u64,
    /// Until no more than this is taken.
    pub low: u64,
}

/// What the store takes, and what it may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shelf {
    /// Bytes that are taken.
    pub taken: u64,
    /// Of the site.
    pub marks: Watermarks,
    /// The versions that are held; needed by the decision only where more than `marks.high` is taken, or where some of
    /// them are or may go on a cold tier.
    pub versions: BTreeMap<Digest, Kept>,
    /// The cold tier, where there is one that takes versions.
    pub cold: Option<ColdShelf>,
}

/// Versions that go, and the bytes that are free then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// In the order of going.
    pub versions: Vec<Digest>,
    /// Bytes of the files that no other version has.
    pub bytes: u64,
}

impl Watermarks {
    /// How much has to go.
    pub const fn excess(self, taken: u64) -> u64 {
        if taken > self.high { taken.saturating_sub(self.low) } else { 0 }
    }
}

/// The fewest versions, longest unneeded first, without which `bytes` more are free; all that may go, where those are
/// not enough. Never one of `needed`, and never a file that a version that stays has too.
pub fn evict(versions: &BTreeMap<Digest, Kept>, needed: &BTreeSet<Digest>, bytes: u64) -> Eviction {
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for file in versions.values().flat_map(|version| version.files.keys()) {
        *users.entry(*file).or_default() += 1;
    }
    let mut candidates: Vec<_> = versions.iter().filter(|(digest, _)| !needed.contains(*digest)).collect();
    candidates.sort_by_key(|(digest, version)| (version.last_needed, **digest));
    let mut eviction = Eviction::default();
    for (digest, version) in candidates {
        if eviction.bytes >= bytes {
            break;
        }
        for (file, size) in &version.files {
            let Some(users) = users.get_mut(file) else { continue };
            *users -= 1;
            if *users == 0 {
                eviction.bytes = eviction.bytes.saturating_add(*size);
            }
        }
        eviction.versions.push(*digest);
    }
    eviction
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    type Given<'a> = (&'a str, i64, &'a [(&'a str, u64)]);

    fn versions(of: &[Given<'_>]) -> BTreeMap<Digest, Kept> {
        let kept = |(name, at, files): &Given<'_>| {
            let files = files.iter().map(|(file, size)| (digest(file), *size)).collect();
            let last_needed = Timestamp::from_second(*at).unwrap();
            (digest(name), Kept { files, last_needed, ..Kept::default() })
        };
        of.iter().map(kept).collect()
    }

    #[test]
    fn the_longest_unneeded_goes_first_and_only_as_much_as_is_asked() {
        let held =
            versions(&[("new", 30, &[("n", 10)]), ("old", 10, &[("o", 10)]), ("served", 0, &[("s", 10)])]);
        let needed = [digest("served")].into();
        let gone = |bytes| evict(&held, &needed, bytes).versions;
        assert_eq!(gone(0), []);
        assert_eq!(gone(10), [digest("old")]);
        assert_eq!(gone(11), [digest("old"), digest("new")]);
        let all = evict(&held, &needed, 1_000);
        assert_eq!((all.versions.len(), all.bytes), (2, 20), "what is served stays, however much is asked");
    }

    #[test]
    fn a_file_that_another_version_has_frees_nothing() {
        let held = versions(&[
            ("a", 1, &[("shared with served", 50), ("own", 5)]),
            ("b", 2, &[("shared with c", 20)]),
            ("c", 3, &[("shared with c", 20)]),
            ("served", 0, &[("shared with served", 50)]),
        ]);
        let needed = [digest("served")].into();
        let gone = evict(&held, &needed, 25);
        assert_eq!((gone.versions, gone.bytes), (vec![digest("a"), digest("b"), digest("c")], 25));
    }

    #[test]
    fn between_the_marks_nothing_goes_and_above_the_high_one_down_to_the_low_one() {
        let marks = Watermarks { high: 85, low: 70 };
        assert_eq!([0, 70, 85, 86, 100].map(|taken| marks.excess(taken)), [0, 0, 0, 16, 30]);
        assert_eq!(Watermarks::default().excess(1), 1);
    }

    proptest! {
        #[test]
        fn needed_versions_and_their_files_stay(
            of in prop::collection::btree_map(0u8..12, (prop::collection::btree_map(0u8..20, 1u64..9, 0..5), 0i64..50), 0..10),
            needed in prop::collection::btree_set(0u8..12, 0..6),
            bytes in 0u64..100,
        ) {
            let name = |kind: &str, n: u8| digest(&format!("{kind}{n}"));
            // One content has one size, whoever has it.
            let held: BTreeMap<Digest, Kept> = of.iter().map(|(n, (files, at))| {
                let files = files.keys().map(|file| (name("file", *file), u64::from(*file) + 1)).collect();
                let last_needed = Timestamp::from_second(*at).unwrap();
                (name("version", *n), Kept { files, last_needed, ..Kept::default() })
            }).collect();
            let needed: BTreeSet<Digest> = needed.into_iter().map(|n| name("version", n)).collect();
            let gone = evict(&held, &needed, bytes);
            prop_assert!(gone.versions.iter().all(|digest| held.contains_key(digest) && !needed.contains(digest)));
            let files = |digests: &mut dyn Iterator<Item = &Digest>| -> BTreeMap<Digest, u64> {
                digests.flat_map(|digest| held[digest].files.clone()).collect()
            };
            let before = files(&mut held.keys());
            let after = files(&mut held.keys().filter(|digest| !gone.versions.contains(digest)));
            let freed = before.values().sum::<u64>() - after.values().sum::<u64>();
            prop_assert_eq!(freed, gone.bytes);
            let all_gone = held.keys().all(|digest| needed.contains(digest) || gone.versions.contains(digest));
            prop_assert!(freed >= bytes || all_gone, "could have gone on");
            // Without the last one it would not have been enough.
            if let Some((_, fewer)) = gone.versions.split_last() {
                let after = files(&mut held.keys().filter(|digest| !fewer.contains(digest)));
                prop_assert!(before.values().sum::<u64>() - after.values().sum::<u64>() < bytes);
            }
        }
    }
}
