//! Policy: one PlacementPolicy, every text of it parsed and every expression compiled, once for each change of the object.

use std::{cmp::Ordering, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use nave_crds::{
    OnFailure, Placement, PlacementPolicy, PlacementPolicyStatus, Prioritizer, PrioritizerKind, Spread, Step,
};

use super::{
    Fingerprint, Share, annotations::Annotations, duration::parse_duration, selector::Selector,
    window::Windows,
};
use crate::{
    PolicyKey,
    placement::cel::{CelProblem, Expressions},
};

/// One PlacementPolicy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) key: PolicyKey,
    pub(crate) object: Arc<PlacementPolicy>,
    /// Of its name.
    pub(crate) fingerprint: Fingerprint,
    /// Of its model's name.
    pub(crate) model_fingerprint: Fingerprint,
    /// `spec.model.version`, shared by what is asked of every cluster.
    pub(crate) target_name: Arc<str>,
    pub(crate) selector: Selector,
    pub(crate) expressions: Result<Expressions, CelProblem>,
    /// Absent = all that match.
    pub(crate) number: Option<usize>,
    pub(crate) steady: bool,
    pub(crate) steps: Vec<StepSpec>,
    pub(crate) max_concurrent: Share,
    pub(crate) max_failures: Share,
    pub(crate) deadline: SignedDuration,
    pub(crate) budget: Option<(String, Share)>,
    pub(crate) windows: Windows,
    pub(crate) annotations: Annotations,
    /// Fields that admission should have refused. Such a policy changes nothing.
    pub(crate) malformed: Vec<String>,
}

/// One step of a rollout.
#[derive(Clone, Debug)]
pub(crate) struct StepSpec {
    pub(crate) clusters: Share,
    pub(crate) soak: SignedDuration,
    pub(crate) approval: bool,
    /// Absent = all selected clusters.
    pub(crate) selector: Option<Selector>,
}

impl StepSpec {
    const EVERYBODY: Self =
        Self { clusters: Share::ALL, soak: SignedDuration::ZERO, approval: false, selector: None };
}

const DEFAULT_DEADLINE: SignedDuration = SignedDuration::from_hours(1);

impl Policy {
    pub(crate) fn new(key: PolicyKey, object: Arc<PlacementPolicy>) -> Self {
        let mut problems = Problems::default();
        let (placement, rollout) = (&object.spec.placement, &object.spec.rollout);
        let selector = problems
            .take("spec.placement.clusterSelector", Selector::parse(placement.cluster_selector.as_ref()));
        check_placement(placement, &mut problems);
        let number = placement.number_of_clusters.and_then(|number| usize::try_from(number).ok());
        let share = |field: &str, value: Option<&_>, default: Share, problems: &mut Problems| match value {
            Some(value) => problems.take_or(field, Share::parse(value), default),
            None => default,
        };
        let max_concurrent =
            share("spec.rollout.maxConcurrent", rollout.max_concurrent.as_ref(), Share::ALL, &mut problems);
        let max_failures =
            share("spec.rollout.maxFailures", rollout.max_failures.as_ref(), Share::Count(0), &mut problems);
        let budget = rollout.disruption_budget.as_ref().map(|budget| {
            let field = "spec.rollout.disruptionBudget.maxUnavailable";
            let share = problems.take_or(field, Share::parse(&budget.max_unavailable), Share::Count(0));
            (budget.group_by.clone(), share)
        });
        let deadline = match &rollout.progress_deadline {
            Some(text) => {
                problems.take_or("spec.rollout.progressDeadline", parse_duration(text), DEFAULT_DEADLINE)
            }
            None => DEFAULT_DEADLINE,
        };
        let windows = problems.take("spec.rollout.windows", Windows::parse(&rollout.windows));
        Self {
            steps: parse_steps(rollout.steps.as_deref(), &mut problems),
            expressions: Expressions::compile(&placement.cel),
            steady: placement.prioritizers.iter().any(|by| by.by == PrioritizerKind::Steady),
            annotations: Annotations::parse(&object),
            malformed: problems.0,
            fingerprint: Fingerprint::of(&key.namespace, &key.name),
            model_fingerprint: Fingerprint::of(&key.namespace, &object.spec.model.name),
            target_name: object.spec.model.version.as_str().into(),
            key,
            selector,
            number,
            max_concurrent,
            max_failures,
            deadline,
            budget,
            windows,
            object,
        }
    }

