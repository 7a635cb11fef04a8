//! Which cluster's status is looked at when: soon after a change, never more often than the floor, never twice at a time,
//! and again after a failure. No I/O; the time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
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

/// The schedule. It holds what is due or was written a moment ago, not the fleet, and each call costs what it names: a
/// whole fleet is due at once after a hub's start.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeMap<ClusterName, Instant>,
    /// What is due and does not run, the earliest first.
    queue: BTreeSet<(Instant, ClusterName)>,
    written: BTreeMap<ClusterName, Instant>,
    /// What was written, the first first.
    expiring: VecDeque<(Instant, ClusterName)>,
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
        match self.due.get_mut(cluster) {
            Some(due) if *due <= at => return,
            Some(due) => {
                self.queue.remove(&(*due, cluster.clone()));
                *due = at;
            }
            None => {
                self.due.insert(cluster.clone(), at);
            }
        }
        if !self.running.contains(cluster) {
            self.queue.insert((at, cluster.clone()));
        }
    }

    /// What is due, marked as running. One that is running already waits for its end.
    pub(super) fn take(&mut self, now: Instant) -> Vec<ClusterName> {
        let mut taken = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, name)) = self.queue.pop_first() else { break };
            self.due.remove(&name);
            self.running.insert(name.clone());
            taken.push(name);
        }
        self.forget_written(now);
        taken
    }

    /// A look at a cluster ended.
    pub(super) fn ended(&mut self, cluster: &ClusterName, how: Ended, now: Instant) {
        self.running.remove(cluster);
        if let Some(at) = self.due.get(cluster) {
            self.queue.insert((*at, cluster.clone()));
        }
        match how {
            Ended::Unchanged => {
                self.failures.remove(cluster);
            }
            Ended::Written => {
                self.failures.remove(cluster);
                self.written.insert(cluster.clone(), now);
                self.expiring.push_back((now, cluster.clone()));
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
        self.queue.first().map(|(at, _)| *at)
    }

    /// Whether something could not be written when it was looked at last.
    pub(super) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Everything that is due at any time is due now: the hub stops.
    pub(super) fn hurry(&mut self, now: Instant) {
        for name in self.due.keys().cloned().collect::<Vec<_>>() {
            self.mark_at(&name, now);
        }
    }

    /// Forgets writes that no longer hold anything up. One that was written again since is in the queue twice.
    fn forget_written(&mut self, now: Instant) {
        while self.expiring.front().is_some_and(|(at, _)| *at + FLOOR <= now) {
            let Some((at, name)) = self.expiring.pop_front() else { break };
            if self.written.get(&name) == Some(&at) {
                self.written.remove(&name);
            }
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
