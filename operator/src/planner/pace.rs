//! How often a status is written. What a rollout needs to know is written at once; counts that change with each report
//! of each spoke are written at most once a second for each object, the last state always. Pure.

use std::{collections::BTreeMap, time::Duration};

use nave_crds::{PlacementPolicyStatus, view::conditions};
use tokio::time::Instant;

/// Between two writes of one object's counts: people and dashboards do not look more often, and 1,000 spokes that
/// report cost one write a second and not 1,000.
pub const LEAST_BETWEEN: Duration = Duration::from_secs(1);

/// Whether anything but counts and their wording differs: the run, the step, a condition's status or reason.
pub fn is_material(stored: Option<&PlacementPolicyStatus>, new: &PlacementPolicyStatus) -> bool {
    let Some(stored) = stored else { return true };
    let same_conditions = stored.conditions.len() == new.conditions.len()
        && new.conditions.iter().all(|condition| {
            conditions::find(&stored.conditions, &condition.type_)
                .is_some_and(|old| old.status == condition.status && old.reason == condition.reason)
        });
    !same_conditions
        || stored.run != new.run
        || stored.step != new.step
        || stored.target_version != new.target_version
        || stored.previous_version != new.previous_version
        || stored.observed_generation != new.observed_generation
}

/// Whether the run itself is another: then the status has to be stored before anything is told, so that a hub that
/// starts in between knows which run it is in.
pub fn starts_something(stored: Option<&PlacementPolicyStatus>, new: &PlacementPolicyStatus) -> bool {
    stored.map(|status| &status.run) != Some(&new.run)
}

/// When each object was written last.
#[derive(Debug)]
pub struct Pace<K> {
    last: BTreeMap<K, Instant>,
}

impl<K: Ord + Clone> Pace<K> {
    /// Nothing was written yet.
    pub fn new() -> Self {
        Self { last: BTreeMap::new() }
    }

    /// When the object may be written next; nothing = now.
    pub fn wait_until(&self, key: &K, now: Instant) -> Option<Instant> {
        let next = *self.last.get(key)? + LEAST_BETWEEN;
        (next > now).then_some(next)
    }

    /// It was written now.
    pub fn wrote(&mut self, key: &K, now: Instant) {
        // Old entries say no more than missing ones; a sweep now and then keeps the map as small as what is busy.
        if self.last.len() >= 1024 {
            self.last.retain(|_, at| now.duration_since(*at) < LEAST_BETWEEN);
        }
        self.last.insert(key.clone(), now);
    }
}

impl<K: Ord + Clone> Default for Pace<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use nave_crds::ClusterCounts;

    use super::*;

    #[test]
    fn counts_wait_their_turn_and_a_step_does_not() {
        let status = |serving, target: &str| PlacementPolicyStatus {
            clusters: Some(ClusterCounts { serving, ..ClusterCounts::default() }),
            target_version: Some(target.to_owned()),
            ..PlacementPolicyStatus::default()
        };
        assert!(!is_material(Some(&status(1, "1.0")), &status(2, "1.0")));
        assert!(is_material(Some(&status(1, "1.0")), &status(1, "1.1")));
        assert!(is_material(None, &status(1, "1.0")));
    }

    #[test]
    fn an_object_is_written_once_in_a_while() {
        let mut pace = Pace::new();
        let now = Instant::now();
        assert_eq!(pace.wait_until(&"a", now), None);
        pace.wrote(&"a", now);
        assert_eq!(pace.wait_until(&"a", now), Some(now + LEAST_BETWEEN));
        assert_eq!(pace.wait_until(&"b", now), None);
        assert_eq!(pace.wait_until(&"a", now + LEAST_BETWEEN), None);
    }
}
