//! ClusterAssignment: what one cluster shall run, and what it said to each entry. Only the hub writes it.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OnRemoval, Serving, Transfer};

/// The desired set of the EdgeCluster with the same name.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "ClusterAssignment",
    shortname = "ca",
    category = "nave",
    doc = "What one cluster shall run, and what it said to each entry. Only the hub writes it.",
    status = "ClusterAssignmentStatus",
    derive = "Default",
    derive = "PartialEq"
)]
#[kube(printcolumn(name = "Generation", type_ = "integer", json_path = ".spec.generation"))]
#[kube(printcolumn(name = "Observed", type_ = "integer", json_path = ".status.observedGeneration"))]
#[kube(printcolumn(name = "Activated", type_ = "string", json_path = ".status.history[0].model"))]
#[kube(printcolumn(name = "Version", type_ = "string", json_path = ".status.history[0].version"))]
#[kube(printcolumn(name = "At", type_ = "date", json_path = ".status.history[0].at"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase")]
// Atomic, as the status: the hub alone writes them.
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ClusterAssignmentSpec {
    /// Counts the changes of `entries`; never goes down.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-validations" = crate::admission::generation_only_grows()))]
    pub generation: i64,
    /// Sorted by namespace, policy, model, action, version.
    // Shared: a policy asks the same of many clusters, and a plan for a million of them holds each entry once.
    #[serde(default)]
    pub entries: Vec<Arc<AssignmentEntry>>,
}

/// One thing that a policy asks of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentEntry {
    /// The policy's and the ModelVersion's namespace.
    pub namespace: String,
    /// The policy's name.
    pub policy: String,
    /// What the runtime knows the model by.
    pub model: String,
    /// The version; empty in a Wait entry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The version's identity, `sha256:<hex>`; empty in a Wait entry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest_digest: String,
    /// PEM of what the spoke checks the version's signature with; empty where the ModelVersion asks for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature_public_key: String,
    /// What to do.
    pub action: Action,
    /// When the planner told it; absent in a Wait entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Time>,
    /// The last version really served, to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_version: Option<String>,
    /// By which runtime.
    #[serde(default)]
    pub serving: Serving,
    /// The site's limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// What the spoke does when the entry goes.
    #[serde(default)]
    pub on_removal: OnRemoval,
}

/// What an entry asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Get the weights and verify them.
    Prefetch,
    /// Run the version.
    Serve,
    /// Chosen; nothing to do yet.
    Wait,
}

/// What the spoke said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ClusterAssignmentStatus {
    /// The generation that the spoke has in its ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// One row for each (namespace, model, version).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<EntryStatus>,
    /// The last 20 activations, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Activation>,
}

/// What the spoke said of one version of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryStatus {
    /// The ModelVersion's namespace.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// Where it is.
    pub phase: Phase,
    /// Manifest digest that was verified, `sha256:<hex>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// When the hub received the first report of this phase.
    pub since: Time,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// One CamelCase word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Where a version is on a spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Phase {
    Pending,
    Pulling,
    Verifying,
    Staged,
    Activating,
    Serving,
    Failed,
    Rejected,
    Removing,
}

/// One activation: what ran when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    /// The ModelVersion's namespace.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// Manifest digest, `sha256:<hex>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// When the hub first heard that it was served.
    pub at: Time,
}
