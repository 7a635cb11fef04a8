//! Some of a policy's clusters: a few are looked up one by one, more are met in one walk over all.

use std::collections::BTreeMap;

use crate::{
    Name,
    placement::{Key, Member},
    tally::Tally,
};

/// The selected ones that are not at rest, best first.
pub(crate) fn busy<'a>(members: &'a BTreeMap<Name, Member>, tally: &Tally) -> Vec<&'a Member> {
    if are_few(tally.busy.len(), members) {
        return tally.busy.iter().filter_map(|key| members.get(&key.name)).collect();
    }
    ranked(members.values().filter_map(|member| Some((member.busy()?, member))))
}

/// All selected ones, at rest or not, best first.
pub(crate) fn selected(members: &BTreeMap<Name, Member>) -> Vec<&Member> {
    ranked(members.values().filter_map(|member| Some((member.rank()?, member))))
}

fn ranked<'a>(members: impl Iterator<Item = (&'a Key, &'a Member)>) -> Vec<&'a Member> {
    let mut ranked: Vec<(&Key, &Member)> = members.collect();
    ranked.sort_by_key(|(key, _)| *key);
    ranked.into_iter().map(|(_, member)| member).collect()
}

/// Does something with each of those that are there.
pub(crate) fn for_each<T>(
    members: &mut BTreeMap<Name, Member>,
    mut these: Vec<(Name, T)>,
    mut what: impl FnMut(&mut Member, T),
) {
    if are_few(these.len(), members) {
        for (name, with) in these {
            if let Some(member) = members.get_mut(&name) {
                what(member, with);
            }
        }
        return;
    }
    these.sort_by(|a, b| a.0.cmp(&b.0));
    let mut these = these.into_iter().peekable();
    for (name, member) in members {
        if let Some((_, with)) = these.next_if(|(next, _)| next == name) {
            what(member, with);
        }
    }
}

fn are_few(count: usize, members: &BTreeMap<Name, Member>) -> bool {
    count * 4 < members.len()
}
