//! Which cluster's status is looked at when: soon after a change, never more often than the floor, never twice at a time,
//! and again after a failure. No I/O; the time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nave_names::ClusterName;
use tokio::time::Instant;

/// Changes that come together are written together. A rollout waits for these writes, so it is short.
const GATHER: Duration = Duration::from_millis(50);
/// A spoke that flaps or chatters costs at most two writes a second for each of its objects.
const FLOOR: Duration = Duration::from_millis(500);
/// After a failed write, doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How a look at a cluster ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing differed, nothing was written.
    Unchanged,
    /// It was written.
    Written,
    /// It could not be: again later.
    Failed,
}

/// The schedule. It holds what is due or was written a moment ago, not the fleet.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeMap<ClusterName, Instant>,
    written: BTreeMap<ClusterName, Instant>,
    running: BTreeSet<ClusterName>,
    failures: BTreeMap<ClusterName, u32>,
}

impl Schedule {
    /// Something changed.
    pub(super) fn mark(&mut self, cluster: &ClusterName, now: Instant) {
        let earliest = self.written.get(cluster).map_or(now, |at| *at + FLOOR).max(now + GATHER);
        self.mark_at(cluster, earliest);
    }

    /// Something will have to be looked at then.
    pub(super) fn mark_at(&mut self, cluster: &ClusterName, at: Instant) {
        let due = self.due.entry(cluster.clone()).or_insert(at);
        *due = (*due).min(at);
    }

    /// What is due, marked as running. One that is running already waits for its end.
    pub(super) fn take(&mut self, now: Instant) -> Vec<ClusterName> {
        let due = self.due.iter().filter(|(name, at)| **at <= now && !self.running.contains(*name));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in &due {
            self.due.remove(name);
            self.running.insert(name.clone());
        }
        self.written.retain(|_, at| *at + FLOOR > now);
        due
    }

    /// A look at a cluster ended.
    pub(super) fn ended(&mut self, cluster: &ClusterName, how: Ended, now: Instant) {
        self.running.remove(cluster);
        match how {
            Ended::Unchanged => {
                self.failures.remove(cluster);
            }
            Ended::Written => {
                self.failures.remove(cluster);
                self.written.insert(cluster.clone(), now);
            }
            Ended::Failed => {
                let failures = self.failures.entry(cluster.clone()).or_insert(0);
                let wait = FIRST_RETRY.saturating_mul(1 << (*failures).min(7)).min(LAST_RETRY);
                *failures += 1;
                self.mark_at(cluster, now + wait);
            }
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.iter().filter(|(name, _)| !self.running.contains(*name)).map(|(_, at)| *at).min()
    }

    /// Whether something could not be written when it was looked at last.
    pub(super) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Everything that is due at any time is due now: the hub stops.
    pub(super) fn hurry(&mut self, now: Instant) {
        for at in self.due.values_mut() {
            *at = (*at).min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ClusterName {
        ClusterName::new("a").unwrap()
    }

    #[test]
    fn changes_are_gathered_and_writes_are_spaced() {
        let mut schedule = Schedule::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        schedule.mark(&name(), start);
        schedule.mark(&name(), at(20));
        assert!(schedule.take(at(49)).is_empty());
        assert_eq!(schedule.take(at(50)), [name()]);
        schedule.mark(&name(), at(60));
        assert!(schedule.take(at(200)).is_empty(), "not twice at a time");
        schedule.ended(&name(), Ended::Written, at(210));
        assert_eq!(schedule.take(at(210)), [name()], "what came meanwhile was due already");
        schedule.ended(&name(), Ended::Written, at(220));
        schedule.mark(&name(), at(230));
        assert_eq!(schedule.next(), Some(at(720)), "half a second after the last write");
    }

    #[test]
    fn failures_are_tried_again_ever_later_and_nothing_is_forgotten() {
        let mut schedule = Schedule::default();
        let mut now = Instant::now();
        schedule.mark(&name(), now);
        now += GATHER;
        for wait in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            assert_eq!(schedule.take(now), [name()]);
            schedule.ended(&name(), Ended::Failed, now);
            assert_eq!(schedule.next(), Some(now + Duration::from_millis(wait)));
            now += Duration::from_millis(wait);
        }
        assert!(schedule.has_failures());
        schedule.take(now);
        schedule.ended(&name(), Ended::Unchanged, now);
        assert!(!schedule.has_failures() && schedule.next().is_none());
    }
}
