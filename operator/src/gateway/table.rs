//! What is observed of all spokes of this replica, and the writer that brings it to the API server: on change, gathered,
//! spaced, a bounded number at a time, again after a failure, and flushed when the hub stops.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt as _;
use nave_crds::{ClusterAssignment, EdgeCluster};
use nave_names::ClusterName;
use serde_json::json;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use nave_runtime::error_text::chain;

use super::{
    metrics::GatewayMetrics,
    observed::{Link, Observed, Opening},
    schedule::{Ended, Schedule},
    status,
};
use crate::{
    json_patch::{self, Operation, Part, Target, Written},
    metrics::Outcome,
    precedence::Precedence,
    watch::World,
};

/// Writes at once. The API server is shared with the planner's writes, to which these give way.
const WRITES: usize = 32;
/// How long what is due may take to be written when the hub stops.
const FLUSH: Duration = Duration::from_secs(5);
/// Between two looks at what could not be written when the hub stops.
const FLUSH_AGAIN: Duration = Duration::from_millis(100);
const FIELD_MANAGER: &str = "nave-gateway";

/// The table. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    world: World,
    gateway: String,
    grace_period: Duration,
    precedence: Precedence,
    metrics: GatewayMetrics,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    spokes: BTreeMap<ClusterName, Spoke>,
    schedule: Schedule,
}

#[derive(Debug)]
struct Spoke {
    observed: Observed,
    session: u64,
    down_since: Option<Instant>,
}

