//! The fleet at a glance, as data: made from the objects alone. The table and the JSON are renderings of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use nave_crds::{
    Action, AssignmentEntry, Capacity, ClusterAssignment, ClusterCounts, EdgeCluster, EntryStatus,
    ModelCounts, Phase, PlacementPolicy, StepStatus, WaitingOn,
    view::conditions::{self, Status},
};
use serde::Serialize;

/// Clusters, policies, and what each policy asks of each cluster.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Fleet {
    pub(super) clusters: Vec<ClusterRow>,
    pub(super) policies: Vec<PolicyRow>,
    pub(super) entries: Vec<EntryRow>,
}

/// One spoke.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterRow {
    pub(super) name: String,
    pub(super) accepted: bool,
    pub(super) revoked: bool,
    pub(super) connected: &'static str,
    pub(super) ready: &'static str,
    /// Since when `connected` says what it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) models: Option<ModelCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capacity: Option<Capacity>,
}

/// One policy.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyRow {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) model: String,
    pub(super) version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clusters: Option<ClusterCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<StepStatus>,
    pub(super) available: &'static str,
    pub(super) waiting_on: Vec<WaitingOn>,
}

/// One thing that a policy asks of a cluster, or that a cluster holds without being asked any more.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EntryRow {
    pub(super) cluster: String,
    pub(super) namespace: String,
    /// Absent = no policy asks for it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<String>,
    pub(super) model: String,
    pub(super) version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) action: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phase: Option<Phase>,
    /// While it is pulled or verified, where a replica of the hub told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<Progress>,
    pub(super) digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
    pub(super) reason: String,
    pub(super) message: String,
}

/// How far a spoke is with a version.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    pub(super) bytes_done: u64,
    /// 0 = not known yet.
    pub(super) bytes_total: u64,
}

impl EntryRow {
    pub(super) fn is_pulling(&self) -> bool {
        matches!(self.phase, Some(Phase::Pulling | Phase::Verifying))
    }
}

/// What the API server holds.
pub(super) struct Objects {
    pub(super) clusters: Vec<EdgeCluster>,
    pub(super) policies: Vec<PlacementPolicy>,
    pub(super) assignments: Vec<ClusterAssignment>,
}

impl Objects {
    /// Everything, sorted by name; entries of the namespaces in `only` where there is one.
    pub(super) fn fleet(&self, only: Option<&str>) -> Fleet {
        let mut clusters: Vec<_> = self.clusters.iter().map(cluster_row).collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        let mut policies: Vec<_> = self.policies.iter().map(policy_row).collect();
        policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let known: BTreeSet<&str> = clusters.iter().map(|row| row.name.as_str()).collect();
        let mut entries: Vec<_> = self
            .assignments
            .iter()
            .filter(|assignment| known.contains(assignment.name_any().as_str()))
            .flat_map(entry_rows)
            .filter(|row| only.is_none_or(|namespace| row.namespace == namespace))
            .collect();
        entries.sort_by(|a, b| entry_order(a).cmp(&entry_order(b)));
        Fleet { clusters, policies, entries }
    }
}

/// What is asked before what is only still there.
fn entry_order(row: &EntryRow) -> (&str, &str, &str, bool, Option<Action>, &str) {
    (&row.cluster, &row.namespace, &row.model, row.action.is_none(), row.action, &row.version)
}

fn cluster_row(cluster: &EdgeCluster) -> ClusterRow {
    let status = cluster.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let connected = conditions::find(conditions, conditions::CONNECTED);
    ClusterRow {
        name: cluster.name_any(),
        accepted: cluster.spec.accepted,
        revoked: cluster.spec.revoked,
        connected: conditions::status(conditions, conditions::CONNECTED).as_str(),
        ready: conditions::status(conditions, conditions::READY).as_str(),
        since: connected.map(|condition| condition.last_transition_time.0),
        agent_version: status.and_then(|status| status.agent_version.clone()),
        models: status.and_then(|status| status.models),
        capacity: status.and_then(|status| status.capacity.clone()),
    }
}

fn policy_row(policy: &PlacementPolicy) -> PolicyRow {
    let status = policy.status.as_ref();
    let available = status
        .map_or(Status::Unknown, |status| conditions::status(&status.conditions, conditions::AVAILABLE));
    PolicyRow {
        namespace: policy.namespace().unwrap_or_default(),
        name: policy.name_any(),
        model: policy.spec.model.name.clone(),
        version: policy.spec.model.version.clone(),
        clusters: status.and_then(|status| status.clusters),
        step: status.and_then(|status| status.step.clone()),
        available: available.as_str(),
        waiting_on: status.map(|status| status.waiting_on.clone()).unwrap_or_default(),
    }
}

/// The entries with what the spoke said of each, then what it said of versions that no entry names.
fn entry_rows(assignment: &ClusterAssignment) -> Vec<EntryRow> {
    let cluster = assignment.name_any();
    let reports = assignment.status.as_ref().map_or(&[][..], |status| &status.entries);
    let mut unasked: BTreeMap<_, _> = reports.iter().map(|row| (report_key(row), row)).collect();
    let mut rows = Vec::new();
    for entry in &assignment.spec.entries {
        let key = (entry.namespace.as_str(), entry.model.as_str(), entry.version.as_str());
        rows.push(row(&cluster, Some(entry), reports.iter().find(|row| report_key(row) == key)));
        unasked.remove(&key);
    }
    rows.extend(unasked.into_values().map(|report| row(&cluster, None, Some(report))));
    rows
}

fn report_key(row: &EntryStatus) -> (&str, &str, &str) {
    (&row.namespace, &row.model, &row.version)
}

fn row(cluster: &str, asked: Option<&AssignmentEntry>, report: Option<&EntryStatus>) -> EntryRow {
    let text = |of_asked: Option<&String>, of_report: Option<&String>| {
        of_report.filter(|text| !text.is_empty()).or(of_asked).cloned().unwrap_or_default()
    };
    EntryRow {
        cluster: cluster.to_owned(),
        namespace: text(asked.map(|entry| &entry.namespace), report.map(|row| &row.namespace)),
        policy: asked.map(|entry| entry.policy.clone()),
        model: text(asked.map(|entry| &entry.model), report.map(|row| &row.model)),
        version: text(asked.map(|entry| &entry.version), report.map(|row| &row.version)),
        action: asked.map(|entry| entry.action),
        phase: report.map(|row| row.phase),
        progress: None,
        digest: text(asked.map(|entry| &entry.manifest_digest), report.map(|row| &row.digest)),
        since: report.map(|row| row.since.0).or(asked.and_then(|entry| told_at(&entry.told_at))),
        reason: report.map(|row| row.reason.clone()).unwrap_or_default(),
        message: report.map(|row| row.message.clone()).unwrap_or_default(),
    }
}

fn told_at(time: &Option<Time>) -> Option<Timestamp> {
    time.as_ref().map(|time| time.0)
}
