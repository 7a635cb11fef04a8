//! The API: nave.dev/v1alpha1. Rust types, the CRDs generated from them, and a pure read model. No client, no tokio.
//!
//! The types keep what a user may write as text (durations, quantities, times of day) as text, because one malformed
//! object must not make a whole list unreadable; the planners parse them once into checked input.

// One `kube(printcolumn(..))` a column repeats `type_`; clippy takes that for a repeated attribute.
#![allow(clippy::duplicated_attributes)]

mod admission;
mod cluster_assignment;
mod common;
mod edge_cluster;
mod fine_tune_job;
mod generate;
pub mod join_token;
mod model_version;
mod placement_policy;
mod placement_status;
pub mod view;

pub use cluster_assignment::{
    Action, Activation, AssignmentEntry, ClusterAssignment, ClusterAssignmentSpec, ClusterAssignmentStatus,
    EntryStatus, Phase,
};
pub use common::{OnRemoval, S3Source, SecretKeyReference, SecretReference, Transfer, Window};
pub use edge_cluster::{
    AcceleratorStatus, Capacity, EdgeCluster, EdgeClusterSpec, EdgeClusterStatus, Identity, ModelCounts,
    RuntimeStatus, SessionStatus, Storage, Taint, TaintEffect,
};
pub use fine_tune_job::{
    BaseModel, Container, DatasetReference, FineTuneJob, FineTuneJobSpec, FineTuneJobStatus, Gate, GateOp,
    Process, Promote, Publish, Published, Resources, Run, RunPhase, Trainer,
};
pub use generate::all;
pub use model_version::{
    AcceleratorRequirement, Format, Lineage, ModelVersion, ModelVersionClusters, ModelVersionSpec,
    ModelVersionStatus, Requirements, Signature, Source, VerifiedSignature,
};
pub use placement_policy::{
    DisruptionBudget, ModelReference, OnFailure, Placement, PlacementPolicy, PlacementPolicySpec,
    Prioritizer, PrioritizerKind, Probe, Rollout, Serving, Spread, Step, Toleration, TolerationOperator,
    WhenUnsatisfiable,
};
pub use placement_status::{
    ClusterCounts, ExcludedCount, FailedCluster, PlacementPolicyStatus, RolloutRun, RunPhase as RolloutPhase,
    StepState, StepStatus, WaitRule, WaitingOn,
};

/// The API group.
pub const GROUP: &str = "nave.dev";
/// The only version there is so far.
pub const VERSION: &str = "v1alpha1";
/// Approves a step: `"<index>/<generation>"` on a PlacementPolicy.
pub const APPROVE_ANNOTATION: &str = "nave.dev/approve";
/// This run no longer stops for its failure budget: `"<generation>"` on a PlacementPolicy.
pub const RESUME_ANNOTATION: &str = "nave.dev/resume";
/// Starts a rolled-back run anew: a value not used before, on a PlacementPolicy.
pub const RETRY_ANNOTATION: &str = "nave.dev/retry";
