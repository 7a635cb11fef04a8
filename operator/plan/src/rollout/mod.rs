//! Rollout: who of the selected clusters is told what, and when. The driver here is a table of contents; each rule has its
//! own file.

mod accounts;
mod budget;
mod failure;
mod gates;
mod newcomers;
mod recheck;
mod rollback;
mod standing;
mod state;
mod steps;
mod target;
mod tell;
mod turn;
mod waiting;

use std::sync::Arc;

use jiff::Timestamp;
use nave_crds::{RolloutPhase, StepState};

use self::{budget::Groups, steps::Need, tell::Sides, waiting::Decided};
pub(crate) use self::{
    failure::{failures, rolled_back},
    gates::Gates,
    standing::{Seat, rest},
    target::Run,
    waiting::Waiting,
};
use crate::{
    Name,
    at_rest::AtRest,
    input::{Catalogue, Policy, Version},
    placement::Member,
};

/// What a rollout is decided from, beside its clusters.
#[derive(Clone, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) catalogue: &'a Catalogue,
    /// The target, if it is known.
    pub(crate) version: Option<&'a Version>,
    pub(crate) target: Arc<str>,
    pub(crate) now: Timestamp,
    /// The time as it is stored: Kubernetes keeps whole seconds.
    pub(crate) stamp: Timestamp,
}

/// What was decided. Seats are those of clusters that are not at rest, best ranked first.
#[derive(Debug)]
pub(crate) struct Rolled<'a> {
    pub(crate) run: Run,
    pub(crate) gates: Gates,
    pub(crate) state: StepState,
    pub(crate) seats: Vec<Seat<'a>>,
    pub(crate) waits: Vec<Waiting>,
    pub(crate) recheck: Option<Timestamp>,
    /// What used up the failure budget, where that stops the run, or made it turn back.
    pub(crate) cause: Option<String>,
    /// Whom of those at rest it has to look at to decide; until then the rest of it is void.
    pub(crate) wanted: Option<Wanted>,
}

/// Clusters at rest that have to be looked at one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    These(Vec<Name>),
    Everybody,
}

impl<'a> Look<'a> {
    pub(crate) fn new(policy: &'a Policy, catalogue: &'a Catalogue, now: Timestamp) -> Self {
        let version = catalogue.find(&policy.key.namespace, policy.model(), policy.target());
        Self {
            policy,
            catalogue,
            version: version.map(|version| &**version),
            target: Arc::clone(&policy.target_name),
            now,
            stamp: Timestamp::from_second(now.as_second()).unwrap_or(now),
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.policy.key.namespace
    }

    /// Why the target cannot be told; empty where it can.
    pub(crate) fn version_problem(&self) -> String {
        self.problem_of(self.policy.target())
    }

    /// Why a version of the model cannot be told; empty where it can.
    pub(crate) fn problem_of(&self, version: &str) -> String {
        let model = self.policy.model();
        let Some(known) = self.catalogue.find(self.namespace(), model, version) else {
            return format!("no ModelVersion in {} is version {version} of model {model}", self.namespace());
        };
        let name = known.object.metadata.name.as_deref().unwrap_or_default();
        if let Some(malformed) = &known.malformed {
            return format!("ModelVersion {name}: {malformed}");
        }
        if known.withdrawn() {
            return format!("ModelVersion {name} is withdrawn");
        }
        if known.ready { String::new() } else { format!("ModelVersion {name} is not Ready") }
    }
}

/// Decides. `busy` are the selected clusters that are not at rest, best ranked first.
pub(crate) fn roll<'a>(look: &Look<'_>, busy: &[&'a Member], at_rest: &'a AtRest) -> Rolled<'a> {
    let mut run = Run::begin(look.policy, look.stamp);
    let mut wanted = None;
    let (groups, mut seats) = sit(look, &run, busy, at_rest);
    let gates = Gates::look(look, &run, &seats, at_rest);
    let cause = failure::cause(look, &run, &gates, &seats);
    if gates.turn_back(look) {
        run.phase = RolloutPhase::RollingBack;
        wanted = (at_rest.count() > 0).then_some(Wanted::Everybody);
    }
    if rollback::is_owed(look, &run, &seats) {
        run.phase = RolloutPhase::RollingBack;
    }
    let mut stuck = Vec::new();
    match run.phase {
        RolloutPhase::Rolling | RolloutPhase::Complete => {
            let sides = Sides { look, gates: &gates, groups: &groups, at_rest };
            wanted = advance(sides, &mut run, &mut seats);
            let others = at_rest.count();
            if wanted.is_none() && newcomers::take_their_places(look.policy, &mut seats, others) {
                wanted = advance(sides, &mut run, &mut seats);
            }
        }
        RolloutPhase::RollingBack if !gates.paused && !gates.frozen => {
            stuck = rollback::send_back(look, &mut run, &groups, &mut seats, at_rest);
        }
        RolloutPhase::RollingBack | RolloutPhase::RolledBack => {}
    }
    tell::complete_entries(&run, &gates, &mut seats);
    let need = steps::need(look, &run, &seats, at_rest);
    let decided =
        Decided { look, run: &run, gates: &gates, groups: &groups, need: &need, stuck: &stuck, at_rest };
    let waits = waiting::waits(&decided, &seats);
    let state = state::state(&decided, &waits, &seats);
    let (recheck, sure) = recheck::recheck(&decided, &seats, &waits, state);
    if need == Need::Everybody || !sure {
        wanted = Some(Wanted::Everybody);
    }
    Rolled { waits: waits.into_rows(), run, gates, state, seats, recheck, cause, wanted }
}

/// Passes the steps that are done, and tells those that the next one needs; says who would be told and has no seat.
fn advance(sides: Sides<'_>, run: &mut Run, seats: &mut [Seat<'_>]) -> Option<Wanted> {
    let Sides { look, gates, at_rest, .. } = sides;
    let need = steps::advance(look, run, seats, at_rest, gates.allow_passing());
    if need == Need::Everybody {
        return Some(Wanted::Everybody);
    }
    let Need::Told(open) = need else { return None };
    if !gates.allow_telling() {
        return None;
    }
    let next = tell::next(sides, run, seats, open);
    if !next.at_rest.is_empty() {
        return Some(Wanted::These(next.at_rest));
    }
    tell::tell(look, run, seats, &next.seats);
    None
}

/// Gives every cluster that is not at rest its seat.
fn sit<'a>(
    look: &Look<'_>,
    run: &Run,
    busy: &[&'a Member],
    at_rest: &'a AtRest,
) -> (Groups<'a>, Vec<Seat<'a>>) {
    let (groups, group_of) = Groups::of(look.policy, busy, at_rest);
    let seat = |(member, group): (&&'a Member, usize)| {
        let asked = tell::at_first(look.policy, look.version, run, look.stamp, member);
        Seat {
            group,
            tell: false,
            holds_target: standing::holds_target(member),
            standing: standing::standing(look.policy, look.now, run, member, &asked),
            next: None,
            asked,
            member,
        }
    };
    (groups, busy.iter().zip(group_of).map(seat).collect())
}
