//! What lies on which tier of the store. Hot is what serves or is about to; all else that is kept goes to the cold tier as
//! soon as it may. What nothing needs stays there between the cold tier's watermarks, the longest unneeded going first;
//! what is kept to go back to never goes, and stays on the hot tier where the cold one has no room for it.

use std::collections::{BTreeMap, BTreeSet};

use nave_names::Digest;

use crate::evict::{Kept, Shelf, Watermarks, evict};

/// What the cold tier takes, and what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdShelf {
    /// Bytes that are taken.
    pub taken: u64,
    /// The most that may be: its quota, or what its disk has, without what has to stay free.
    pub most: u64,
    /// Of the site.
    pub marks: Watermarks,
}

/// Versions that should be on the cold tier and do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Which, the longest unneeded first.
    pub versions: Vec<Digest>,
    /// What of them is on the hot tier only, in bytes.
    pub bytes: u64,
    /// What the cold tier has left, in bytes.
    pub free: u64,
}

/// What moves and what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tiering {
    /// To the cold tier, the longest unneeded first. After what goes is gone.
    pub demote: Vec<Digest>,
    /// Out of the store.
    pub evict: BTreeSet<Digest>,
    /// Bytes that are free on the hot tier after both.
    pub frees: u64,
    /// What does not fit.
    pub blocked: Option<Blocked>,
}

impl Shelf {
    /// Whether some file of a version is on the cold tier only.
    pub fn is_cold(&self, digest: &Digest) -> bool {
        self.versions.get(digest).is_some_and(|kept| !kept.cold.is_empty())
    }
}

impl Kept {
    fn is_all_cold(&self) -> bool {
        self.cold.len() == self.files.len()
    }
}

/// Where the versions of a shelf belong. `needed` must stay in the store, `hot` on its hot tier. Without a cold tier that
/// takes versions nothing moves.
pub fn plan_tiers(shelf: &Shelf, needed: &BTreeSet<Digest>, hot: &BTreeSet<Digest>) -> Tiering {
    let Some(cold) = shelf.cold else { return Tiering::default() };
    let versions = &shelf.versions;
    let mut moving: Vec<One<'_>> =
        versions.iter().filter(|(digest, kept)| !hot.contains(*digest) && !kept.is_all_cold()).collect();
    if moving.is_empty() && cold.taken <= cold.marks.high.min(cold.most) {
        return Tiering::default();
    }
    moving.sort_by_key(|(digest, kept)| (kept.last_needed, **digest));
    let fixed = files_of(versions, hot);
    let stays: BTreeSet<Digest> = needed.union(hot).copied().collect();

    // What does not fit although all else were gone is no reason for anything to go.
    let may_go: BTreeSet<Digest> =
        versions.keys().filter(|digest| !stays.contains(*digest)).copied().collect();
    let least = cold.taken.saturating_sub(cold_bytes_of(versions, &may_go));
    let (needed_ones, other): (Vec<_>, Vec<_>) =
        moving.into_iter().partition(|(digest, _)| stays.contains(*digest));
    let (fitting, blocked) = fill(&needed_ones, &fixed, cold.most.saturating_sub(least));
    let mut moving: Vec<One<'_>> = fitting.into_iter().chain(other).collect();
    moving.sort_by_key(|(digest, kept)| (kept.last_needed, **digest));

    let on_hot: BTreeMap<Digest, u64> = moving.iter().flat_map(|(_, kept)| movable(kept, &fixed)).collect();
    let after = cold.taken.saturating_add(on_hot.values().sum());
    let excess = cold.marks.excess(after).max(after.saturating_sub(cold.most));
    let evict: BTreeSet<Digest> = evict(versions, &stays, excess).versions.into_iter().collect();
    let taken = cold.taken.saturating_sub(cold_bytes_of(versions, &evict));
    let free = cold.most.saturating_sub(taken);
    moving.retain(|(digest, _)| !evict.contains(*digest));
    let (demoted, late) = fill(&moving, &fixed, free);

    let moved: BTreeMap<Digest, u64> = demoted.iter().flat_map(|(_, kept)| movable(kept, &fixed)).collect();
    let gone = lost(versions, &evict).filter(|(_, _, is_cold)| !is_cold).map(|(_, size, _)| size);
    let frees = moved.values().sum::<u64>() + gone.sum::<u64>();
    let blocked: Vec<_> = blocked.into_iter().chain(late).collect();
    let left: BTreeMap<Digest, u64> = blocked
        .iter()
        .flat_map(|(_, kept)| movable(kept, &fixed))
        .filter(|(file, _)| !moved.contains_key(file))
        .collect();
    let blocked = (!blocked.is_empty()).then(|| Blocked {
        versions: blocked.iter().map(|(digest, _)| **digest).collect(),
        bytes: left.values().sum(),
        free: free.saturating_sub(moved.values().sum()),
    });
    // What has no file of its own to move is where it belongs.
    let demote = demoted.iter().filter(|(_, kept)| movable(kept, &fixed).next().is_some());
    let demote = demote.map(|(digest, _)| **digest).collect();
    Tiering { demote, evict, frees, blocked }
}