    pub(crate) fn model(&self) -> &str {
        &self.object.spec.model.name
    }

    pub(crate) fn target(&self) -> &str {
        &self.object.spec.model.version
    }

    pub(crate) fn runtime(&self) -> &str {
        self.object.spec.serving.runtime.as_deref().unwrap_or("files")
    }

    pub(crate) fn on_failure(&self) -> OnFailure {
        self.object.spec.rollout.on_failure
    }

    pub(crate) fn paused(&self) -> bool {
        self.object.spec.rollout.paused
    }

    pub(crate) fn prefetch(&self) -> bool {
        self.object.spec.rollout.prefetch
    }

    pub(crate) fn status(&self) -> Option<&PlacementPolicyStatus> {
        self.object.status.as_ref()
    }

    /// Over which domains the chosen clusters are spread.
    pub(crate) fn spread(&self) -> &[Spread] {
        &self.object.spec.placement.spread
    }

    /// Why the policy changes nothing; None = it is fit to decide.
    pub(crate) fn frozen(&self) -> Option<String> {
        if let Some(first) = self.malformed.first() {
            return Some(first.clone());
        }
        self.expressions.as_ref().err().map(ToString::to_string)
    }

    /// Who comes first where two want one cluster: higher priority, then older, then by name.
    pub(crate) fn precedes(&self, other: &Self) -> Ordering {
        self.precedence().cmp(&other.precedence())
    }

    /// Whether an older form of the same policy differs in nothing but its status.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.object, &other.object);
        a.spec == b.spec
            && a.metadata.generation == b.metadata.generation
            && a.metadata.annotations == b.metadata.annotations
            && a.metadata.creation_timestamp == b.metadata.creation_timestamp
    }

    fn precedence(&self) -> (std::cmp::Reverse<i32>, bool, Option<Timestamp>, &PolicyKey) {
        let created = self.object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(self.object.spec.priority), created.is_none(), created, &self.key)
    }
}

/// What is malformed, by field.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn take<T: Default, E: std::fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> T {
        self.take_or(field, result, T::default())
    }

    fn take_or<T, E: std::fmt::Display>(&mut self, field: &str, result: Result<T, E>, default: T) -> T {
        result.unwrap_or_else(|error| {
            self.0.push(format!("{field}: {error}"));
            default
        })
    }
}

fn check_placement(placement: &Placement, problems: &mut Problems) {
    if placement.number_of_clusters.is_some_and(|number| number < 0) {
        problems.0.push("spec.placement.numberOfClusters: must not be negative".into());
    }
    if placement.spread.iter().any(|spread| spread.max_skew < 1) {
        problems.0.push("spec.placement.spread: maxSkew must be at least 1".into());
    }
    let keyless =
        |by: &Prioritizer| by.by == PrioritizerKind::Label && by.key.as_deref().is_none_or(str::is_empty);
    if placement.prioritizers.iter().any(keyless) {
        problems.0.push("spec.placement.prioritizers: a prioritizer by Label needs a key".into());
    }
}

/// The steps, with the last one that everybody is in.
fn parse_steps(steps: Option<&[Step]>, problems: &mut Problems) -> Vec<StepSpec> {
    let mut parsed: Vec<StepSpec> = Vec::new();
    for step in steps.unwrap_or_default() {
        let clusters =
            problems.take_or("spec.rollout.steps.clusters", Share::parse(&step.clusters), Share::ALL);
        let soak = match &step.soak {
            Some(text) => {
                problems.take_or("spec.rollout.steps.soak", parse_duration(text), SignedDuration::ZERO)
            }
            None => SignedDuration::ZERO,
        };
        let selector = step.cluster_selector.as_ref().map(|selector| {
            problems.take("spec.rollout.steps.clusterSelector", Selector::parse(Some(selector)))
        });
        parsed.push(StepSpec { clusters, soak, approval: step.approval, selector });
    }
    let ends_with_everybody =
        parsed.last().is_some_and(|last| last.clusters == Share::ALL && last.selector.is_none());
    if !ends_with_everybody {
        parsed.push(StepSpec::EVERYBODY);
    }
    parsed
}
