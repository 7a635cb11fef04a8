//! Shift: the place of one cluster that changed, and what that change leaves others.

use super::{Slot, keep::let_rest};
use crate::{
    Name,
    placement::{
        Asked, Field, Kind, Member, Others, Place, Placing, as_dropped, place_alone, places_one_by_one,
    },
};

impl Slot {
    /// The place of one cluster, and what that leaves others; None where all have to be placed.
    pub(super) fn place_one(&mut self, name: &Name, new: Option<&Member>) -> Option<Placing> {
        let version = self.version.as_deref();
        if places_one_by_one(&self.policy) {
            let placed = new.map(|new| place_alone(&self.policy, version, new));
            return Some(Placing { placed, others: Others::new(), rescaled: false });
        }
        if self.places_all() {
            return None;
        }
        let field = self.field.take().or_else(|| Field::of(&self.policy, self.members.values()));
        let mut field = field?;
        let placing = field.place(&self.policy, version, self.members.get(name), new).ok()?;
        self.field = Some(field);
        Some(placing)
    }

    /// Gives a cluster the place that another's change leaves it.
    pub(super) fn shift(&mut self, name: &Name, place: Place) {
        let Some(member) = self.members.get_mut(name) else { return };
        self.tally.take(&self.policy, member);
        let place = as_dropped(&self.policy, self.version.as_deref(), member, place);
        member.decide(place, &mut self.moved);
        member.rest = None;
        if !member.is_selected() {
            member.ask(Asked::Nothing, &mut self.moved);
        }
        let_rest(&self.policy, self.version.as_deref(), self.now, member);
        if member.rest.is_some() {
            // One that was dropped, and is back before its entry was gone.
            self.moved.asked.push(Name::clone(name));
        }
        self.tally.add(&self.policy, member);
    }

    /// Ranks the selected ones anew, where another's change moved what scores are measured by.
    pub(super) fn rekey(&mut self) {
        let Some(field) = &self.field else { return };
        for name in field.rescaled() {
            let Some(member) = self.members.get_mut(&name) else { continue };
            let key = field.key(&self.policy, member);
            if member.rank() == Some(&key) {
                continue;
            }
            // Of the others at rest nobody asks in which order they are.
            let in_order = member.rest.is_none_or(|rest| rest.kind == Kind::Waiting);
            if in_order {
                self.tally.take(&self.policy, member);
            }
            member.place = Place::Selected(key);
            if in_order {
                self.tally.add(&self.policy, member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{
        super::{
            Again,
            staged::{decided, decided_of, selected, spoke},
        },
        *,
    };
    use crate::input::Catalogue;

    #[test]
    fn a_value_beyond_all_others_places_nobody_anew_but_those_that_it_moves() {
        let room = |more: Value| {
            let mut placement = json!({"numberOfClusters": 2, "prioritizers": [{"by": "StorageAvailable"}]});
            placement["prioritizers"].as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
            placement
        };
        for (placement, chosen, after) in [
            (room(json!([])), 2, ["c1", "c2"]),
            (room(json!([])), 0, ["c3", "c5"]),
            (room(json!([{"by": "Steady", "weight": 5}])), 2, ["c1", "c2"]),
            // c1 and c2 were dropped for c4 and c5 until then.
            (room(json!([{"by": "Steady", "weight": -1}])), 2, ["c3", "c5"]),
            (
                room(json!([{"by": "Label", "key": "k"}, {"by": "AcceleratorMemory", "weight": -3}])),
                0,
                ["c3", "c5"],
            ),
        ] {
            let mut slot = decided(&placement, chosen);
            slot.cluster_changed(&Name::from("c3"), Some(&spoke(3, 900, false)));
            assert_eq!((selected(&slot), slot.again), (after.to_vec(), Again::Rollout), "{placement}");
            slot.cluster_changed(&Name::from("c3"), Some(&spoke(3, 5, false)));
            assert_eq!(slot.again, Again::Rollout, "{placement}");
        }
    }

    #[test]
    fn what_too_much_depends_on_is_placed_together() {
        let spread = json!({"numberOfClusters": 2, "spread": [{"topologyKey": "region", "maxSkew": 2}],
            "prioritizers": [{"by": "StorageAvailable"}]});
        let mut slot = decided(&spread, 0);
        slot.cluster_changed(&Name::from("c3"), Some(&spoke(3, 900, false)));
        assert_eq!(slot.again, Again::Placement);
    }

    #[test]
    fn values_too_far_apart_to_be_told_apart_are_ranked_by_their_scores() {
        let far = 900_000_000_000_000_000;
        let by_load = json!({"numberOfClusters": 2, "prioritizers": [{"by": "Label", "key": "load"}]});
        let mut slot = decided(&by_load, 0);
        slot.cluster_changed(&Name::from(format!("c{far}")), Some(&spoke(far, 1, false)));
        assert_eq!(slot.again, Again::Placement);
        slot.decide(&Catalogue::default(), Timestamp::UNIX_EPOCH, false);
        slot.cluster_changed(&Name::from("c7"), Some(&spoke(7, 1, false)));
        assert_eq!(slot.again, Again::Rollout);
    }

    #[test]
    fn two_values_that_tell_all_apart_make_too_many_bands() {
        let placement =
            |by: Value| json!({"numberOfClusters": 2, "prioritizers": [by, {"by": "StorageAvailable"}]});
        let both = placement(json!({"by": "Label", "key": "load"}));
        for (count, by, again) in [
            (255, &both, Again::Rollout),
            (256, &both, Again::Placement),
            (300, &both, Again::Placement),
            (300, &placement(json!({"by": "Steady"})), Again::Rollout),
        ] {
            let mut slot = decided_of(count, by, 0);
            slot.cluster_changed(&Name::from("c1000"), Some(&spoke(1000, 1, false)));
            assert_eq!(slot.again, again, "{count}: {by}");
        }
    }
}