type One<'a> = (&'a Digest, &'a Kept);

/// Of these, in their order, those that fit into so many bytes, and the others. A file that two of them have is counted
/// once.
fn fill<'a>(of: &[One<'a>], fixed: &BTreeSet<Digest>, mut free: u64) -> (Vec<One<'a>>, Vec<One<'a>>) {
    let mut counted = BTreeSet::new();
    of.iter().partition(|(_, kept)| {
        let own: Vec<_> = movable(kept, fixed).filter(|(file, _)| !counted.contains(file)).collect();
        let bytes: u64 = own.iter().map(|(_, size)| size).sum();
        let fits = bytes <= free;
        if fits {
            free -= bytes;
            counted.extend(own.into_iter().map(|(file, _)| file));
        }
        fits
    })
}

/// Bytes that are free on the cold tier without these versions.
fn cold_bytes_of(versions: &BTreeMap<Digest, Kept>, gone: &BTreeSet<Digest>) -> u64 {
    lost(versions, gone).filter(|(_, _, is_cold)| *is_cold).map(|(_, size, _)| size).sum()
}

/// The files that no version has without these, with their sizes and whether they are on the cold tier.
fn lost<'a>(
    versions: &'a BTreeMap<Digest, Kept>,
    gone: &BTreeSet<Digest>,
) -> impl Iterator<Item = (Digest, u64, bool)> + 'a {
    let mut files: BTreeMap<Digest, (u64, bool)> = BTreeMap::new();
    for kept in gone.iter().filter_map(|digest| versions.get(digest)) {
        files.extend(kept.files.iter().map(|(file, size)| (*file, (*size, kept.cold.contains(file)))));
    }
    for (_, kept) in versions.iter().filter(|(digest, _)| !gone.contains(*digest)) {
        files.retain(|file, _| !kept.files.contains_key(file));
    }
    files.into_iter().map(|(file, (size, is_cold))| (file, size, is_cold))
}

/// The files of a version that may leave the hot tier, with their sizes; `fixed` are those of versions that stay there.
pub fn movable<'a>(kept: &'a Kept, fixed: &'a BTreeSet<Digest>) -> impl Iterator<Item = (Digest, u64)> + 'a {
    let on_hot = kept.files.iter().filter(|(file, _)| !kept.cold.contains(*file));
    on_hot.filter(|(file, _)| !fixed.contains(*file)).map(|(file, size)| (*file, *size))
}

/// The files of these versions.
pub fn files_of(versions: &BTreeMap<Digest, Kept>, of: &BTreeSet<Digest>) -> BTreeSet<Digest> {
    of.iter().filter_map(|digest| versions.get(digest)).flat_map(|kept| kept.files.keys().copied()).collect()
}

#[cfg(test)]
mod tests;
