//! EdgeCluster: one spoke. The platform team writes the spec (consent, taints, limits), the hub the status.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Transfer;

/// One spoke: consent, taints and transfer limits; what it has and how it is.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "EdgeCluster",
    shortname = "ec",
    category = "nave",
    doc = "One spoke: consent, taints and transfer limits; what it has and how it is.",
    status = "EdgeClusterStatus",
    derive = "Default",
    derive = "PartialEq"
)]
#[kube(printcolumn(name = "Accepted", type_ = "boolean", json_path = ".spec.accepted"))]
#[kube(printcolumn(
    name = "Connected",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Connected\")].status"
))]
#[kube(printcolumn(
    name = "Ready",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].status"
))]
#[kube(printcolumn(name = "Serving", type_ = "integer", json_path = ".status.models.serving"))]
#[kube(printcolumn(name = "Desired", type_ = "integer", json_path = ".status.models.desired"))]
#[kube(printcolumn(name = "Agent", type_ = "string", json_path = ".status.agentVersion"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase")]
pub struct EdgeClusterSpec {
    /// The hub's consent; without it the spoke may connect but is given nothing.
    #[serde(default)]
    pub accepted: bool,
    /// True = the spoke's certificates are refused, whatever their expiry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// What keeps policies away unless they tolerate it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key", "effect"]))]
    pub taints: Vec<Taint>,
    /// Limits for all weights that this site pulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
}

/// Keeps policies away that do not tolerate it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// The taint's key.
    #[schemars(schema_with = "crate::admission::label_key")]
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "crate::admission::label_value")]
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// What a taint does to a policy that does not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// The cluster is not selected, and is dropped where it was.
    NoSelect,
    /// The cluster is not selected anew; where it was chosen it stays.
    NoSelectIfNew,
    /// The cluster ranks lower.
    PreferNoSelect,
}

/// What the hub knows of a spoke.
// Atomic: the hub alone writes it, and a list of which of its fields the hub owns would be half of the object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct EdgeClusterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Connected, AcceleratorsHealthy, StorageHealthy, ServingHealthy, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// When the hub last heard of the spoke as of the last change of this status; it is not written for a heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// The session; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionStatus>,
    /// What the agent was configured to tell of the site, for CEL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// What the spoke has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// How many models are desired, served and failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<ModelCounts>,
    /// When the spoke's certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_not_after: Option<Time>,
    /// Where the other spokes of its site reach it for weights, `host:port`; absent = it takes part in no sharing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// The key that the spoke enrolled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// Which key is the spoke's: a spoke that was offline past expiry may re-enrol with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// SHA-256 of the public key's SubjectPublicKeyInfo (DER), `sha256:<hex>`.
    pub public_key_digest: String,
    /// When the key was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled_at: Option<Time>,
}

/// Where the spoke's stream ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// The gateway replica.
    pub gateway: String,
    /// Since when.
    pub since: Time,
}

/// What a spoke has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// As OCI spells it: `amd64`, `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Logical processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i64>,
    /// Main memory, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// The file system of the agent's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Present accelerators, usable or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerators: Vec<AcceleratorStatus>,
    /// Serving runtimes that the agent was configured with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtimes: Vec<RuntimeStatus>,
}

/// Bytes of a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// Free for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<i64>,
}

/// One accelerator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorStatus {
    /// `nvidia`, `amd`, `intel`.
    #[serde(default)]
    pub vendor: String,
    /// Product name.
    #[serde(default)]
    pub model: String,
    /// Its memory, bytes; absent = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// Driver version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Whether a model can really run on it.
    #[serde(default)]
    pub usable: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One serving runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeStatus {
    /// `files`, `hook`, `triton`.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Whether it answers.
    #[serde(default)]
    pub ready: bool,
}

/// Models on a spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCounts {
    /// Serve entries of its assignment.
    pub desired: i64,
    /// Entries that are served.
    pub serving: i64,
    /// Entries that failed or were rejected.
    pub failed: i64,
}