impl Table {
    pub(super) fn new(
        world: World,
        gateway: String,
        grace_period: Duration,
        precedence: Precedence,
        metrics: GatewayMetrics,
    ) -> Self {
        let (state, changed) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inner { world, gateway, grace_period, precedence, metrics, state, changed }))
    }

    /// A session began.
    pub(super) fn open(&self, cluster: &ClusterName, session: u64, opening: Opening) {
        let stored = self.0.world.assignment(cluster.as_str());
        let mut state = self.state();
        match state.spokes.get_mut(cluster) {
            Some(spoke) => {
                spoke.observed.reopen(opening);
                spoke.session = session;
                spoke.down_since = None;
            }
            None => {
                let observed = Observed::new(opening, stored.as_deref(), Timestamp::now());
                state.spokes.insert(cluster.clone(), Spoke { observed, session, down_since: None });
            }
        }
        self.mark(state, cluster);
    }

    /// A session ended. The grace period begins, unless a newer session has taken over.
    pub(super) fn close(&self, cluster: &ClusterName, session: u64) {
        let mut state = self.state();
        let now = Instant::now();
        let Some(spoke) = state.spokes.get_mut(cluster).filter(|spoke| spoke.session == session) else {
            return;
        };
        spoke.observed.link = Link::Down;
        spoke.down_since = Some(now);
        state.schedule.mark_at(cluster, now + self.0.grace_period);
        drop(state);
        self.0.changed.notify_one();
    }

    /// The spoke said something.
    pub(super) fn update(
        &self,
        cluster: &ClusterName,
        change: impl FnOnce(&mut Observed, Option<&ClusterAssignment>),
    ) {
        let stored = self.0.world.assignment(cluster.as_str());
        let mut state = self.state();
        if let Some(spoke) = state.spokes.get_mut(cluster) {
            change(&mut spoke.observed, stored.as_deref());
            self.mark(state, cluster);
        }
    }

    /// The cluster's objects changed: conditions and counts may be others.
    pub(super) fn look_at(&self, cluster: &ClusterName) {
        let state = self.state();
        if state.spokes.contains_key(cluster) {
            self.mark(state, cluster);
        }
    }

    fn mark(&self, mut state: MutexGuard<'_, State>, cluster: &ClusterName) {
        state.schedule.mark(cluster, Instant::now());
        drop(state);
        self.0.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until `stop`, and then what is left.
    pub(super) async fn run(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(WRITES));
        let mut looks = JoinSet::new();
        while !stop.is_cancelled() {
            self.start_due(&slots, &mut looks);
            let next =
                self.state().schedule.next().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.0.changed.notified() => {}
                Some(_) = looks.join_next() => {}
                () = stop.cancelled() => {}
            }
        }
        let flushed = tokio::time::timeout(FLUSH, self.flush(&slots, &mut looks)).await;
        if flushed.is_err() {
            tracing::warn!(
                "some statuses could not be written before the hub stopped; the next gateway writes them"
            );
        }
    }

    /// Looks at all that is marked, and at what could not be written again until it is. Grace periods are not waited for:
    /// they are for the gateway to which the spokes go.
    async fn flush(&self, slots: &Arc<Semaphore>, looks: &mut JoinSet<()>) {
        loop {
            while looks.join_next().await.is_some() {}
            self.state().schedule.hurry(Instant::now());
            self.start_due(slots, looks);
            while looks.join_next().await.is_some() {}
            if !self.state().schedule.has_failures() {
                return;
            }
            tokio::time::sleep(FLUSH_AGAIN).await;
        }
    }

    fn start_due(&self, slots: &Arc<Semaphore>, looks: &mut JoinSet<()>) {
        for cluster in self.state().schedule.take(Instant::now()) {
            let (table, slots) = (self.clone(), Arc::clone(slots));
            looks.spawn(async move {
                let slot = slots.acquire_owned().await;
                table.0.precedence.give_way().await;
                let ended = table.look(&cluster).await;
                drop(slot);
                table.state().schedule.ended(&cluster, ended, Instant::now());
            });
        }
    }

    /// Compares what is observed to what is stored, and writes what differs.
    async fn look(&self, cluster: &ClusterName) -> Ended {
        let Some(observed) = self.current(cluster) else { return Ended::Unchanged };
        let Some(object) = self.0.world.cluster(cluster.as_str()) else {
            // Deleted, or not in the cache yet: a change of it marks the cluster again.
            if observed.link == Link::Lost {
                self.forget(cluster);
            }
            return Ended::Unchanged;
        };
        let assignment = self.0.world.assignment(cluster.as_str());
        let now = Timestamp::now();
        let mut ended = Ended::Unchanged;
        if let Some(assignment) = &assignment
            && let Some(status) = status::of_assignment(assignment, &object, &observed, &self.0.gateway, now)
        {
            ended = self.write::<ClusterAssignment>("ClusterAssignment", cluster, None, json!(status)).await;
        }
        if ended == Ended::Failed {
            return ended;
        }
        let status = status::of_cluster(&object, assignment.as_deref(), &observed, &self.0.gateway, now);
        if let Some(status) = status {
            let version = object.resource_version();
            ended = self.write::<EdgeCluster>("EdgeCluster", cluster, version, json!(status)).await;
        }
        if observed.link == Link::Lost && ended != Ended::Failed {
            self.forget(cluster);
        }
        ended
    }

    /// What is observed now; a spoke that is away for the grace period is lost from here on.
    fn current(&self, cluster: &ClusterName) -> Option<Observed> {
        let mut state = self.state();
        let spoke = state.spokes.get_mut(cluster)?;
        let due = spoke.down_since.map(|since| since + self.0.grace_period);
        if let Some(due) = due {
            if due <= Instant::now() {
                if spoke.observed.link == Link::Down {
                    tracing::warn!(%cluster, "spoke lost: it did not reconnect within the grace period");
                }
                spoke.observed.link = Link::Lost;
            } else {
                state.schedule.mark_at(cluster, due);
            }
        }
        state.spokes.get(cluster).map(|spoke| spoke.observed.clone())
    }

    fn forget(&self, cluster: &ClusterName) {
        let mut state = self.state();
        if state.spokes.get(cluster).is_some_and(|spoke| spoke.observed.link == Link::Lost) {
            state.spokes.remove(cluster);
        }
    }

    async fn write<K>(
        &self,
        kind: &'static str,
        cluster: &ClusterName,
        version: Option<String>,
        status: serde_json::Value,
    ) -> Ended
    where
        K: kube::Resource<DynamicType = ()> + serde::de::DeserializeOwned,
    {
        let mut operations = Vec::new();
        if let Some(version) = version {
            operations.push(Operation::Test { path: "/metadata/resourceVersion", value: json!(version) });
        }
        operations.push(Operation::Add { path: "/status", value: status });
        let target = Target {
            namespace: None,
            name: cluster.as_str(),
            part: Part::Status,
            field_manager: FIELD_MANAGER,
        };
        let (outcome, ended) = match json_patch::send::<K>(&self.0.world.client, target, &operations).await {
            Written::Stored(_) => (Outcome::Stored, Ended::Written),
            Written::Gone => (Outcome::Gone, Ended::Unchanged),
            // The cache is behind: when it has caught up there may be nothing left to write.
            Written::Conflict(message) => {
                tracing::debug!(%cluster, kind, message, "status changed meanwhile");
                (Outcome::Conflict, Ended::Failed)
            }
            Written::Failed(error) => {
                tracing::warn!(%cluster, kind, error = %chain(&error), "cannot write the status; trying again");
                (Outcome::Failed, Ended::Failed)
            }
            Written::NotSent => (Outcome::Failed, Ended::Failed),
        };
        self.0.metrics.wrote(kind, outcome);
        ended
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
