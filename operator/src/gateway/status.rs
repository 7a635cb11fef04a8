//! From what is observed to what is stored: EdgeCluster.status and ClusterAssignment.status. Pure, and equal input gives
//! equal output, so that a writer compares and leaves the write out.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use nave_crds::{
    AcceleratorStatus, Action, Capacity, ClusterAssignment, ClusterAssignmentStatus, EdgeCluster,
    EdgeClusterStatus, Identity, ModelCounts, Phase, RuntimeStatus, SessionStatus, Storage,
    view::conditions::{self, Status, Update},
};
use nave_proto::v1::{self, health::State};

use super::observed::{Link, Observed};

/// Free space is written when it moved by more than this part of the whole: a log that grows is no news.
const STORAGE_STEPS: i64 = 64;

/// The status of the cluster. `None` = nothing to write.
pub(super) fn of_cluster(
    cluster: &EdgeCluster,
    assignment: Option<&ClusterAssignment>,
    observed: &Observed,
    gateway: &str,
    now: Timestamp,
) -> Option<EdgeClusterStatus> {
    if !is_ours(cluster, observed.link, gateway) {
        return None;
    }
    let before = cluster.status.clone().unwrap_or_default();
    let mut after = before.clone();
    after.observed_generation = cluster.metadata.generation;
    after.models = Some(counts(assignment, observed));
    match observed.link {
        // What it said before it went is as true within the grace period as it was.
        Link::Up | Link::Down => connected(&mut after, &before, observed, gateway),
        Link::Lost => after.session = None,
    }
    set_conditions(&mut after.conditions, cluster, observed, now);
    if same(&before, &after) {
        return None;
    }
    if observed.link == Link::Up {
        after.last_seen = Some(Time(now));
    }
    Some(after)
}

/// Whether this gateway is the one to write: a spoke without a session here may have one at another by now.
fn is_ours(cluster: &EdgeCluster, link: Link, gateway: &str) -> bool {
    let session = cluster.status.as_ref().and_then(|status| status.session.as_ref());
    link == Link::Up || session.is_some_and(|session| session.gateway == gateway)
}

/// Times are stored in whole seconds, and `lastSeen` alone is no change.
fn same(before: &EdgeClusterStatus, after: &EdgeClusterStatus) -> bool {
    let stored = |status: &EdgeClusterStatus| {
        serde_json::to_value(EdgeClusterStatus { last_seen: None, ..status.clone() }).ok()
    };
    stored(before) == stored(after)
}

fn connected(after: &mut EdgeClusterStatus, before: &EdgeClusterStatus, observed: &Observed, gateway: &str) {
    after.session = Some(SessionStatus { gateway: gateway.to_owned(), since: Time(observed.since) });
    after.agent_version = Some(observed.agent_version.clone());
    after.certificate_not_after = Some(Time(observed.not_after));
    if after.identity.is_none() {
        let public_key_digest = observed.key.to_string();
        after.identity = Some(Identity { public_key_digest, enrolled_at: Some(Time(observed.since)) });
    }
    if let Some(address) = &observed.peer_address {
        after.peer_address = Some(address.clone()).filter(|address| !address.is_empty());
    }
    if let Some(facts) = &observed.facts {
        after.facts = facts.clone();
    }
    if let Some(capacity) = &observed.capacity {
        after.capacity = Some(steady(capacity_of(capacity), before.capacity.as_ref()));
    }
}

fn capacity_of(capacity: &v1::Capacity) -> Capacity {
    let bytes = |bytes: u64| i64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    let total_bytes = bytes(capacity.storage_total_bytes);
    let available_bytes = total_bytes.and_then(|_| i64::try_from(capacity.storage_available_bytes).ok());
    let accelerators = capacity.accelerators.iter().map(|a| AcceleratorStatus {
        vendor: a.vendor.clone(),
        model: a.model.clone(),
        memory_bytes: bytes(a.memory_bytes),
        driver: a.driver.clone(),
        usable: a.usable,
        reason: a.reason.clone(),
    });
    let runtimes = capacity.runtimes.iter().map(|r| RuntimeStatus {
        name: r.name.clone(),
        version: r.version.clone(),
        ready: r.ready,
    });
    Capacity {
        architecture: (!capacity.architecture.is_empty()).then(|| capacity.architecture.clone()),
        cpu: (capacity.cpu > 0).then(|| i64::from(capacity.cpu)),
        memory_bytes: bytes(capacity.memory_bytes),
        storage: Some(Storage { total_bytes, available_bytes }),
        accelerators: accelerators.collect(),
        runtimes: runtimes.collect(),
    }
}

/// Keeps the free space that is stored while it is near enough.
fn steady(mut capacity: Capacity, stored: Option<&Capacity>) -> Capacity {
    let before = stored.and_then(|c| c.storage.as_ref());
    if let (Some(before), Some(now)) = (before, capacity.storage.as_mut())
        && let (Some(total), Some(was), Some(is)) =
            (now.total_bytes, before.available_bytes, now.available_bytes)
        && before.total_bytes == now.total_bytes
        && (was - is).abs() <= total / STORAGE_STEPS
    {
        now.available_bytes = Some(was);
    }
    capacity
}

