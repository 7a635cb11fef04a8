//! PlacementPolicy: which clusters shall run which version, and how the change rolls out.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OnRemoval, PlacementPolicyStatus, Window};

/// Which clusters shall run which version, and how the change rolls out.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "PlacementPolicy",
    plural = "placementpolicies",
    namespaced,
    shortname = "pp",
    category = "nave",
    doc = "Which clusters shall run which version, and how the change rolls out.",
    status = "PlacementPolicyStatus",
    derive = "PartialEq"
)]
#[kube(printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"))]
#[kube(printcolumn(name = "Version", type_ = "string", json_path = ".spec.model.version"))]
#[kube(printcolumn(name = "Selected", type_ = "integer", json_path = ".status.clusters.selected"))]
#[kube(printcolumn(name = "Serving", type_ = "integer", json_path = ".status.clusters.serving"))]
#[kube(printcolumn(name = "Failed", type_ = "integer", json_path = ".status.clusters.failed"))]
#[kube(printcolumn(name = "Deferred", type_ = "integer", json_path = ".status.clusters.deferred"))]
#[kube(printcolumn(name = "State", type_ = "string", json_path = ".status.step.state"))]
#[kube(printcolumn(
    name = "Available",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Available\")].status"
))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase")]
pub struct PlacementPolicySpec {
    /// What shall run.
    pub model: ModelReference,
    /// Two policies, one model, one cluster: the higher wins, then the older; the loser says so.
    #[serde(default)]
    #[schemars(schema_with = "crate::admission::int32")]
    pub priority: i32,
    /// Where.
    #[serde(default)]
    pub placement: Placement,
    /// How the change rolls out.
    #[serde(default)]
    pub rollout: Rollout,
    /// By which runtime.
    #[serde(default)]
    pub serving: Serving,
    /// What a spoke does when it is no longer asked for.
    #[serde(default)]
    pub on_removal: OnRemoval,
}

/// A version of a model, by the names in ModelVersion.spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelReference {
    /// `ModelVersion.spec.model`.
    #[schemars(schema_with = "crate::admission::folder_name")]
    pub name: String,
    /// `ModelVersion.spec.version`.
    #[schemars(schema_with = "crate::admission::folder_name")]
    pub version: String,
}

/// Which clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// By labels; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::label_selector")]
    pub cluster_selector: Option<LabelSelector>,
    /// Expressions over `cluster` (`name`, `labels`, `facts`, `capacity`) that must all hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::admission::cel_expressions")]
    pub cel: Vec<String>,
    /// How many; absent = all that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::count")]
    pub number_of_clusters: Option<i32>,
    /// Which taints do not keep the policy away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// How evenly over which domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub spread: Vec<Spread>,
    /// Which clusters come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub prioritizers: Vec<Prioritizer>,
}

/// As in Kubernetes' pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::admission::toleration_is_whole()))]
pub struct Toleration {
    /// The taint's key; empty with `Exists` = every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::toleration_key")]
    pub key: Option<String>,
    /// `Equal` unless said.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value, for `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::label_value")]
    pub value: Option<String>,
    /// The taint's effect; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<crate::TaintEffect>,
}

/// How a toleration compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Key and value are the taint's.
    #[default]
    Equal,
    /// The key is the taint's, or empty.
    Exists,
}

/// How evenly the selected clusters lie over the values of a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// The label whose values are the domains.
    #[schemars(schema_with = "crate::admission::label_key")]
    pub topology_key: String,
    /// Most that two domains may differ, in clusters.
    #[serde(default = "one")]
    #[schemars(schema_with = "crate::admission::count_at_least_one")]
    pub max_skew: i32,
    /// What to do with a cluster that would break it.
    #[serde(default)]
    pub when_unsatisfiable: WhenUnsatisfiable,
}

fn one() -> i32 {
    1
}

/// What to do with a cluster that would break the spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenUnsatisfiable {
    /// Leave it out.
    #[default]
    DoNotSelect,
    /// Take it when no other is left.
    SelectAnyway,
}

/// One part of the score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::admission::prioritizer_has_its_key()))]
pub struct Prioritizer {
    /// What is scored, -100 to 100.
    pub by: PrioritizerKind,
    /// For `Label`: the label whose value is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::label_key")]
    pub key: Option<String>,
    /// -10 to 10.
    #[serde(default = "one")]
    #[schemars(schema_with = "crate::admission::weight")]
    pub weight: i32,
}

/// What a prioritizer scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PrioritizerKind {
    /// Chosen now is better.
    Steady,
    /// Fewer other models is better.
    Balance,
    /// More accelerator memory is better.
    AcceleratorMemory,
    /// More free storage is better.
    StorageAvailable,
    /// A higher number in a label is better.
    Label,
}

/// How a change rolls out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The weights are on every selected spoke before any spoke switches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prefetch: bool,
    /// One after the other; absent = one of 100%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub steps: Option<Vec<Step>>,
    /// How many may be in flight, as a number or percent of the selected; absent = 100%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::int_or_percent_at_least_one")]
    pub max_concurrent: Option<IntOrString>,
    /// How many may fail, as a number or percent of the selected; absent = 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::int_or_percent")]
    pub max_failures: Option<IntOrString>,
    /// For each cluster, from when it was told; absent = `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::duration")]
    pub progress_deadline: Option<String>,
    /// What happens when more failed.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How many of a group may be away at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<DisruptionBudget>,
    /// When spokes may switch; empty = always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub windows: Vec<Window>,
    /// True = nothing is told to switch and nothing is rolled back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// One step of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// How many of the step's clusters shall run the target when it is done, as a number or percent.
    #[schemars(schema_with = "crate::admission::int_or_percent_at_least_one")]
    pub clusters: IntOrString,
    /// How long each must have served it; absent = no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::duration")]
    pub soak: Option<String>,
    /// True = waits for the annotation `nave.dev/approve`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
    /// Which of the selected clusters the step is about; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::label_selector")]
    pub cluster_selector: Option<LabelSelector>,
}

/// What happens when the failure budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Nothing more is told.
    #[default]
    Pause,
    /// Back to what each served before.
    Rollback,
}

/// How many of a group may be away at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// The label whose value is the group; without it a cluster is in the group "".
    #[schemars(schema_with = "crate::admission::label_key")]
    pub group_by: String,
    /// As a number or percent of the group's selected.
    #[schemars(schema_with = "crate::admission::int_or_percent")]
    pub max_unavailable: IntOrString,
}

/// By which runtime a model is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// `triton`, `files` or `hook`; absent = `files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::runtime")]
    pub runtime: Option<String>,
    /// How a new version is asked whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// How a new version is asked whether it works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// How long it may take to answer; absent = `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::duration")]
    pub timeout: Option<String>,
}
