//! What moves where, as tables.

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

/// Name, when it was last needed, and its files: `*` before a name = on the cold tier.
type Given<'a> = (&'a str, i64, &'a [(&'a str, u64)]);

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn digests(names: &[&str]) -> BTreeSet<Digest> {
    names.iter().map(|name| digest(name)).collect()
}

fn shelf(given: &[Given<'_>], cold: ColdShelf) -> Shelf {
    let version = |(name, at, files): &Given<'_>| {
        let plain = |file: &str| digest(file.trim_start_matches('*'));
        let kept = Kept {
            files: files.iter().map(|(file, size)| (plain(file), *size)).collect(),
            cold: files
                .iter()
                .filter(|(file, _)| file.starts_with('*'))
                .map(|(file, _)| plain(file))
                .collect(),
            last_needed: Timestamp::from_second(*at).unwrap(),
        };
        (digest(name), kept)
    };
    Shelf { versions: given.iter().map(version).collect(), cold: Some(cold), ..Shelf::default() }
}

fn names<'a>(given: &[Given<'a>], found: impl IntoIterator<Item = Digest>) -> Vec<&'a str> {
    let name = |found: Digest| given.iter().find(|(name, ..)| digest(name) == found).unwrap().0;
    found.into_iter().map(name).collect()
}

const WIDE: ColdShelf = ColdShelf { taken: 0, most: 1_000, marks: Watermarks { high: 850, low: 700 } };

struct Row {
    what: &'static str,
    versions: &'static [Given<'static>],
    needed: &'static [&'static str],
    hot: &'static [&'static str],
    cold: ColdShelf,
    demote: &'static [&'static str],
    evict: &'static [&'static str],
    blocked: &'static [&'static str],
    frees: u64,
}

const ROW: Row = Row {
    what: "",
    versions: &[],
    needed: &[],
    hot: &[],
    cold: WIDE,
    demote: &[],
    evict: &[],
    blocked: &[],
    frees: 0,
};

const TABLE: &[Row] = &[
    Row {
        what: "what serves stays, all else moves, the longest unneeded first",
        versions: &[("served", 0, &[("s", 9)]), ("previous", 5, &[("p", 7)]), ("old", 3, &[("o", 2)])],
        needed: &["served", "previous"],
        hot: &["served"],
        demote: &["old", "previous"],
        frees: 9,
        ..ROW
    },
    Row {
        what: "what is cold already stays there",
        versions: &[("served", 0, &[("s", 9)]), ("previous", 5, &[("*p", 7)])],
        needed: &["served", "previous"],
        hot: &["served"],
        ..ROW
    },
    Row {
        what: "a file that a hot version has too stays hot, and a version of no others with it",
        versions: &[
            ("served", 0, &[("shared", 90), ("s", 9)]),
            ("previous", 5, &[("shared", 90), ("p", 7)]),
            ("twin", 4, &[("shared", 90)]),
        ],
        needed: &["served", "previous"],
        hot: &["served"],
        demote: &["previous"],
        frees: 7,
        ..ROW
    },
    Row {
        what: "a file of two versions that move is counted once",
        versions: &[("a", 1, &[("both", 600), ("a", 1)]), ("b", 2, &[("both", 600), ("b", 2)])],
        needed: &["a", "b"],
        demote: &["a", "b"],
        frees: 603,
        ..ROW
    },
    Row {
        what: "above the high mark of the cold tier the longest unneeded goes, down to the low one, wherever it lies",
        versions: &[
            ("served", 0, &[("s", 9)]),
            ("oldest", 1, &[("*x", 300)]),
            ("older", 2, &[("y", 100)]),
            ("old", 3, &[("*z", 300)]),
            ("previous", 0, &[("p", 200)]),
        ],
        needed: &["served", "previous"],
        hot: &["served"],
        cold: ColdShelf { taken: 600, ..WIDE },
        demote: &["previous", "older"],
        evict: &["oldest"],
        frees: 300,
        ..ROW
    },
    Row {
        what: "what is moving goes too, where it is the longest unneeded",
        versions: &[("older", 1, &[("y", 100)]), ("old", 3, &[("*z", 300)]), ("kept", 0, &[("*k", 550)])],
        needed: &["kept"],
        cold: ColdShelf { taken: 850, ..WIDE },
        evict: &["old", "older"],
        frees: 100,
        ..ROW
    },
    Row {
        what: "what is kept to go back to stays hot where the cold tier has no room for it, and what fits goes on",
        versions: &[
            ("kept", 0, &[("*k", 950)]),
            ("large", 1, &[("l", 51)]),
            ("small", 2, &[("m", 50)]),
            ("unneeded", 9, &[("*u", 10)]),
        ],
        needed: &["kept", "large", "small"],
        cold: ColdShelf { taken: 960, marks: Watermarks { high: 1_000, low: 1_000 }, ..WIDE },
        demote: &["small"],
        evict: &["unneeded"],
        blocked: &["large"],
        frees: 50,
        ..ROW
    },
    Row {
        what: "nothing goes for what would not fit all the same",
        versions: &[("huge", 1, &[("h", 1_001)]), ("unneeded", 9, &[("*u", 10)])],
        needed: &["huge"],
        cold: ColdShelf { taken: 10, ..WIDE },
        blocked: &["huge"],
        ..ROW
    },
    Row {
        what: "what is asked for is not sent away, be it half on its way back",
        versions: &[("asked", 0, &[("*a", 10), ("b", 10)])],
        needed: &["asked"],
        hot: &["asked"],
        ..ROW
    },
];

