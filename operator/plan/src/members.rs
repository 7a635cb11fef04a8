//! Members: the clusters that concern one policy, by name. A policy with everything to decide puts them in one after the other,
//! and walks over all of them again and again: so they lie side by side in pieces. One that comes or goes moves those of its
//! piece only; to find one costs as much as in a sorted map.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    Name,
    input::Told,
    placement::{Key, Member},
    tally::Busy,
};

/// A piece that would be longer is cut in two.
const MOST: usize = 32;

/// The clusters that concern one policy, by name.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// None is empty.
    pieces: Vec<Piece>,
    count: usize,
    /// Versions that any of them was told, or came from, as far as it is stored, or was.
    versions: BTreeSet<Arc<str>>,
    /// What the last one was told that was looked at for that; mostly all are told the same.
    last_told: Option<Arc<Told>>,
}

#[derive(Debug)]
struct Piece {
    /// Not after any of its own, and after all of the piece before.
    first: Name,
    members: Vec<Member>,
}

/// Where a member is, or belongs: the piece, and the place in it. Of no use once another came or went.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Of(usize, usize),
    Before(usize, usize),
}

impl Members {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> + Clone {
        self.pieces.iter().flat_map(|piece| &piece.members)
    }

    /// The same, to be changed in all but their names.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.pieces.iter_mut().flat_map(|piece| &mut piece.members)
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&Member> {
        self.at(self.find(name))
    }

    pub(crate) fn get_mut(&mut self, name: &Name) -> Option<&mut Member> {
        self.at_mut(self.find(name))
    }

    /// The one that was found, if it was.
    pub(crate) fn at(&self, place: At) -> Option<&Member> {
        match place {
            At::Of(piece, place) => self.pieces.get(piece)?.members.get(place),
            At::Before(..) => None,
        }
    }

    /// The same, to be changed in all but its name.
    pub(crate) fn at_mut(&mut self, place: At) -> Option<&mut Member> {
        match place {
            At::Of(piece, place) => self.pieces.get_mut(piece)?.members.get_mut(place),
            At::Before(..) => None,
        }
    }

    /// Puts one in that comes after all that are there.
    pub(crate) fn push(&mut self, member: Member) {
        self.note(&member);
        debug_assert!(
            self.pieces
                .last()
                .and_then(|piece| piece.members.last())
                .is_none_or(|last| last.name() < member.name())
        );
        self.put(self.pieces.len().saturating_sub(1), usize::MAX, member);
    }

    /// Puts one where it belongs, or in the place of the one with its name.
    pub(crate) fn insert(&mut self, place: At, member: Member) {
        self.note(&member);
        match place {
            At::Of(piece, place) => self.pieces[piece].members[place] = member,
            At::Before(piece, place) => self.put(piece, place, member),
        }
    }

    /// Takes one out, if it was found.
    pub(crate) fn remove(&mut self, place: At) {
        let At::Of(at, place) = place else { return };
        let piece = &mut self.pieces[at].members;
        piece.remove(place);
        self.count -= 1;
        let left = piece.len();
        if left == 0 {
            self.pieces.remove(at);
            return;
        }
        let fits =
            |other: usize| self.pieces.get(other).is_some_and(|one| left + one.members.len() <= MOST / 2);
        let before = at.checked_sub(1);
        if let Some(at) = before.filter(|before| fits(*before)).or(fits(at + 1).then_some(at)) {
            let mut next = self.pieces.remove(at + 1);
            self.pieces[at].members.append(&mut next.members);
        }
    }

    /// Whether a version that is not the policy's target can be asked of any of them: such a one was stored before, be it as the
    /// one to go back to.
    pub(crate) fn may_be_asked(&self, version: &str) -> bool {
        self.versions.contains(version)
    }

    fn note(&mut self, member: &Member) {
        let held = member.held();
        for told in [&held.serve, &held.prefetch].into_iter().flatten() {
            if self.last_told.as_ref().is_some_and(|last| Arc::ptr_eq(last, told)) {
                continue;
            }
            let versions = std::iter::once(&told.version).chain(&told.previous);
            versions.for_each(|version| {
                if !self.versions.contains(version) {
                    self.versions.insert(Arc::clone(version));
                }
            });
            self.last_told = Some(Arc::clone(told));
        }
    }

