//! Sends a round's writes: bounded in number, fenced by the leadership, each result taken into the planner's own view at
//! once. Decides nothing about the fleet.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream};
use kube::Client;
use nave_crds::{ModelVersion, ModelVersionClusters, PlacementPolicyStatus};
use nave_operator_plan::PolicyKey;
use tokio::time::Instant;

use nave_runtime::error_text::chain;

use super::{
    counts::VersionName,
    observed::Observed,
    writes::{AssignmentWrite, send_policy_status, send_version_counts},
};
use crate::{
    json_patch::Written,
    leader::Leadership,
    metrics::{self, WriteLabels, Writes},
};

/// Sends writes while this replica leads.
#[derive(Debug)]
pub struct Applier {
    fence: Fence,
    /// Requests in flight at once.
    at_once: usize,
    writes: Writes,
}

/// Lets a request through while the leadership is held.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// For each request: less than what remains of the Lease when the leadership stops being sure.
    pub timeout: Duration,
}

/// What a batch came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Something has to be tried again.
    pub failed: bool,
    /// Policies whose status is stored as planned.
    pub stored: BTreeSet<PolicyKey>,
}

impl Applier {
    /// An applier for one term.
    pub fn new(fence: Fence, at_once: usize, writes: Writes) -> Self {
        Self { fence, at_once, writes }
    }

    /// Writes statuses of policies.
    pub async fn statuses(
        &self,
        observed: &mut Observed,
        statuses: Vec<(PolicyKey, PlacementPolicyStatus)>,
    ) -> Outcome {
        let mut requests = Vec::with_capacity(statuses.len());
        for (key, status) in statuses {
            let Some(policy) = observed.plan_world().policies().get(&key).cloned() else { continue };
            let client = observed.stores().client.clone();
            let send = async move { send_policy_status(&client, &policy, &status).await };
            requests.push(self.request(key, send));
        }
        let mut outcome = Outcome::default();
        for (key, written) in self.each(requests).await {
            match self.settled("PlacementPolicy", &key, written) {
                Some(Some(mut policy)) => {
                    policy.metadata.managed_fields = None;
                    observed.wrote_policy(policy, Instant::now());
                    outcome.stored.insert(key);
                }
                Some(None) => {}
                None => outcome.failed = true,
            }
        }
        outcome
    }

    /// Writes assignments.
    pub async fn assignments(&self, observed: &mut Observed, assignments: Vec<AssignmentWrite>) -> Outcome {
        let mut requests = Vec::with_capacity(assignments.len());
        for write in assignments {
            let client = observed.stores().client.clone();
            let name = write.name().to_owned();
            requests.push(self.request(name, async move { write.send(&client).await }));
        }
        let mut outcome = Outcome::default();
        for (name, written) in self.each(requests).await {
            match self.settled("ClusterAssignment", &name, written) {
                Some(Some(mut assignment)) => {
                    assignment.metadata.managed_fields = None;
                    observed.wrote_assignment(assignment, Instant::now());
                }
                Some(None) => {}
                None => outcome.failed = true,
            }
        }
        outcome
    }

    /// Writes on how many clusters versions are. Returns those that have to be tried again.
    pub async fn counts(
        &self,
        client: &Client,
        counts: Vec<(VersionName, Arc<ModelVersion>, ModelVersionClusters)>,
    ) -> BTreeSet<VersionName> {
        let mut requests = Vec::with_capacity(counts.len());
        for (name, version, clusters) in counts {
            let client = client.clone();
            let send = async move { send_version_counts(&client, &version, clusters).await };
            requests.push(self.request(name, send));
        }
        let written = self.each(requests).await.into_iter();
        let failed = written.filter_map(|(name, written)| {
            self.settled("ModelVersion", &name, written).is_none().then_some(name)
        });
        failed.collect()
    }

    /// The object as stored, or nothing where it is gone; nothing at all where it has to be tried again.
    fn settled<K>(&self, kind: &'static str, name: &impl Debug, written: Written<K>) -> Option<Option<K>> {
        let (outcome, settled) = match written {
            Written::Stored(object) => (metrics::Outcome::Stored, Some(Some(*object))),
            Written::Gone => (metrics::Outcome::Gone, Some(None)),
            Written::Conflict(message) => {
                tracing::debug!(
                    kind,
                    ?name,
                    message,
                    "another wrote it first, or it was refused; planning again"
                );
                (metrics::Outcome::Conflict, None)
            }
            Written::Failed(error) => {
                let forbidden = matches!(&error, kube::Error::Api(status) if status.code == 403);
                let hint = if forbidden { "check the ClusterRole of the hub's ServiceAccount" } else { "" };
                tracing::warn!(kind, ?name, error = %chain(&error), hint, "cannot write; trying again");
                (metrics::Outcome::Failed, None)
            }
            Written::NotSent => (metrics::Outcome::Failed, None),
        };
        self.writes.get_or_create(&WriteLabels { kind, outcome }).inc();
        settled
    }

    fn request<N, K>(
        &self,
        name: N,
        send: impl Future<Output = Written<K>> + Send + 'static,
    ) -> BoxFuture<'static, (N, Written<K>)>
    where
        N: Send + 'static,
        K: Send + 'static,
    {
        let fence = self.fence.clone();
        Box::pin(async move { (name, fence.send(send).await) })
    }

    async fn each<T>(&self, requests: Vec<BoxFuture<'static, T>>) -> Vec<T> {
        stream::iter(requests).buffer_unordered(self.at_once).collect().await
    }
}

impl Fence {
    async fn send<K>(&self, request: impl Future<Output = Written<K>>) -> Written<K> {
        if !self.leadership.held() {
            return Written::NotSent;
        }
        match tokio::time::timeout(self.timeout, request).await {
            Ok(written) => written,
            Err(_) => {
                tracing::warn!(timeout = ?self.timeout, "the API server did not answer a write in time");
                Written::NotSent
            }
        }
    }
}
