//! The document that `kubectl nave plan -o json` prints: the report, and the objects as the hub would store them, so that
//! they can be fed back as the next plan's input.

use std::sync::Arc;

use jiff::Timestamp;
use nave_crds::{ClusterAssignment, ClusterAssignmentSpec};
use serde_json::{Value, json};

use crate::{Plan, World};

/// The whole document.
///
/// # Errors
/// A value that JSON cannot hold; no object that came from JSON or YAML has one.
pub fn plan_document(world: &World, plan: &Plan, at: Timestamp) -> Result<Value, serde_json::Error> {
    let mut objects = Vec::new();
    for assignment in assignments_after(world, plan) {
        objects.push(serde_json::to_value(assignment)?);
    }
    for (key, policy) in &world.policies {
        let mut policy = Arc::clone(policy);
        if let Some(status) = plan.policy_status.get(key) {
            Arc::make_mut(&mut policy).status = Some(status.clone());
        }
        objects.push(serde_json::to_value(policy)?);
    }
    Ok(json!({
        "at": at,
        "recheckAt": plan.recheck_at,
        "policies": serde_json::to_value(&plan.report)?,
        "objects": objects,
    }))
}

/// Every assignment as it is stored once the plan is applied, by name.
fn assignments_after(world: &World, plan: &Plan) -> Vec<Arc<ClusterAssignment>> {
    let mut after = world.assignments.clone();
    for (name, spec) in &plan.assignments {
        let assignment = after.entry(name.clone()).or_insert_with(|| {
            Arc::new(ClusterAssignment::new(name.as_str(), ClusterAssignmentSpec::default()))
        });
        Arc::make_mut(assignment).spec = (**spec).clone();
    }
    after.into_values().collect()
}
