//! Report: what a plan decided and why, for each policy. Conditions, Events, `kubectl nave plan`, `explain` and the status
//! page are renderings of it. It serialises as the `policies` part of `kubectl nave plan -o json`.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use nave_crds::{RolloutPhase, StepState, StepStatus, WaitRule, view::conditions::Status};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::PolicyKey;

/// A cluster's name, shared by every list that holds it.
pub type Name = Arc<str>;

/// What a plan decided and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Report {
    /// By policy.
    pub policies: BTreeMap<PolicyKey, Arc<PolicyReport>>,
}

/// What a plan decided for one policy, and why. Lists are sorted by name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// Clusters whose labels match.
    pub matched: Vec<Name>,
    /// Those that are chosen.
    pub selected: Vec<Name>,
    /// Matched clusters that are not chosen, each with the first reason.
    pub excluded: Vec<Excluded>,
    /// The candidates, best first.
    pub ranking: Vec<Ranked>,
    /// Where the run is.
    pub step: StepStatus,
    /// Told to switch to the target by this plan, not before.
    pub tell: Vec<Name>,
    /// Connected and serving the target.
    pub serving: Vec<Name>,
    /// Connected, told, neither serving nor failed.
    pub in_flight: Vec<Name>,
    /// Failed for the target.
    pub failed: Vec<Name>,
    /// Why each of these did.
    pub failures: Vec<Failure>,
    /// Neither failed nor reachable, or held by requirements.
    pub deferred: Vec<Name>,
    /// Sent back in this run.
    pub rolled_back: Vec<Name>,
    /// What holds up whom; one row for each rule.
    pub waiting_on: Vec<Wait>,
    /// Placed, Progressing, Available, Degraded, Conflicted.
    pub conditions: Vec<ConditionReport>,
    /// The phase of the run.
    #[serde(skip)]
    pub phase: RolloutPhase,
    /// The version that the run brings.
    #[serde(skip)]
    pub target: String,
}

/// A matched cluster that is not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excluded {
    /// The cluster.
    pub cluster: Name,
    /// The first reason that applies.
    pub reason: ExclusionReason,
    /// The same for people.
    pub message: Arc<str>,
}

/// A cluster that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The cluster.
    pub cluster: Name,
    /// Why it counts as failed: what its spoke said, or what it did not do in time.
    pub message: String,
}

/// Why a matched cluster is not chosen, in the order in which reasons are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[allow(missing_docs)]
pub enum ExclusionReason {
    NotAccepted,
    Tainted,
    CelFalse,
    CelError,
    Architecture,
    Accelerator,
    Runtime,
    Storage,
    Outranked,
    SpreadKeyMissing,
    Spread,
    OutOfNumber,
}

impl ExclusionReason {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAccepted => "NotAccepted",
            Self::Tainted => "Tainted",
            Self::CelFalse => "CelFalse",
            Self::CelError => "CelError",
            Self::Architecture => "Architecture",
            Self::Accelerator => "Accelerator",
            Self::Runtime => "Runtime",
            Self::Storage => "Storage",
            Self::Outranked => "Outranked",
            Self::SpreadKeyMissing => "SpreadKeyMissing",
            Self::Spread => "Spread",
            Self::OutOfNumber => "OutOfNumber",
        }
    }
}

/// One candidate's place, with what decided it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ranked {
    /// The cluster.
    pub cluster: Name,
    /// Ranked first because it was chosen already; false where Steady is a prioritizer.
    pub kept: bool,
    /// Untolerated PreferNoSelect taints.
    pub prefer_no_select: u32,
    /// Sum of weight x score.
    #[serde(serialize_with = "points")]
    pub total: f64,
    /// Unweighted scores, -100 to 100, by prioritizer.
    #[serde(serialize_with = "scores")]
    pub scores: Vec<(Arc<str>, f64)>,
}

/// Whole numbers without a fraction, as people write them.
fn points<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        #[allow(clippy::cast_possible_truncation)]
        return serializer.serialize_i64(*value as i64);
    }
    serializer.serialize_f64(*value)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Points(#[serde(serialize_with = "points")] f64);

fn scores<S: Serializer>(scores: &[(Arc<str>, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(scores.len()))?;
    for (name, score) in scores {
        map.serialize_entry(name, &Points(*score))?;
    }
    map.end()
}

/// One rule that holds clusters up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The rule.
    pub rule: WaitRule,
    /// Whom it holds up, sorted.
    pub clusters: Vec<Name>,
    /// When time alone ends it for the first of them.
    pub until: Option<Timestamp>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionReport {
    /// Placed, Progressing, Available, Degraded, Conflicted.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// Whether it holds.
    #[serde(serialize_with = "status_word")]
    pub status: Status,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

fn status_word<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(status.as_str())
}

/// Where a selected cluster is in the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Category {
    /// Connected and serving the target.
    Serving,
    /// Connected, told, neither serving nor failed.
    InFlight,
    /// Failed for the target.
    Failed,
    /// Neither failed nor reachable, or held by requirements.
    Deferred,
    /// Not told yet.
    Waiting,
}

/// Everything that the report says of one cluster and one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The cluster.
    pub cluster: Name,
    /// Whether its labels match.
    pub matched: bool,
    /// Whether it is chosen.
    pub selected: bool,
    /// Why it is not.
    pub excluded: Option<Excluded>,
    /// Its place among the candidates, from 1.
    pub rank: Option<usize>,
    /// What decided that place.
    pub score: Option<Ranked>,
    /// Where it is in the rollout.
    pub category: Option<Category>,
    /// Why it counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Whether this plan tells it to switch.
    pub told_now: bool,
    /// Whether it was sent back in this run.
    pub rolled_back: bool,
    /// What it waits for.
    pub waits: Vec<Wait>,
}

impl PolicyReport {
    /// What the report says of one cluster; a cluster that it does not know is neither matched nor selected.
    pub fn explain(&self, cluster: &str) -> Explanation {
        let has = |list: &[Name]| list.binary_search_by(|name| (**name).cmp(cluster)).is_ok();
        let category = if has(&self.serving) {
            Some(Category::Serving)
        } else if has(&self.in_flight) {
            Some(Category::InFlight)
        } else if has(&self.failed) {
            Some(Category::Failed)
        } else if has(&self.deferred) {
            Some(Category::Deferred)
        } else {
            has(&self.selected).then_some(Category::Waiting)
        };
        let rank = self.ranking.iter().position(|ranked| &*ranked.cluster == cluster);
        let failure = self.failures.iter().find(|failure| &*failure.cluster == cluster);
        Explanation {
            cluster: Name::from(cluster),
            matched: has(&self.matched),
            selected: has(&self.selected),
            excluded: self.excluded.iter().find(|excluded| &*excluded.cluster == cluster).cloned(),
            rank: rank.map(|place| place + 1),
            score: rank.and_then(|place| self.ranking.get(place).cloned()),
            category,
            failure: failure.map(|failure| failure.message.clone()),
            told_now: has(&self.tell),
            rolled_back: has(&self.rolled_back),
            waits: self.waiting_on.iter().filter(|wait| has(&wait.clusters)).cloned().collect(),
        }
    }

    /// The clusters that this report names: matched ones and chosen ones.
    pub fn clusters(&self) -> std::collections::BTreeSet<Name> {
        self.matched.iter().chain(&self.selected).cloned().collect()
    }

    /// Whether the run is at its end.
    pub fn is_complete(&self) -> bool {
        self.step.state == StepState::Complete
    }
}
