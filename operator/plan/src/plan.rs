//! Plan: what one look at the world decides. `plan` is the whole planner for a caller that keeps nothing between looks.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use nave_crds::{ClusterAssignmentSpec, PlacementPolicyStatus};
use nave_names::ClusterName;

use crate::{Planner, PolicyKey, Report, World};

/// What shall be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    /// Assignments that change, with their new generation. Every other one stays as it is stored.
    pub assignments: BTreeMap<ClusterName, Arc<ClusterAssignmentSpec>>,
    /// Policies whose status changes.
    pub policy_status: BTreeMap<PolicyKey, PlacementPolicyStatus>,
    /// The earliest instant at which the same objects, with these decisions stored, would give other ones.
    pub recheck_at: Option<Timestamp>,
    /// What changed, for people; decisions about what these stored have none.
    pub events: Vec<PlanEvent>,
}

/// What shall be written, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Assignments that change, with their new generation. Every other one stays as it is stored.
    pub assignments: BTreeMap<ClusterName, Arc<ClusterAssignmentSpec>>,
    /// Policies whose status changes.
    pub policy_status: BTreeMap<PolicyKey, PlacementPolicyStatus>,
    /// Why.
    pub report: Report,
    /// The earliest instant at which the same objects, with this plan stored, would give another plan.
    pub recheck_at: Option<Timestamp>,
    /// What changed, for people; a plan of what this plan stored has none.
    pub events: Vec<PlanEvent>,
}

/// Something that changed, to be shown as a Kubernetes Event on the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanEvent {
    /// The policy.
    pub policy: PolicyKey,
    /// Normal or Warning.
    pub severity: Severity,
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people.
    pub note: String,
}

/// A Kubernetes Event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As intended.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Plans from scratch.
pub fn plan(world: &World, now: Timestamp) -> Plan {
    Planner::new(world).plan(now)
}
