//! Outcome: everything that one plan decides for one policy, from its members to its status.

use std::sync::Arc;

use jiff::Timestamp;
use nave_crds::{PlacementPolicyStatus, StepStatus};

use crate::{
    Category, Name, PlanEvent, PolicyReport,
    claims::{Claim, Claims},
    conditions::{self, Facts},
    events,
    input::{Catalogue, Held, Policy, Spoke},
    placement::{Member, Winner, place},
    rollout::{Look, Rolled, Seat, roll},
    status,
};

/// What one plan decides for one policy.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) report: Arc<PolicyReport>,
    pub(crate) status: PlacementPolicyStatus,
    /// What is asked of each cluster, by name; clusters of which nothing is asked are left out.
    pub(crate) asked: Vec<(Name, Held)>,
    /// Chosen clusters, by name, and whether each is told to serve.
    pub(crate) claimed: Vec<(Name, bool)>,
    pub(crate) recheck: Option<Timestamp>,
    pub(crate) events: Vec<PlanEvent>,
}

/// Decides one policy.
pub(crate) fn decide<'a>(
    policy: &Policy,
    spokes: impl Iterator<Item = &'a Spoke>,
    catalogue: &Catalogue,
    claims: &Claims,
    now: Timestamp,
) -> Outcome {
    let look = Look::new(policy, catalogue, now);
    let mut members: Vec<Member<'_>> = spokes.filter_map(|spoke| Member::of(policy, spoke)).collect();
    let winner = |name: &Name| {
        let claim = claims.of(name)?;
        Some(Winner { text: format!("{} has it", claim.policy).into(), serves: claim.serves })
    };
    let choice = place(policy, look.version, &mut members, winner);
    let rolled = roll(&look, &members, &choice.selected);
    let facts = Facts { policy, look: &look, choice: &choice, rolled: &rolled };
    let conditions = conditions::conditions(&facts);
    let named = |test: &dyn Fn(&Seat<'_>) -> bool| -> Vec<Name> {
        let mut names: Vec<Name> =
            rolled.seats.iter().filter(|seat| test(seat)).map(|seat| Arc::clone(seat.name())).collect();
        names.sort_unstable();
        names
    };
    let report = Arc::new(PolicyReport {
        step: StepStatus {
            index: i32::try_from(rolled.run.step).unwrap_or(i32::MAX),
            of: i32::try_from(policy.steps.len()).unwrap_or(i32::MAX),
            state: rolled.state,
        },
        selected: named(&|_| true),
        tell: named(&|seat| seat.tell),
        serving: named(&|seat| seat.is(Category::Serving)),
        in_flight: named(&|seat| seat.is(Category::InFlight)),
        failed: named(&|seat| seat.is(Category::Failed)),
        deferred: named(&|seat| seat.is(Category::Deferred)),
        rolled_back: named(&|seat| seat.standing.sent_back),
        phase: rolled.run.phase,
        target: policy.target().to_owned(),
        matched: choice.matched,
        excluded: choice.excluded,
        ranking: choice.ranking,
        waiting_on: rolled.waits.clone(),
        conditions,
    });
    let status = status::status(policy, &rolled, &report, look.stamp);
    Outcome {
        events: events::events(policy, &status, &report),
        asked: asked(&members, &rolled, claims),
        claimed: claimed(&rolled),
        recheck: rolled.recheck,
        report,
        status,
    }
}

/// What is asked of everybody: of the chosen what the rollout decided, and of those that another policy has what they
/// serve, until that policy tells them.
fn asked(members: &[Member<'_>], rolled: &Rolled<'_>, claims: &Claims) -> Vec<(Name, Held)> {
    let mut asked: Vec<(Name, Held)> = rolled
        .seats
        .iter()
        .filter(|seat| !seat.asked.is_empty())
        .map(|seat| (Arc::clone(seat.name()), seat.asked.clone()))
        .collect();
    for member in members.iter().filter(|member| member.outranked) {
        let taken = claims.of(member.name()).is_some_and(|claim| claim.serves);
        if let Some(serve) = member.held.serve.as_ref().filter(|_| !taken) {
            let held = Held { serve: Some(serve.clone()), ..Held::default() };
            asked.push((Arc::clone(member.name()), held));
        }
    }
    asked.sort_by(|a, b| a.0.cmp(&b.0));
    asked
}

fn claimed(rolled: &Rolled<'_>) -> Vec<(Name, bool)> {
    let claim = |seat: &Seat<'_>| (Arc::clone(seat.name()), seat.asked.serve.is_some());
    let mut claimed: Vec<(Name, bool)> = rolled.seats.iter().map(claim).collect();
    claimed.sort_by(|a, b| a.0.cmp(&b.0));
    claimed
}

impl Outcome {
    /// Takes its clusters from the policies that come after it.
    pub(crate) fn claim(&self, policy: &Policy, claims: &mut Claims) {
        let key = Arc::new(policy.key.clone());
        for (name, serves) in &self.claimed {
            claims.add(name, Claim { policy: Arc::clone(&key), serves: *serves });
        }
    }
}