#[test]
fn what_moves_and_what_goes() {
    for row in TABLE {
        let found = plan_tiers(&shelf(row.versions, row.cold), &digests(row.needed), &digests(row.hot));
        assert_eq!(names(row.versions, found.demote), row.demote, "{}: demoted", row.what);
        let evicted: BTreeSet<_> = names(row.versions, found.evict).into_iter().collect();
        assert_eq!(evicted, row.evict.iter().copied().collect(), "{}: evicted", row.what);
        let blocked = found.blocked.map(|blocked| blocked.versions).unwrap_or_default();
        assert_eq!(names(row.versions, blocked), row.blocked, "{}: blocked", row.what);
        assert_eq!(found.frees, row.frees, "{}: frees", row.what);
    }
}

#[test]
fn without_a_cold_tier_nothing_moves() {
    let given: &[Given<'_>] = &[("previous", 1, &[("p", 7)])];
    let hot_only = Shelf { cold: None, ..shelf(given, WIDE) };
    assert_eq!(plan_tiers(&hot_only, &digests(&["previous"]), &digests(&[])), Tiering::default());
}

proptest! {
    #[test]
    fn the_hot_stay_the_needed_stay_and_the_cold_tier_is_never_overfilled(
        of in prop::collection::btree_map(0u8..8, (prop::collection::btree_set(0u8..12, 0..5), 0i64..50), 0..8),
        cold_files in prop::collection::btree_set(0u8..12, 0..12),
        needed in prop::collection::btree_set(0u8..8, 0..6),
        hot in prop::collection::btree_set(0u8..8, 0..4),
        most in 0u64..90,
    ) {
        let file = |n: u8| digest(&format!("file{n}"));
        let size = |n: u8| u64::from(n) + 1;
        let version = |n: u8| digest(&format!("version{n}"));
        let versions: BTreeMap<_, _> = of.iter().map(|(n, (files, at))| {
            let kept = Kept {
                files: files.iter().map(|n| (file(*n), size(*n))).collect(),
                cold: files.intersection(&cold_files).map(|n| file(*n)).collect(),
                last_needed: Timestamp::from_second(*at).unwrap(),
            };
            (version(*n), kept)
        }).collect();
        let sizes: BTreeMap<_, _> = (0..12).map(|n| (file(n), size(n))).collect();
        let used = |set: &BTreeSet<Digest>| set.iter().map(|file| sizes[file]).sum::<u64>();
        let cold_now: BTreeSet<Digest> = versions.values().flat_map(|kept| kept.cold.clone()).collect();
        let marks = Watermarks { high: most / 10 * 8, low: most / 10 * 6 };
        let cold = ColdShelf { taken: used(&cold_now), most, marks };
        let shelf = Shelf { versions: versions.clone(), cold: Some(cold), ..Shelf::default() };
        let needed: BTreeSet<_> = needed.into_iter().map(version).collect();
        let hot: BTreeSet<_> = hot.into_iter().map(version).collect();
        let plan = plan_tiers(&shelf, &needed, &hot);
        prop_assert!(plan.evict.is_disjoint(&needed) && plan.evict.is_disjoint(&hot));
        prop_assert!(plan.demote.iter().all(|digest| !hot.contains(digest) && !plan.evict.contains(digest)));

        // What is so after it was carried out.
        let fixed = files_of(&versions, &hot);
        let left: BTreeMap<_, _> = versions.iter().filter(|(digest, _)| !plan.evict.contains(*digest)).collect();
        let alive: BTreeSet<Digest> = left.values().flat_map(|kept| kept.files.keys().copied()).collect();
        let mut cold_then: BTreeSet<Digest> = cold_now.intersection(&alive).copied().collect();
        for digest in &plan.demote {
            cold_then.extend(movable(left[digest], &fixed).map(|(file, _)| file));
        }
        prop_assert!(used(&cold_then) <= most.max(cold.taken), "the cold tier is overfilled");
        let all: BTreeSet<Digest> = versions.values().flat_map(|kept| kept.files.keys().copied()).collect();
        let hot_bytes = |files: &BTreeSet<Digest>, cold: &BTreeSet<Digest>| used(&files.difference(cold).copied().collect());
        prop_assert_eq!(hot_bytes(&all, &cold_now) - hot_bytes(&alive, &cold_then), plan.frees);
        // Whatever may move and did not has no room, and nothing went for it in vain.
        if let Some(blocked) = &plan.blocked {
            prop_assert!(blocked.versions.iter().all(|digest| !plan.demote.contains(digest)));
            prop_assert_eq!(blocked.free, most.saturating_sub(used(&cold_then)));
        }
    }
}
