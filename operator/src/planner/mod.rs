//! The planner's shell, on the leader only: waits for a change or for the time that the last plan named, plans on one
//! consistent snapshot, writes what differs. It decides nothing about the fleet; that is nave-operator-plan.

pub mod apply;
pub mod counts;
pub mod events;
pub mod observed;
pub mod pace;
pub mod unreadable;
pub mod writes;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use nave_crds::PlacementPolicyStatus;
use nave_operator_plan::{Decisions, PolicyKey};
use tokio::{sync::broadcast, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    apply::{Applier, Fence},
    counts::{VersionCounts, VersionName},
    events::Events,
    observed::Observed,
    pace::{Pace, is_material, starts_something},
    writes::{AssignmentWrite, assignment_write},
};
use crate::{
    leader::Leadership,
    metrics::Metrics,
    precedence::Precedence,
    watch::{Change, Kind, World},
};

/// How long changes are gathered after the first one: `kubectl apply` of several objects, or a burst of reports, is one
/// plan. A tenth of what the latency aim (0.2 s for 100 clusters) allows.
const DEBOUNCE: Duration = Duration::from_millis(15);
/// First and longest wait before a round that failed is repeated.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Requests in flight at once. Measured with the API server on the same two cores, 1,000 assignments: 0.64 s to create
/// and 0.87 s to patch with 16, 0.81 s and 0.98 s with 64. (Server-side apply took 0.91 to 1.24 s, a merge patch 0.74 to
/// 0.98 s, a replacement 0.74 to 0.94 s.)
const WRITES_AT_ONCE: usize = 16;

/// A planned time is wall-clock time, and clocks are set: never sleep so long that a step of the clock is slept over.
/// A look costs memory accesses, and no request when nothing is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

/// What a term of leadership plans with.
#[derive(Debug)]
pub struct Term {
    /// What to plan on.
    pub world: World,
    /// The fence.
    pub leadership: Leadership,
    /// Who says so, in Events.
    pub instance: String,
    /// How long the leadership's Lease lasts.
    pub lease_duration: Duration,
    /// Whose writes go first.
    pub precedence: Precedence,
    /// What to count.
    pub metrics: Metrics,
}

impl Term {
    /// Plans until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let changes = self.world.changes.subscribe();
        if stop.run_until_cancelled(self.world.all_synced()).await.is_some_and(|synced| synced.is_ok()) {
            Planner::new(self).run(changes, stop).await;
        }
    }
}

/// What a term of leadership keeps between rounds. Nothing of it is needed by the next leader.
struct Planner {
    applier: Applier,
    events: Events,
    observed: Observed,
    counts: VersionCounts,
    stale_counts: BTreeSet<VersionName>,
    policy_pace: Pace<PolicyKey>,
    version_pace: Pace<VersionName>,
    failures: u32,
    precedence: Precedence,
    metrics: Metrics,
}

type Statuses = Vec<(PolicyKey, PlacementPolicyStatus)>;

/// A plan's statuses by when they are written.
#[derive(Default)]
struct Paced {
    /// Before anything is told.
    first: Statuses,
    /// With the assignments.
    then: Statuses,
    /// Not in this round; when the next may be.
    again_at: Option<Instant>,
}

impl Planner {
    fn new(term: Term) -> Self {
        let Term { world, leadership, instance, lease_duration, precedence, metrics } = term;
        let client = world.client.clone();
        let writes = metrics.writes.clone();
        let fence = Fence { leadership, timeout: lease_duration / 3 };
        Self {
            applier: Applier::new(fence, WRITES_AT_ONCE, writes),
            events: Events::new(client, &instance),
            observed: Observed::new(world),
            counts: VersionCounts::default(),
            stale_counts: BTreeSet::new(),
            policy_pace: Pace::new(),
            version_pace: Pace::new(),
            failures: 0,
            precedence,
            metrics,
        }
    }

