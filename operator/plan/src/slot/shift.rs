//! Shift: the place of one cluster that changed, and what that change leaves others.

use super::{Slot, keep::let_rest};
use crate::{
    Name,
    input::Policy,
    members::At,
    placement::{Asked, Field, Member, Others, Place, Placing, as_dropped, place_alone, places_one_by_one},
};

impl Slot {
    /// The place of one cluster, and what that leaves others; None where all have to be placed.
    pub(super) fn place_one(&mut self, at: At, new: Option<&Member>) -> Option<Placing> {
        let version = self.version.as_deref();
        if places_one_by_one(&self.policy) {
            let placed = new.map(|new| place_alone(&self.policy, version, new));
            return Some(Placing { placed, others: Others::new(), rescaled: false });
        }
        if self.places_all() {
            return None;
        }
        let field = self.field.take().or_else(|| Field::of(&self.policy, self.members.iter()));
        let mut field = field?;
        let placing = field.place(&self.policy, version, self.members.at(at), new).ok()?;
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

    /// Ranks anew those who may be told next, where another's change moved what scores are measured by. In which order the
    /// others are nobody asks, until they change.
    pub(super) fn rekey(&mut self) {
        let Some(field) = &self.field else { return };
        self.rescaled = true;
        let at_rest = &self.tally.at_rest;
        let busy = self.members.busy(&self.tally.busy).into_iter().map(Member::name);
        let in_order: Vec<Name> =
            busy.chain(at_rest.waiting()).chain(at_rest.unstaged()).map(Name::clone).collect();
        for name in in_order {
            let Some(member) = self.members.get_mut(&name) else { continue };
            let key = field.key(&self.policy, member);
            if member.rank() != Some(&key) {
                self.tally.take(&self.policy, member);
                member.place = Place::Selected(key);
                self.tally.add(&self.policy, member);
            }
        }
    }
}

/// Gives one its rank by the scales of now. Its place among others may not be counted meanwhile.
pub(super) fn rank_anew(policy: &Policy, field: Option<&Field>, member: &mut Member) {
    if let Some(field) = field.filter(|_| member.is_selected()) {
        member.place = Place::Selected(field.key(policy, member));
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
    use crate::input::{Catalogue, Spoke};

    #[test]
    fn a_value_beyond_all_others_places_nobody_anew_but_those_that_it_moves() {
        let of_two = |spread: Value, more: Value| {
            let mut placement = json!({"numberOfClusters": 2, "spread": spread, "prioritizers": [{"by": "StorageAvailable"}]});
            placement["prioritizers"].as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
            placement
        };
        let room = |more: Value| of_two(json!([]), more);
        let spread = |more: Value| of_two(json!([{"topologyKey": "region", "maxSkew": 2}]), more);
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
            (spread(json!([])), 0, ["c3", "c5"]),
            (spread(json!([])), 1, ["c1", "c3"]),
            (spread(json!([{"by": "Steady", "weight": 5}])), 2, ["c1", "c2"]),
            (spread(json!([{"by": "Steady", "weight": -1}])), 2, ["c3", "c5"]),
        ] {
            let mut slot = decided(&placement, chosen);
            slot.cluster_changed(&Name::from("c3"), Some(&spoke(3, 900, false)));
            assert_eq!((selected(&slot), slot.again), (after.to_vec(), Again::Rollout), "{placement}");
            slot.cluster_changed(&Name::from("c3"), Some(&spoke(3, 5, false)));
            assert_eq!(slot.again, Again::Rollout, "{placement}");
        }
    }

    #[test]
    fn one_that_was_dropped_for_the_number_has_a_place_again_before_others() {
        let placement = json!({"numberOfClusters": 3, "spread": [{"topologyKey": "region"}]});
        let mut slot = decided(&placement, 3);
        let mut next = |number: u64, spoke: Option<&Spoke>, after: [&str; 3]| {
            slot.cluster_changed(&Name::from(format!("c{number}")), spoke);
            assert_eq!(slot.again, Again::Placement);
            slot.decide(&Catalogue::default(), Timestamp::UNIX_EPOCH, false);
            assert_eq!(selected(&slot), after);
        };
        // It has an entry, as if the number had been greater.
        next(5, Some(&spoke(5, 50, true)), ["c1", "c2", "c3"]);
        next(1, None, ["c2", "c3", "c5"]);
    }

    #[test]
    fn who_is_first_on_the_new_scale_is_picked() {
        let placement = json!({"numberOfClusters": 1, "spread": [{"topologyKey": "region"}],
            "prioritizers": [{"by": "Label", "key": "load"}, {"by": "StorageAvailable", "weight": -2}]});
        let mut slot = decided_of(3, &placement, 0);
        assert_eq!(selected(&slot), ["c1"], "it has the least load, and the least room, which counts double");
        // Where one has far more room, what little the others have makes no difference between them.
        slot.cluster_changed(&Name::from("c3"), Some(&spoke(3, 1000, false)));
        assert_eq!((selected(&slot), slot.again), (vec!["c2"], Again::Rollout));
    }

    #[test]
    fn with_too_many_picked_under_a_spread_all_are_placed_together() {
        let best = |number| json!({"numberOfClusters": number, "spread": [{"topologyKey": "region"}]});
        for (count, number, again) in [
            (200, 128, Again::Rollout),
            (200, 129, Again::Placement),
            (1041, 130, Again::Rollout),
            (1041, 131, Again::Placement),
        ] {
            let mut slot = decided_of(count, &best(number), 0);
            slot.cluster_changed(&Name::from("c1"), None);
            assert_eq!(slot.again, again, "{number} of {count}");
        }
        // Those told are not picked anew.
        let mut slot = decided_of(200, &best(150), 60);
        slot.cluster_changed(&Name::from("c1"), None);
        assert_eq!((selected(&slot).len(), slot.again), (150, Again::Rollout));
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
    fn values_that_make_too_many_bands_are_ranked_by_their_scores() {
        let placement = |spread: Value, by: Value| json!({"numberOfClusters": 2, "spread": spread, "prioritizers": [by, {"by": "StorageAvailable"}]});
        let (nothing, region) = (json!([]), json!([{"topologyKey": "region"}]));
        let (load, steady) = (json!({"by": "Label", "key": "load"}), json!({"by": "Steady"}));
        for (count, placement, again) in [
            (255, placement(nothing.clone(), load.clone()), Again::Rollout),
            (256, placement(nothing.clone(), load.clone()), Again::Placement),
            (300, placement(nothing.clone(), load.clone()), Again::Placement),
            (300, placement(nothing, steady.clone()), Again::Rollout),
            // Of those that are selected nobody waits.
            (1025, placement(region.clone(), load.clone()), Again::Rollout),
            (1026, placement(region.clone(), load.clone()), Again::Placement),
            (1100, placement(region.clone(), load), Again::Placement),
            (1100, placement(region, steady), Again::Rollout),
        ] {
            let mut slot = decided_of(count, &placement, 0);
            // The scales' ends are others now.
            slot.cluster_changed(&Name::from("c2000"), Some(&spoke(2000, 1, false)));
            assert_eq!(slot.again, again, "{count}: {placement}");
            slot.decide(&Catalogue::default(), Timestamp::UNIX_EPOCH, false);
            slot.cluster_changed(&Name::from("c7"), Some(&spoke(7, 75, false)));
            assert_eq!(slot.again, Again::Rollout, "{count}: {placement}");
        }
    }
}
