//! PlacementPolicy's status: who was chosen, where the rollout is, what it waits for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a policy stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementPolicyStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Placed, Progressing, Available, Degraded, Conflicted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<ClusterCounts>,
    /// The step that the run is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepStatus>,
    /// The run, as the planner needs it to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RolloutRun>,
    /// The version that the run brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    /// The last version before it that went out and was not rolled back, for undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_version: Option<String>,
    /// What it waits for; at most 16 rows, each with at most 10 clusters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_on: Vec<WaitingOn>,
    /// Matched clusters that were not selected, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<ExcludedCount>,
    /// The first of the failed clusters by name, at most 5, and why each counts as failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedCluster>,
}

/// Counts of clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterCounts {
    /// Whose labels match.
    pub matched: i64,
    /// Chosen.
    pub selected: i64,
    /// That hold the target's weights, verified.
    pub prefetched: i64,
    /// Told to serve the target.
    pub updated: i64,
    /// Connected and serving the target.
    pub serving: i64,
    /// Failed.
    pub failed: i64,
    /// Neither failed nor reachable.
    pub deferred: i64,
}

/// The step that a run is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// From 1.
    pub index: i32,
    /// How many there are.
    pub of: i32,
    /// What goes on.
    pub state: StepState,
}

/// What goes on in a step: the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum StepState {
    Paused,
    RollingBack,
    RolledBack,
    FailureBudget,
    Prefetching,
    Updating,
    Waiting,
    Soaking,
    AwaitingApproval,
    Complete,
}

/// A run, as the planner needs it to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRun {
    /// The model whose version it brings; absent = the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The version that it brings.
    pub target: String,
    /// When the target was set.
    pub started_at: Time,
    /// Where it is.
    pub phase: RunPhase,
    /// The first step that is not passed, from 1.
    pub step: i32,
    /// The generation that `nave.dev/resume` named; absent = not resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<i64>,
    /// The last value of `nave.dev/retry` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum RunPhase {
    Rolling,
    RollingBack,
    RolledBack,
    Complete,
}

/// One thing that a run waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingOn {
    /// The rule.
    pub rule: WaitRule,
    /// Whom it holds up; in status at most 10, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// How many those are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// When time alone ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// More, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The rules that can hold a cluster up, first that applies first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum WaitRule {
    ModelVersion,
    Requirements,
    Connected,
    Prefetch,
    Paused,
    FailureBudget,
    Soak,
    Approval,
    Window,
    MaxConcurrent,
    DisruptionBudget,
    InFlight,
}

/// How many matched clusters were not selected for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExcludedCount {
    /// NotAccepted, Tainted, CelFalse, CelError, Architecture, Accelerator, Runtime, Storage, Outranked,
    /// SpreadKeyMissing, Spread, OutOfNumber.
    pub reason: String,
    /// How many.
    pub count: i64,
    /// A few of them, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// What is the matter with the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One cluster that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedCluster {
    /// The cluster.
    pub cluster: String,
    /// Why it counts as failed: what its spoke said, or what it did not do in time.
    pub message: String,
}