    fn put(&mut self, piece: usize, place: usize, member: Member) {
        self.count += 1;
        let (at, place) = match self.pieces.get(piece).map(|piece| piece.members.len()) {
            Some(count) if count < MOST => (piece, place.min(count)),
            Some(count) => self.cut(piece, place.min(count)),
            None => {
                self.pieces.push(Piece { first: Name::clone(member.name()), members: Vec::new() });
                (piece, 0)
            }
        };
        let Some(piece) = self.pieces.get_mut(at) else { return };
        if place == 0 {
            piece.first = Name::clone(member.name());
        }
        piece.members.insert(place, member);
    }

    /// Makes room at this place of a full piece. Returns where that is then.
    fn cut(&mut self, at: usize, place: usize) -> (usize, usize) {
        let piece = &mut self.pieces[at];
        let mut members = Vec::with_capacity(MOST);
        // What comes in the order of names leaves full pieces behind.
        let keep = if place == MOST { MOST } else { MOST / 2 };
        members.extend(piece.members.drain(keep..));
        let first = members.first().map_or(&piece.first, Member::name);
        let next = Piece { first: Name::clone(first), members };
        self.pieces.insert(at + 1, next);
        if place < keep { (at, place) } else { (at + 1, place - keep) }
    }

    pub(crate) fn find(&self, name: &Name) -> At {
        let after = self.pieces.partition_point(|piece| piece.first <= *name);
        let at = after.saturating_sub(1);
        let members = self.pieces.get(at).map_or(&[][..], |piece| &piece.members);
        match members.binary_search_by(|member| member.name().cmp(name)) {
            Ok(place) => At::Of(at, place),
            Err(place) => At::Before(at, place),
        }
    }

    /// The selected ones that are not at rest, best first.
    pub(crate) fn busy(&self, busy: &Busy) -> Vec<&Member> {
        match busy {
            Busy::These(keys) if self.are_few(keys.len()) => {
                keys.iter().filter_map(|key| self.get(&key.name)).collect()
            }
            Busy::These(_) | Busy::Many(_) => ranked(self.iter().filter(|member| member.busy().is_some())),
        }
    }

    /// All selected ones, at rest or not, best first.
    pub(crate) fn selected(&self) -> Vec<&Member> {
        ranked(self.iter().filter(|member| member.is_selected()))
    }

    /// Does something with each of these, all of which are there.
    pub(crate) fn for_each<T>(&mut self, mut these: Vec<(Name, T)>, mut what: impl FnMut(&mut Member, T)) {
        if self.are_few(these.len()) {
            for (name, with) in these {
                if let Some(member) = self.get_mut(&name) {
                    what(member, with);
                }
            }
            return;
        }
        these.sort_by(|a, b| a.0.cmp(&b.0));
        let mut these = these.into_iter().peekable();
        for member in self.iter_mut() {
            if let Some((_, with)) = these.next_if(|(next, _)| next == member.name()) {
                what(member, with);
            }
        }
    }

    /// Whether so many are better looked up one by one than met in a walk over all.
    pub(crate) fn are_few(&self, count: usize) -> bool {
        count * 4 < self.count
    }
}

