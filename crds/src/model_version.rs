//! ModelVersion: one immutable set of weights in S3, identified by its manifest digest.

use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{Condition, Time},
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{S3Source, SecretKeyReference};

/// One immutable set of weights in S3.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nave.dev",
    version = "v1alpha1",
    kind = "ModelVersion",
    namespaced,
    shortname = "mv",
    category = "nave",
    doc = "One immutable set of weights in S3.",
    status = "ModelVersionStatus",
    derive = "PartialEq"
)]
#[kube(printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"))]
#[kube(printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"))]
#[kube(printcolumn(
    name = "Ready",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].status"
))]
#[kube(printcolumn(
    name = "Reason",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
))]
#[kube(printcolumn(name = "Size", type_ = "integer", json_path = ".status.sizeBytes"))]
#[kube(printcolumn(name = "Serving", type_ = "integer", json_path = ".status.clusters.serving"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::admission::immutable_except_withdrawn()))]
pub struct ModelVersionSpec {
    /// What the serving runtime knows the model by.
    #[schemars(schema_with = "crate::admission::folder_name")]
    pub model: String,
    /// The version, such as `1.2.0`.
    #[schemars(schema_with = "crate::admission::folder_name")]
    pub version: String,
    /// What the files are.
    #[serde(default)]
    pub format: Format,
    /// Where the weights are.
    pub source: Source,
    /// `sha256:<hex>` of the manifest; absent = the hub computes it and puts it in status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::digest")]
    pub manifest_digest: Option<String>,
    /// What a cluster must have to run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
    /// Present = nothing is served that this key did not sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Where the version came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// True = never bound again; policies that name it go Degraded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

/// What the files of a version are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// ONNX graphs.
    Onnx,
    /// Hugging Face safetensors.
    Safetensors,
    /// llama.cpp's GGUF.
    Gguf,
    /// Anything.
    #[default]
    Files,
}

impl Format {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Files => "files",
        }
    }
}

/// Where the weights are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// In an S3 bucket.
    pub s3: S3Source,
}

/// What a cluster must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requirements {
    /// Any of these, as OCI spells them; empty = any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::admission::architectures")]
    pub architectures: Vec<String>,
    /// At least one such accelerator; absent = CPU is fine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<AcceleratorRequirement>,
    /// Any of these serving runtimes; empty = the policy's alone decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::admission::names_of_runtimes")]
    pub runtimes: Vec<String>,
}

/// An accelerator that a version needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceleratorRequirement {
    /// `nvidia`, `amd`, `intel`; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::word")]
    pub vendor: Option<String>,
    /// Least memory, such as `8Gi`; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::quantity")]
    pub min_memory: Option<Quantity>,
}

/// Who has to have signed the weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// The public key, PEM, in a Secret.
    pub public_key_secret: SecretKeyReference,
}

/// Where a version came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// Name of the ModelVersion it was trained from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::object_name")]
    pub parent: Option<String>,
    /// Name of the FineTuneJob that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::object_name")]
    pub fine_tune_job: Option<String>,
    /// Name of the EdgeCluster it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::object_name")]
    pub cluster: Option<String>,
}

/// What the hub knows of a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelVersionStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Resolved, Verified, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The version's identity, `sha256:<hex>`; once set it never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_digest: Option<String>,
    /// Sum of the files' sizes, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Number of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_count: Option<i64>,
    /// When the manifest was read or computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Time>,
    /// Whose signature was verified last, where the spec asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<VerifiedSignature>,
    /// On how many clusters it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<ModelVersionClusters>,
}

/// A signature that was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedSignature {
    /// PEM of the public key, or of the authorities, that it was verified with; spokes verify with it again.
    pub public_key: String,
    /// The key's hash, or the subject of the certificate that signed.
    pub signer: String,
}

/// On how many clusters a version is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelVersionClusters {
    /// With a Serve or Prefetch entry for it.
    pub assigned: i64,
    /// That serve it.
    pub serving: i64,
}
