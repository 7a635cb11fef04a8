//! Outcome: from where a policy's clusters are to its status, and to the report that names each of them.

use std::sync::Arc;

use jiff::Timestamp;
use nave_crds::{PlacementPolicyStatus, StepStatus};

use crate::{
    Category, Excluded, Failure, Name, PlanEvent, PolicyReport,
    at_rest::AtRest,
    conditions::{self, Facts},
    events,
    input::{Catalogue, Policy},
    placement::{Choice, Member},
    rollout::{Look, Rolled, Seat, failures, roll},
    status::{self, Summary},
    tally::{Counts, ExcludedRow},
};

/// What one plan decides for one policy, beside what is asked of its clusters.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: PlacementPolicyStatus,
    pub(crate) recheck: Option<Timestamp>,
    pub(crate) events: Vec<PlanEvent>,
}

impl Outcome {
    /// What follows from a rollout that was decided.
    pub(crate) fn of(
        look: &Look<'_>,
        rolled: &Rolled<'_>,
        counts: Counts,
        excluded: Vec<ExcludedRow>,
        failures: Vec<Failure>,
    ) -> Self {
        let summary = summary(look, rolled, counts, excluded, failures);
        let status = status::status(look.policy, rolled, &summary, look.stamp);
        let events = events::events(look.policy, &status, &summary.step);
        Self { status, recheck: rolled.recheck, events }
    }
}

fn summary(
    look: &Look<'_>,
    rolled: &Rolled<'_>,
    counts: Counts,
    excluded: Vec<ExcludedRow>,
    failures: Vec<Failure>,
) -> Summary {
    let policy = look.policy;
    let facts = Facts { policy, look, rolled, counts: &counts, excluded: &excluded };
    let conditions = conditions::conditions(&facts);
    let step = StepStatus {
        index: i32::try_from(rolled.run.step).unwrap_or(i32::MAX),
        of: i32::try_from(policy.steps.len()).unwrap_or(i32::MAX),
        state: rolled.state,
    };
    Summary { counts, step, conditions, excluded, failures }
}

/// The report on one policy: the same decision once more, with every selected cluster looked at one by one. `choice` is of
/// these members.
pub(crate) fn report(
    policy: &Policy,
    catalogue: &Catalogue,
    now: Timestamp,
    members: &[&Member],
    choice: &Choice,
) -> PolicyReport {
    let look = Look::new(policy, catalogue, now);
    let selected: Vec<&Member> = choice.selected().map(|index| members[index]).collect();
    let nobody = AtRest::default();
    let rolled = roll(&look, &selected, &nobody);
    let matched: Vec<Name> =
        members.iter().filter(|member| member.matched).map(|member| Arc::clone(member.name())).collect();
    let refusals = members.iter().zip(&choice.refusals);
    let excluded: Vec<Excluded> = refusals
        .filter_map(|(member, refusal)| {
            let (reason, message) = refusal.clone()?;
            Some(Excluded { cluster: Arc::clone(member.name()), reason, message })
        })
        .collect();
    let counts = Counts::of(matched.len(), &rolled);
    let failures = failures(&look, &rolled, std::iter::empty(), usize::MAX);
    let Summary { step, conditions, failures, .. } =
        summary(&look, &rolled, counts, ExcludedRow::of(&excluded), failures);
    let named = |test: &dyn Fn(&Seat<'_>) -> bool| -> Vec<Name> {
        let mut names: Vec<Name> =
            rolled.seats.iter().filter(|seat| test(seat)).map(|seat| Arc::clone(seat.name())).collect();
        names.sort_unstable();
        names
    };
    PolicyReport {
        selected: named(&|_| true),
        tell: named(&|seat| seat.tell),
        serving: named(&|seat| seat.is(Category::Serving)),
        in_flight: named(&|seat| seat.is(Category::InFlight)),
        failed: named(&|seat| seat.is(Category::Failed)),
        failures,
        deferred: named(&|seat| seat.is(Category::Deferred)),
        rolled_back: named(&|seat| seat.standing.sent_back),
        phase: rolled.run.phase,
        target: policy.target().to_owned(),
        waiting_on: rolled.waits.iter().map(|waiting| waiting.wait.clone()).collect(),
        ranking: choice.ranking.shown(),
        matched,
        excluded,
        step,
        conditions,
    }
}
