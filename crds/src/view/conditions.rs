//! Conditions: which types there are, how one is found, and how one is set without moving its transition time for
//! nothing. The hub sets them, everybody reads them.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// EdgeCluster: the hub's consent.
pub const ACCEPTED: &str = "Accepted";
/// EdgeCluster: the spoke holds a session.
pub const CONNECTED: &str = "Connected";
/// EdgeCluster: the accelerators that are there are usable and used.
pub const ACCELERATORS_HEALTHY: &str = "AcceleratorsHealthy";
/// EdgeCluster: the store has room.
pub const STORAGE_HEALTHY: &str = "StorageHealthy";
/// EdgeCluster: what is desired is served.
pub const SERVING_HEALTHY: &str = "ServingHealthy";
/// EdgeCluster and ModelVersion: all that apply.
pub const READY: &str = "Ready";
/// ModelVersion: the manifest was read or computed, and its digest is the pinned one.
pub const RESOLVED: &str = "Resolved";
/// ModelVersion: the signature holds; absent if none is asked for.
pub const VERIFIED: &str = "Verified";
/// ClusterAssignment: the spoke has this generation in its ledger.
pub const ACKNOWLEDGED: &str = "Acknowledged";
/// PlacementPolicy: enough clusters.
pub const PLACED: &str = "Placed";
/// PlacementPolicy: the rollout moves.
pub const PROGRESSING: &str = "Progressing";
/// PlacementPolicy: every selected cluster serves the target.
pub const AVAILABLE: &str = "Available";
/// PlacementPolicy: a failure budget was used up, a version withdrawn, a rollback happened.
pub const DEGRADED: &str = "Degraded";
/// PlacementPolicy: outranked somewhere.
pub const CONFLICTED: &str = "Conflicted";
/// FineTuneJob: some cluster trains.
pub const RUNNING: &str = "Running";
/// FineTuneJob: every gate holds.
pub const GATES_PASSED: &str = "GatesPassed";
/// FineTuneJob: the new ModelVersion exists.
pub const PUBLISHED: &str = "Published";
/// FineTuneJob: nothing is left to do.
pub const COMPLETE: &str = "Complete";
/// FineTuneJob: given up.
pub const FAILED: &str = "Failed";

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can say; never counts as healthy.
    Unknown,
}

impl Status {
    /// As Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a condition shall say from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// One of the constants of this module.
    pub type_: &'a str,
    /// Whether it holds.
    pub status: Status,
    /// One CamelCase word; the API server refuses an empty one.
    pub reason: &'a str,
    /// For people.
    pub message: String,
    /// The generation of the spec that it speaks of.
    pub observed_generation: Option<i64>,
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The status of the condition of this type; a missing one, or one of an unknown spelling, is Unknown.
pub fn status(conditions: &[Condition], type_: &str) -> Status {
    match find(conditions, type_).map(|condition| condition.status.as_str()) {
        Some("True") => Status::True,
        Some("False") => Status::False,
        _ => Status::Unknown,
    }
}

/// True only when the condition is there and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    status(conditions, type_) == Status::True
}

/// Sets one condition. Its `lastTransitionTime` is `now` only where the status is another than before (or the condition
/// is new), and the list stays sorted as it was, a new one last. Returns whether anything changed, so that a caller
/// can leave out a write.
pub fn set(conditions: &mut Vec<Condition>, update: Update<'_>, now: Timestamp) -> bool {
    let Update { type_, status, reason, message, observed_generation } = update;
    let mut next = Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation,
        last_transition_time: Time(now),
    };
    let Some(present) = conditions.iter_mut().find(|condition| condition.type_ == type_) else {
        conditions.push(next);
        return true;
    };
    if present.status == next.status {
        next.last_transition_time = present.last_transition_time.clone();
    }
    let changed = *present != next;
    *present = next;
    changed
}

/// Takes a condition away, for those that do not apply any more. Returns whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != type_);
    conditions.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(status: Status, reason: &str) -> Update<'_> {
        Update { type_: READY, status, reason, message: String::new(), observed_generation: Some(1) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_with_the_status_alone() {
        let mut conditions = Vec::new();
        assert!(set(&mut conditions, update(Status::False, "Pulling"), at(10)));
        assert!(set(&mut conditions, update(Status::False, "Verifying"), at(20)));
        assert_eq!(find(&conditions, READY).unwrap().last_transition_time, Time(at(10)));
        assert!(!set(&mut conditions, update(Status::False, "Verifying"), at(30)));
        assert!(set(&mut conditions, update(Status::True, "Serving"), at(40)));
        assert_eq!(find(&conditions, READY).unwrap().last_transition_time, Time(at(40)));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn what_is_missing_is_unknown() {
        assert_eq!(status(&[], CONNECTED), Status::Unknown);
        assert!(!is_true(&[], CONNECTED));
    }

    #[test]
    fn a_condition_that_does_not_apply_goes() {
        let mut conditions = Vec::new();
        set(&mut conditions, update(Status::True, "Serving"), at(1));
        assert!(remove(&mut conditions, READY));
        assert!(!remove(&mut conditions, READY));
    }
}