fn ranked<'a>(members: impl Iterator<Item = &'a Member>) -> Vec<&'a Member> {
    let mut ranked: Vec<&Member> = members.collect();
    // They come by name, and this sort leaves those that only differ in it as they are.
    ranked.sort_by_key(|member| member.rank().map(Key::before_the_name));
    ranked
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use serde_json::json;

    use super::*;
    use crate::{
        PolicyKey,
        input::{Assignment, Cluster, Policy, Spoke},
    };

    fn policy() -> Policy {
        let object = json!({"metadata": {"namespace": "n", "name": "p"}, "spec": {"model": {"name": "m", "version": "1"}}});
        let object = Arc::new(serde_json::from_value(object).unwrap());
        Policy::new(PolicyKey::of(&object), object)
    }

    fn member(policy: &Policy, number: u64) -> Member {
        asked(policy, number, &json!([]))
    }

    /// With entries of what it was told.
    fn asked(policy: &Policy, number: u64, told: &serde_json::Value) -> Member {
        let name = format!("c{number:04}");
        let entry = |told: &serde_json::Value| {
            let mut entry = json!({"namespace": "n", "policy": "p", "model": "m"});
            entry.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
            entry
        };
        let entries: Vec<_> = told.as_array().unwrap().iter().map(entry).collect();
        let assignment = json!({"metadata": {"name": name}, "spec": {"generation": 1, "entries": entries}});
        let assignment = Assignment::new(Arc::new(serde_json::from_value(assignment).unwrap()), None);
        let object = json!({"metadata": {"name": name}, "spec": {"accepted": true}});
        let cluster = Arc::new(Cluster::new(&name, Arc::new(serde_json::from_value(object).unwrap())));
        Member::of(policy, None, &Spoke { cluster, assignment: Arc::new(assignment) }).unwrap()
    }

    #[test]
    fn what_is_stored_can_be_asked_be_it_to_go_back_to() {
        let policy = policy();
        let first = json!([{"version": "1", "action": "Prefetch"}, {"version": "3", "previousVersion": "2", "action": "Serve"}]);
        let second = json!([{"version": "5", "previousVersion": "4", "action": "Serve"}]);
        let mut members = Members::default();
        members.push(asked(&policy, 0, &first));
        for (version, may) in [("1", true), ("2", true), ("3", true), ("4", false), ("5", false)] {
            assert_eq!(members.may_be_asked(version), may, "{version}");
        }
        let place = members.find(&Name::from("c0000"));
        members.insert(place, asked(&policy, 0, &second));
        for version in ["1", "2", "3", "4", "5"] {
            assert!(members.may_be_asked(version), "{version}");
        }
        assert!(!members.may_be_asked("6"));
    }

    #[test]
    fn members_are_those_of_a_sorted_map() {
        let policy = policy();
        let all: Vec<Name> = (0..512).map(|number| Name::clone(member(&policy, number).name())).collect();
        let (mut members, mut there) = (Members::default(), BTreeSet::new());
        for number in (0..512).step_by(2) {
            members.push(member(&policy, number));
            there.insert(Name::clone(&all[number as usize]));
        }
        assert_eq!(members.pieces.len(), 256 / MOST, "what comes in its order leaves full pieces");
        let mut number: u64 = 1;
        for round in 0..6_000 {
            // A full cycle of numbers below 2^9, so that each comes and goes.
            number = (number * 397 + 12_345) % 512;
            let name = &all[number as usize];
            // They become fewer and fewer, and more again.
            if (round % 3 == 0) == (round / 2_000 == 1) {
                members.insert(members.find(name), member(&policy, number));
                there.insert(Name::clone(name));
            } else {
                members.remove(members.find(name));
                there.remove(name);
            }
            assert_eq!(members.count(), there.len());
            assert_eq!(members.get(name).map(Member::name), there.get(name));
            if round % 97 == 0 {
                assert!(members.iter().map(Member::name).eq(&there));
                assert!(
                    members.iter_mut().map(|member| Name::clone(member.name())).eq(there.iter().cloned())
                );
                for name in &all {
                    assert_eq!(
                        members.get_mut(name).map(|member| Name::clone(member.name())),
                        there.get(name).cloned()
                    );
                }
                assert!(members.pieces.iter().all(|piece| (1..=MOST).contains(&piece.members.len())));
                let sizes: Vec<usize> = members.pieces.iter().map(|piece| piece.members.len()).collect();
                let two_are_small = sizes.windows(2).any(|two| two[0] + two[1] <= MOST / 2);
                assert!(!two_are_small, "pieces that become small become one: {sizes:?}");
            }
        }
        for name in &all {
            members.remove(members.find(name));
        }
        assert_eq!((members.count(), members.pieces.len()), (0, 0));
    }

    #[test]
    fn whoever_is_there_is_met_however_many_they_are() {
        let policy = policy();
        let mut members = Members::default();
        (0..40).for_each(|number| members.push(member(&policy, number)));
        let names: Vec<Name> = members.iter().map(|member| Name::clone(member.name())).collect();
        for count in [1, 9, 10, 40] {
            let these =
                names.iter().take(count).enumerate().rev().map(|(number, name)| (Name::clone(name), number));
            let mut met = Vec::new();
            members
                .for_each(these.collect(), |member, number| met.push((Name::clone(member.name()), number)));
            met.sort();
            assert!(met.iter().map(|(name, number)| (name, *number)).eq(names.iter().take(count).zip(0..)));
        }
    }
}
