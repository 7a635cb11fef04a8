//! What applying some files would change: two plans of one moment, one without and one with them.

use std::collections::{BTreeMap, BTreeSet};

use nave_crds::{AssignmentEntry, ClusterAssignmentSpec, StepStatus};
use nave_names::ClusterName;
use nave_operator_plan::{Plan, PolicyKey, PolicyReport, World};
use serde::Serialize;

/// Only what differs.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Difference {
    pub(super) policies: BTreeMap<PolicyKey, PolicyDifference>,
    pub(super) clusters: BTreeMap<ClusterName, Vec<EntryDifference>>,
}

/// How one policy's plan differs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct PolicyDifference {
    /// Absent = the policy is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Stand>,
    pub(super) after: Stand,
    pub(super) selected: Moves,
    pub(super) tell: Moves,
}

/// Where a policy's run stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Stand {
    pub(super) target: String,
    pub(super) step: StepStatus,
}

/// Clusters that come and go.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Moves {
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
}

/// How one entry of a cluster's assignment differs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct EntryDifference {
    pub(super) policy: PolicyKey,
    pub(super) model: String,
    /// Actions and versions, such as `Serve 1.2.0`; empty = no entry.
    pub(super) before: Vec<String>,
    pub(super) after: Vec<String>,
}

impl Difference {
    /// From the plan without to the plan with.
    pub(super) fn between(before: (&World, &Plan), after: (&World, &Plan)) -> Self {
        let mut difference = Self::default();
        for (key, report) in &after.1.report.policies {
            let was = before.1.report.policies.get(key).map(AsRef::as_ref);
            if let Some(changed) = policy_difference(was, report) {
                difference.policies.insert(key.clone(), changed);
            }
        }
        let clusters: BTreeSet<&ClusterName> = [before, after].into_iter().flat_map(assigned).collect();
        for name in clusters {
            let changed = entry_differences(&entries(before, name), &entries(after, name));
            if !changed.is_empty() {
                difference.clusters.insert(name.clone(), changed);
            }
        }
        difference
    }

    pub(super) fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.clusters.is_empty()
    }
}

fn policy_difference(before: Option<&PolicyReport>, after: &PolicyReport) -> Option<PolicyDifference> {
    let names = |report: Option<&PolicyReport>, of: fn(&PolicyReport) -> &[nave_operator_plan::Name]| {
        report.map_or_else(BTreeSet::new, |report| of(report).iter().map(ToString::to_string).collect())
    };
    let selected = Moves::between(&names(before, |r| &r.selected), &names(Some(after), |r| &r.selected));
    let tell = Moves::between(&names(before, |r| &r.tell), &names(Some(after), |r| &r.tell));
    let stand = |report: &PolicyReport| Stand { target: report.target.clone(), step: report.step.clone() };
    let (was, is) = (before.map(stand), stand(after));
    let same = was.as_ref() == Some(&is) && selected.is_empty() && tell.is_empty();
    (!same).then_some(PolicyDifference { before: was, after: is, selected, tell })
}

impl Moves {
    fn between(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Self {
        Self {
            added: after.difference(before).cloned().collect(),
            removed: before.difference(after).cloned().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

fn assigned<'a>((world, plan): (&'a World, &'a Plan)) -> impl Iterator<Item = &'a ClusterName> {
    world.assignments().keys().chain(plan.assignments.keys())
}

type Entries = BTreeMap<(PolicyKey, String), Vec<String>>;

/// A cluster's entries once the plan is applied, by policy and model.
fn entries((world, plan): (&World, &Plan), cluster: &ClusterName) -> Entries {
    let stored = world.assignments().get(cluster).map(|assignment| &assignment.spec);
    let spec: Option<&ClusterAssignmentSpec> = plan.assignments.get(cluster).map(|spec| &**spec).or(stored);
    let mut entries = Entries::new();
    for entry in spec.map(|spec| spec.entries.iter()).into_iter().flatten() {
        let key = (PolicyKey::new(&entry.namespace, &entry.policy), entry.model.clone());
        entries.entry(key).or_default().push(shown(entry));
    }
    entries
}

fn shown(entry: &AssignmentEntry) -> String {
    format!("{} {}", entry.action, entry.version).trim_end().to_owned()
}

fn entry_differences(before: &Entries, after: &Entries) -> Vec<EntryDifference> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let of = |entries: &Entries, key| entries.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| EntryDifference {
            policy: key.0.clone(),
            model: key.1.clone(),
            before: of(before, key),
            after: of(after, key),
        })
        .collect()
}