    async fn run(mut self, mut changes: broadcast::Receiver<Change>, stop: CancellationToken) {
        let mut next = Instant::now();
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next) => None,
                change = changes.recv() => Some(change),
            };
            let began = Instant::now();
            match received {
                None => {}
                Some(Ok(change)) => self.observed.take(&change),
                Some(Err(broadcast::error::RecvError::Lagged(_))) => self.observed.take_all(),
                Some(Err(broadcast::error::RecvError::Closed)) => return,
            }
            tokio::time::sleep(DEBOUNCE).await;
            self.observed.take_waiting(&mut changes);
            let Some(look_again) = stop.run_until_cancelled(self.round()).await else { return };
            next = look_again;
            self.metrics.round_seconds.observe(began.elapsed().as_secs_f64());
        }
    }

    /// One look at the world and what follows from it. Returns when to look again if nothing changes before.
    async fn round(&mut self) -> Instant {
        // Observe: believe the stores about writes that they never showed (no client required).
        let now = Instant::now();
        let settle_at = self.observed.settle(now);
        // Plan, on one snapshot (no client required).
        let time = Timestamp::now();
        let mut plan = self.plan(time);
        // Validate: conclude nothing from what cannot be decoded (no client required).
        unreadable::keep_entries(&mut plan, self.observed.plan_world(), &self.unreadable_policies());
        // Pace: counts that were written a moment ago wait (no client required).
        let paced = self.pace(&plan, now);
        // What spokes answer, the gateway writes when they have been told.
        let telling = (!plan.assignments.is_empty()).then(|| self.precedence.tell());
        // Apply, first the runs that begin, so that whoever plans next knows of them (client required).
        let begun = self.applier.statuses(&mut self.observed, paced.first).await;
        // Apply what clusters are told (client required).
        let writes = self.assignment_writes(&plan, &begun.stored);
        let told = self.applier.assignments(&mut self.observed, writes).await;
        drop(telling);
        // Apply the other statuses (client required).
        let shown = self.applier.statuses(&mut self.observed, paced.then).await;
        // Apply counts of versions (client required).
        let (uncounted, counts_at) = self.write_counts(now).await;
        // Tell people, once what they are told is stored (client required).
        self.publish(&plan, &begun.stored, &shown.stored);
        // Remember when to look again (no client required).
        let failed = begun.failed || told.failed || shown.failed || uncounted;
        let recheck = plan.recheck_at.map(|at| after(time, at));
        let wakes = [settle_at, paced.again_at, counts_at, recheck, self.retry(failed)];
        wakes.into_iter().flatten().min().unwrap_or(now + LONGEST_SLEEP).min(now + LONGEST_SLEEP)
    }

    fn plan(&mut self, time: Timestamp) -> Decisions {
        let began = Instant::now();
        // Up to a second for a large fleet from scratch: not on a thread that others' sessions wait for.
        let plan = tokio::task::block_in_place(|| self.observed.decide(time));
        self.metrics.plan_seconds.observe(began.elapsed().as_secs_f64());
        plan
    }

    fn unreadable_policies(&self) -> BTreeSet<PolicyKey> {
        let unreadable = self.observed.stores().undecodable().into_keys();
        let unreadable = unreadable.filter(|key| key.kind == Kind::Policy);
        // One that could be decoded before is still planned as it was then.
        unreadable
            .map(|key| PolicyKey::new(&*key.namespace, &*key.name))
            .filter(|key| !self.observed.plan_world().policies().contains_key(key))
            .collect()
    }

    fn pace(&mut self, plan: &Decisions, now: Instant) -> Paced {
        let mut paced = Paced::default();
        for (key, status) in &plan.policy_status {
            let stored =
                self.observed.plan_world().policies().get(key).and_then(|policy| policy.status.as_ref());
            let wait = self.policy_pace.wait_until(key, now).filter(|_| !is_material(stored, status));
            if let Some(at) = wait {
                paced.again_at = earlier(paced.again_at, Some(at));
                continue;
            }
            // Whatever comes of it: one that is gone, but not for the watch yet, is not asked for at every report.
            self.policy_pace.wrote(key, now);
            let when = if starts_something(stored, status) { &mut paced.first } else { &mut paced.then };
            when.push((key.clone(), status.clone()));
        }
        paced
    }

    /// The plan's assignments, but those of policies whose run was to be stored first and was not.
    fn assignment_writes(&self, plan: &Decisions, begun: &BTreeSet<PolicyKey>) -> Vec<AssignmentWrite> {
        let world = self.observed.plan_world();
        let not_begun = |namespace: &str, policy: &str| {
            let key = PolicyKey::new(namespace, policy);
            let stored = world.policies().get(&key).and_then(|policy| policy.status.as_ref());
            !begun.contains(&key)
                && plan.policy_status.get(&key).is_some_and(|status| starts_something(stored, status))
        };
        let mut writes = Vec::with_capacity(plan.assignments.len());
        for (name, spec) in &plan.assignments {
            if spec.entries.iter().any(|entry| not_begun(&entry.namespace, &entry.policy)) {
                continue;
            }
            let Some(cluster) = world.clusters().get(name) else { continue };
            let stored = world.assignments().get(name).map(|assignment| &**assignment);
            writes.push(assignment_write(cluster, stored, spec));
        }
        writes
    }

    async fn write_counts(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let touched = self.observed.take_touched();
        for name in touched.assignments {
            let assignment = self.observed.assignment(&name);
            self.stale_counts.extend(self.counts.update(&name, assignment));
        }
        self.stale_counts.extend(touched.versions);
        let (mut due, mut again_at) = (Vec::new(), None);
        for name in std::mem::take(&mut self.stale_counts) {
            let counts = self.counts.of(&name);
            let Some(version) = self.observed.stores().version_of(&name.0, &name.1, &name.2) else {
                continue;
            };
            if version.status.as_ref().and_then(|status| status.clusters).unwrap_or_default() == counts {
                continue;
            }
            match self.version_pace.wait_until(&name, now) {
                Some(at) => {
                    again_at = earlier(again_at, Some(at));
                    self.stale_counts.insert(name);
                }
                None => {
                    self.version_pace.wrote(&name, now);
                    due.push((name, version, counts));
                }
            }
        }
        let again = self.applier.counts(&self.observed.stores().client, due).await;
        let failed = !again.is_empty();
        self.stale_counts.extend(again);
        (failed, again_at)
    }

    /// Publishes in the background: nobody who is to be told something waits for it.
    fn publish(&self, plan: &Decisions, begun: &BTreeSet<PolicyKey>, shown: &BTreeSet<PolicyKey>) {
        let mut stored = Vec::new();
        for event in &plan.events {
            let is_stored = begun.contains(&event.policy) || shown.contains(&event.policy);
            // An Event whose state was not stored comes again with the next plan.
            if !is_stored && plan.policy_status.contains_key(&event.policy) {
                continue;
            }
            if let Some(policy) = self.observed.plan_world().policies().get(&event.policy) {
                stored.push((policy.clone(), event.clone()));
            }
        }
        if stored.is_empty() {
            return;
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            for (policy, event) in stored {
                events.publish(&policy, &event).await;
            }
        });
    }

    fn retry(&mut self, failed: bool) -> Option<Instant> {
        if !failed {
            self.failures = 0;
            return None;
        }
        let (first, longest) = BACKOFF;
        let wait = first.saturating_mul(2u32.saturating_pow(self.failures)).min(longest);
        self.failures = self.failures.saturating_add(1);
        Some(Instant::now() + wait)
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The monotonic time that is as far from now as `at` is from `time`.
fn after(time: Timestamp, at: Timestamp) -> Instant {
    let wait = Duration::try_from(at.duration_since(time)).unwrap_or_default();
    // A time that has come already, but gave this very plan, is not worth a busy loop.
    Instant::now() + wait.clamp(DEBOUNCE, LONGEST_SLEEP)
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