fn counts(assignment: Option<&ClusterAssignment>, observed: &Observed) -> ModelCounts {
    let entries = assignment.map(|a| a.spec.entries.as_slice()).unwrap_or_default();
    let serve: Vec<_> = entries.iter().filter(|entry| entry.action == Action::Serve).collect();
    let rows = observed.rows();
    let stored = assignment.and_then(|a| a.status.as_ref()).map(|s| s.entries.clone());
    let rows = rows.or(stored).unwrap_or_default();
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let serving = serve.iter().filter(|entry| {
        rows.iter().any(|row| {
            row.phase == Phase::Serving
                && (&row.namespace, &row.model, &row.version)
                    == (&entry.namespace, &entry.model, &entry.version)
        })
    });
    ModelCounts {
        desired: number(serve.len()),
        serving: number(serving.count()),
        failed: number(rows.iter().filter(|row| row.phase.is_failure()).count()),
    }
}

fn set_conditions(
    conditions: &mut Vec<Condition>,
    cluster: &EdgeCluster,
    observed: &Observed,
    now: Timestamp,
) {
    let observed_generation = cluster.metadata.generation;
    let mut set = |type_, (status, reason, message): (Status, &str, String)| {
        conditions::set(conditions, Update { type_, status, reason, message, observed_generation }, now);
    };
    set(conditions::ACCEPTED, accepted(cluster));
    set(
        conditions::CONNECTED,
        match observed.link {
            Link::Up | Link::Down => (Status::True, "SessionOpen", String::new()),
            Link::Lost => (
                Status::False,
                "SessionLost",
                "the spoke's session ended and it did not reconnect within the grace period".to_owned(),
            ),
        },
    );
    let health = observed.health.clone().unwrap_or_default();
    let lost = observed.link == Link::Lost;
    set(conditions::STORAGE_HEALTHY, healthy(health.storage(), &health.storage_message, lost));
    set(conditions::SERVING_HEALTHY, healthy(health.serving(), &health.serving_message, lost));
    let has_accelerators = observed.capacity.as_ref().is_some_and(|c| !c.accelerators.is_empty());
    if has_accelerators {
        set(
            conditions::ACCELERATORS_HEALTHY,
            healthy(health.accelerators(), &health.accelerators_message, lost),
        );
    } else if observed.capacity.is_some() {
        conditions::remove(conditions, conditions::ACCELERATORS_HEALTHY);
    }
    let (status, reason, message) = match observed.link {
        Link::Up | Link::Down => ready(conditions),
        Link::Lost => (Status::Unknown, "NotConnected".into(), "the spoke is not connected".into()),
    };
    let ready = Update { type_: conditions::READY, status, reason: &reason, message, observed_generation };
    conditions::set(conditions, ready, now);
}

fn accepted(cluster: &EdgeCluster) -> (Status, &'static str, String) {
    if cluster.spec.revoked {
        return (Status::False, "Revoked", "spec.revoked is true".into());
    }
    if !cluster.spec.accepted {
        let message = "spec.accepted is not true: `kubectl nave accept` lets it in".into();
        return (Status::False, "NotAccepted", message);
    }
    (Status::True, "Accepted", String::new())
}

fn healthy(state: State, message: &str, lost: bool) -> (Status, &'static str, String) {
    match (lost, state) {
        (true, _) => (Status::Unknown, "NotConnected", "the spoke is not connected".into()),
        (false, State::Healthy) => (Status::True, "Healthy", message.to_owned()),
        (false, State::Unhealthy) => (Status::False, "Unhealthy", message.to_owned()),
        (false, State::Unspecified) => (Status::Unknown, "NotReported", "the spoke has not said".into()),
    }
}

/// All the others that are there: the first that is False decides, then the first that is Unknown.
fn ready(conditions: &[Condition]) -> (Status, String, String) {
    let others = || conditions.iter().filter(|c| c.type_ != conditions::READY);
    let first = |wanted: Status| others().find(|c| c.status == wanted.as_str());
    if let Some(condition) = first(Status::False) {
        let message = format!("{}: {}", condition.type_, condition.reason);
        return (Status::False, format!("Not{}", condition.type_), message);
    }
    if let Some(condition) = first(Status::Unknown) {
        let message = format!("{}: {}", condition.type_, condition.reason);
        return (Status::Unknown, format!("{}Unknown", condition.type_), message);
    }
    (Status::True, "Ready".into(), String::new())
}

/// The status of the assignment. `None` = nothing to write.
pub(super) fn of_assignment(
    assignment: &ClusterAssignment,
    cluster: &EdgeCluster,
    observed: &Observed,
    gateway: &str,
    now: Timestamp,
) -> Option<ClusterAssignmentStatus> {
    if observed.link == Link::Lost || !is_ours(cluster, observed.link, gateway) {
        return None;
    }
    let before = assignment.status.clone().unwrap_or_default();
    let mut after = before.clone();
    after.observed_generation = i64::try_from(observed.generation).ok();
    if let Some(rows) = observed.rows() {
        after.entries = rows;
    }
    after.history.clone_from(&observed.history);
    if let Some(answer) = &observed.answer {
        let (status, reason) = match answer.accepted {
            true => (Status::True, "Accepted"),
            false if answer.reason.is_empty() => (Status::False, "Refused"),
            false => (Status::False, answer.reason.as_str()),
        };
        let message = format!("generation {}{}", answer.generation, colon(&answer.message));
        let observed_generation = assignment.metadata.generation;
        let update = Update { type_: conditions::ACKNOWLEDGED, status, reason, message, observed_generation };
        conditions::set(&mut after.conditions, update, now);
    }
    let stored = |status: &ClusterAssignmentStatus| serde_json::to_value(status).ok();
    (stored(&before) != stored(&after)).then_some(after)
}

fn colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
