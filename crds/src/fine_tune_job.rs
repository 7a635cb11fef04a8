//! FineTuneJob: train on the spoke's own data, gate on metrics, publish a new ModelVersion.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::EnvVar,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{Condition, Time},
    },
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Placement, S3Source, Window};

/// Train on the spoke's own data, gate on metrics, publish a new ModelVersion.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "FineTuneJob",
    namespaced,
    shortname = "ftj",
    category = "nave",
    doc = "Train on the spoke's own data, gate on metrics, publish a new ModelVersion.",
    status = "FineTuneJobStatus",
    derive = "PartialEq"
)]
#[kube(printcolumn(name = "Base", type_ = "string", json_path = ".spec.base.modelVersion"))]
#[kube(printcolumn(name = "Dataset", type_ = "string", json_path = ".spec.dataset.name"))]
#[kube(printcolumn(name = "Phase", type_ = "string", json_path = ".status.runs[0].phase"))]
#[kube(printcolumn(name = "Published", type_ = "string", json_path = ".status.published.modelVersion"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase")]
pub struct FineTuneJobSpec {
    /// What to start from.
    pub base: BaseModel,
    /// Where, as in PlacementPolicy.
    #[serde(default)]
    pub placement: Placement,
    /// On what.
    pub dataset: DatasetReference,
    /// By what: exactly one of its forms.
    pub trainer: Trainer,
    /// Passed to the trainer as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256))]
    pub hyperparameters: BTreeMap<String, String>,
    /// What the trainer gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How often it saves where it is; absent = `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::duration")]
    pub checkpoint_interval: Option<String>,
    /// How often it is started again; absent = 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::count")]
    pub backoff_limit: Option<i32>,
    /// How long it may take in all; absent = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::duration")]
    pub active_deadline: Option<String>,
    /// When it may run; empty = always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub windows: Vec<Window>,
    /// All must hold on the held-out split, or nothing is published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub gates: Vec<Gate>,
    /// What becomes of the result.
    pub publish: Publish,
    /// How long a finished job is kept; absent = for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::duration")]
    pub ttl_after_finished: Option<String>,
}

/// What a job starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseModel {
    /// Name of a ModelVersion in the same namespace.
    #[schemars(schema_with = "crate::admission::object_name")]
    pub model_version: String,
}

/// A dataset that the spoke's agent was configured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatasetReference {
    /// Its name there.
    #[schemars(schema_with = "crate::admission::folder_name")]
    pub name: String,
}

/// Exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::admission::trainer_has_one_form()))]
pub struct Trainer {
    /// One of the reference trainer's methods, such as `linear-probe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::word")]
    pub builtin: Option<String>,
    /// A container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// A program on the spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// A trainer in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its image.
    #[schemars(schema_with = "crate::admission::image")]
    pub image: String,
    /// Absent = the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Absent = the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// As in pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
}

/// A trainer that is a program on the spoke.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Program and first arguments.
    #[schemars(schema_with = "crate::admission::commands")]
    pub command: Vec<String>,
    /// More arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// As in pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
}

/// What a trainer gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Whole accelerators.
    #[serde(default)]
    #[schemars(schema_with = "crate::admission::count")]
    pub accelerators: i32,
    /// Processors, such as `2` or `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::positive_quantity")]
    pub cpu: Option<Quantity>,
    /// Main memory, such as `4Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::positive_quantity")]
    pub memory: Option<Quantity>,
}

/// One condition on the held-out split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::admission::gate_compares_with_one()))]
pub struct Gate {
    /// A metric that the trainer reports.
    #[schemars(schema_with = "crate::admission::word")]
    pub metric: String,
    /// How it compares.
    pub op: GateOp,
    /// With this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Or with the base's on the same split.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub baseline: bool,
}

/// How a gate compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum GateOp {
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = ">=")]
    GreaterOrEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = "<=")]
    LessOrEqual,
}

/// What becomes of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The new version.
    #[schemars(schema_with = "crate::admission::folder_name")]
    pub version: String,
    /// Where its weights go.
    pub s3: S3Source,
    /// Who moves to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote: Option<Promote>,
}

/// Who moves to the new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Promote {
    /// A PlacementPolicy in the same namespace, by its own rollout.
    #[schemars(schema_with = "crate::admission::object_name")]
    pub placement_policy: String,
}

/// Where a job stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FineTuneJobStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Running, GatesPassed, Published, Complete, Failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// One for each cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// One cluster's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The EdgeCluster.
    pub cluster: String,
    /// Where it is.
    pub phase: RunPhase,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Steps done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
    /// Steps in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<i64>,
    /// Of the result, on the held-out split.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Of the base, on the same split.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baseline: BTreeMap<String, f64>,
    /// 0 to 1; absent = none asked or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_utilization: Option<f64>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: i32,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum RunPhase {
    Pending,
    Running,
    Gating,
    Publishing,
    Succeeded,
    Failed,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Name of the new ModelVersion.
    pub model_version: String,
    /// The EdgeCluster that trained it.
    pub cluster: String,
}
