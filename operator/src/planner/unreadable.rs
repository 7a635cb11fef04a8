//! What the planner must not conclude from objects that this release cannot decode: a policy that cannot be read is not
//! a policy that was deleted. Pure.

use std::{collections::BTreeSet, sync::Arc};

use nave_crds::{AssignmentEntry, ClusterAssignmentSpec};
use nave_operator_plan::{Decisions, PolicyKey, World as PlanWorld};

/// Puts the entries of unreadable policies back where the plan would take them away, and drops the assignments that
/// then stay as they are stored.
pub fn keep_entries(plan: &mut Decisions, world: &PlanWorld, unreadable: &BTreeSet<PolicyKey>) {
    if unreadable.is_empty() {
        return;
    }
    plan.assignments.retain(|cluster, spec| {
        let Some(stored) = world.assignments().get(cluster) else { return true };
        let kept = stored.spec.entries.iter().filter(|entry| unreadable.contains(&policy_of(entry)));
        let kept: Vec<_> = kept.cloned().collect();
        if !kept.is_empty() {
            let spec = Arc::make_mut(spec);
            spec.entries.extend(kept);
            sort(spec);
        }
        spec.entries != stored.spec.entries
    });
}

fn policy_of(entry: &AssignmentEntry) -> PolicyKey {
    PolicyKey::new(&entry.namespace, &entry.policy)
}

fn sort(spec: &mut ClusterAssignmentSpec) {
    spec.entries.sort_by(|a, b| {
        let key = |e: &AssignmentEntry| {
            (e.namespace.clone(), e.policy.clone(), e.model.clone(), e.action, e.version.clone())
        };
        key(a).cmp(&key(b))
    });
}

#[cfg(test)]
mod tests {
    use nave_crds::ClusterAssignment;
    use nave_names::ClusterName;

    use super::*;

    #[test]
    fn what_an_unreadable_policy_placed_stays() {
        let value = serde_json::json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "ClusterAssignment", "metadata": {"name": "a"},
            "spec": {"generation": 3, "entries": [
                {"namespace": "n", "policy": "read", "model": "m", "version": "1", "action": "Serve"},
                {"namespace": "n", "policy": "unread", "model": "k", "version": "1", "action": "Serve"}]}
        });
        let stored: ClusterAssignment = serde_json::from_value(value).unwrap();
        let world = PlanWorld::new([], [], [], [Arc::new(stored.clone())]);
        let unreadable = BTreeSet::from([PolicyKey::new("n", "unread")]);
        let plan_that_keeps = |entries: Vec<Arc<AssignmentEntry>>| {
            let spec = ClusterAssignmentSpec { generation: 4, entries };
            let mut plan = Decisions::default();
            plan.assignments.insert(ClusterName::new("a").unwrap(), Arc::new(spec));
            keep_entries(&mut plan, &world, &unreadable);
            plan.assignments.into_values().next()
        };
        assert_eq!(plan_that_keeps(vec![stored.spec.entries[0].clone()]), None, "nothing else was to change");
        let spec = plan_that_keeps(vec![]).unwrap();
        assert_eq!(spec.entries, [stored.spec.entries[1].clone()]);
    }
}
