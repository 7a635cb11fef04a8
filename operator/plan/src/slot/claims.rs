//! Claims: whom a policy has, and what it means for it that policies before it have others than before.

use std::{collections::BTreeMap, sync::Arc};

use super::{Again, Slot};
use crate::{
    Name,
    placement::{Member, Winner},
};

impl Slot {
    /// Its hold on one cluster, as those after it see it.
    pub(crate) fn claim(&self, name: &Name) -> Option<Arc<Winner>> {
        Some(self.as_winner(self.members.get(name)?.claim()?))
    }

    /// The same of all that it has.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (Name, Arc<Winner>)> {
        let claim = |member: &Member| Some((Arc::clone(member.name()), self.as_winner(member.claim()?)));
        self.members.iter().filter_map(claim)
    }

    fn as_winner(&self, serves: bool) -> Arc<Winner> {
        Arc::clone(if serves { &self.serves } else { &self.has })
    }

    /// Clusters that are new to it, so that nobody asked yet who has them.
    pub(crate) fn take_unasked(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.unasked)
    }

    /// Of these clusters policies before it may have others than before.
    pub(crate) fn holders_changed(&mut self, mut holders: Vec<(&Name, Option<&Arc<Winner>>)>) {
        holders.retain(|(name, winner)| {
            self.members.get(name).is_some_and(|member| member.winner.as_ref() != *winner)
        });
        if holders.len() > self.most_one_by_one() {
            self.again = Again::Placement;
            return;
        }
        for (name, winner) in holders {
            let Some(spoke) = self.members.get(name).map(|member| member.spoke.clone()) else { continue };
            let mut new = Member::of(&self.policy, self.version.as_deref(), &spoke);
            if let Some(new) = &mut new {
                new.winner = winner.cloned();
                self.loses |= winner.is_some();
            }
            self.put(self.members.find(name), name, new);
            self.moved.asked.push(Arc::clone(name));
        }
    }

    /// Takes over what policies before it have, before all are placed anew.
    pub(crate) fn set_winners(&mut self, winners: &BTreeMap<Name, Arc<Winner>>) {
        if winners.is_empty() && !self.loses {
            return;
        }
        self.loses = !winners.is_empty();
        let mut winners = winners.iter().peekable();
        for member in self.members.iter_mut() {
            let name = member.name();
            while winners.next_if(|(next, _)| *next < name).is_some() {}
            member.winner = winners.next_if(|(next, _)| *next == name).map(|(_, winner)| winner.clone());
        }
    }

    /// Beyond so many, to place all together is less work.
    fn most_one_by_one(&self) -> usize {
        8.max(self.members.count() / 64)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::{
        super::staged::{decided_of, selected, spoke},
        *,
    };
    use crate::{input::Catalogue, tally::Busy};

    #[test]
    fn whom_another_policy_takes_or_leaves_is_placed_by_itself() {
        let best = json!({"numberOfClusters": 2, "prioritizers": [{"by": "StorageAvailable"}]});
        for (placement, with_all, without_the_last) in [
            (best, vec!["c4", "c5"], vec!["c3", "c4"]),
            (json!({}), vec!["c1", "c2", "c3", "c4", "c5"], vec!["c1", "c2", "c3", "c4"]),
        ] {
            let mut slot = decided_of(5, &placement, 0);
            let (name, winner) = (Name::from("c5"), slot.as_winner(false));
            slot.holders_changed(vec![(&name, Some(&winner))]);
            assert_eq!((selected(&slot), slot.again), (without_the_last, Again::Rollout), "{placement}");
            assert!(slot.moved.asked.contains(&name), "what is asked of it is put together anew");
            slot.cluster_changed(&name, Some(&spoke(5, 70, false)));
            assert!(!selected(&slot).contains(&"c5"), "a cluster that changes is another's as before");
            slot.holders_changed(vec![(&name, None)]);
            assert_eq!((selected(&slot), slot.again), (with_all, Again::Rollout), "{placement}");
        }
    }

    #[test]
    fn once_few_are_left_they_are_known_one_by_one() {
        let mut slot = decided_of(10, &json!({}), 0);
        assert!(matches!(slot.tally.busy, Busy::Many(10)));
        let names: Vec<Name> = (1..=8).map(|number| Name::from(format!("c{number}"))).collect();
        let winner = slot.as_winner(false);
        let mut take = |names: &[Name], winner: Option<&Arc<Winner>>| {
            slot.holders_changed(names.iter().map(|name| (name, winner)).collect());
            slot.decide(&Catalogue::default(), Timestamp::UNIX_EPOCH, false);
            let busy =
                slot.members.busy(&slot.tally.busy).into_iter().map(|member| member.name().to_string());
            (matches!(slot.tally.busy, Busy::Many(_)), busy.collect::<Vec<_>>())
        };
        assert_eq!(take(&names[..7], Some(&winner)), (true, vec!["c10".into(), "c8".into(), "c9".into()]));
        assert_eq!(take(&names[7..], Some(&winner)), (false, vec!["c10".into(), "c9".into()]));
        assert_eq!(take(&names[..1], None), (false, vec!["c1".into(), "c10".into(), "c9".into()]));
    }

    #[test]
    fn of_many_that_others_take_all_are_placed_together() {
        for (count, taken, again) in
            [(20, 8, Again::Rollout), (20, 9, Again::Placement), (640, 10, Again::Rollout)]
        {
            let mut slot = decided_of(count, &json!({}), 0);
            let names: Vec<Name> = (1..=taken).map(|number| Name::from(format!("c{number}"))).collect();
            let winner = slot.as_winner(true);
            slot.holders_changed(names.iter().map(|name| (name, Some(&winner))).collect());
            assert_eq!(slot.again, again, "{taken} of {count}");
        }
    }
}
