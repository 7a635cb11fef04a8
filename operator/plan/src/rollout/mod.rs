//! Rollout: who of the selected clusters is told what, and when. The driver here is a table of contents; each rule has its
//! own file.

mod budget;
mod gates;
mod newcomers;
mod recheck;
mod rollback;
mod standing;
mod state;
mod steps;
mod target;
mod tell;
mod waiting;

use std::sync::Arc;

use jiff::Timestamp;
use nave_crds::{RolloutPhase, StepState};

use self::{budget::Groups, steps::Need, waiting::Decided};
pub(crate) use self::{
    gates::Gates,
    standing::{Seat, rest},
    target::Run,
    waiting::Waiting,
};
use crate::{
    input::{Catalogue, Held, Policy, Version},
    placement::Member,
    tally::AtRest,
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
pub(crate) fn roll<'a>(look: &Look<'_>, busy: &[&'a Member], at_rest: &AtRest) -> Rolled<'a> {
    let mut run = Run::begin(look.policy, look.stamp);
    let (groups, mut seats) = sit(look, &run, busy, at_rest);
    let gates = Gates::look(look, &run, &seats, at_rest);
    if gates.turn_back(look) {
        run.phase = RolloutPhase::RollingBack;
    }
    let mut stuck = Vec::new();
    match run.phase {
        RolloutPhase::Rolling | RolloutPhase::Complete => {
            advance(look, &mut run, &gates, &groups, &mut seats);
            if newcomers::take_their_places(look.policy, &mut seats) {
                advance(look, &mut run, &gates, &groups, &mut seats);
            }
        }
        RolloutPhase::RollingBack if !gates.paused && !gates.frozen => {
            stuck = rollback::send_back(look, &mut run, &groups, &mut seats);
        }
        RolloutPhase::RollingBack | RolloutPhase::RolledBack => {}
    }
    tell::complete_entries(&run, &gates, &mut seats);
    let need = steps::need(look, &run, &seats);
    let decided =
        Decided { look, run: &run, gates: &gates, groups: &groups, need: &need, stuck: &stuck, at_rest };
    let waits = waiting::waits(&decided, &seats);
    let state = state::state(&run, &gates, &need, &waits, &seats);
    let recheck = recheck::recheck(&decided, &seats, &waits, state);
    Rolled { waits: waits.into_rows(), run, gates, state, seats, recheck }
}

/// Passes the steps that are done, and tells those that the next one needs.
fn advance(look: &Look<'_>, run: &mut Run, gates: &Gates, groups: &Groups, seats: &mut [Seat<'_>]) {
    if let Need::Told(open) = steps::advance(look, run, seats, gates.allow_passing()) {
        tell::tell(look, run, gates, groups, seats, &open);
    }
}

/// Gives every cluster that is not at rest its seat.
fn sit<'a>(look: &Look<'_>, run: &Run, busy: &[&'a Member], at_rest: &AtRest) -> (Groups, Vec<Seat<'a>>) {
    let (groups, group_of) = Groups::of(look.policy, busy, at_rest);
    let seat = |(member, group): (&&'a Member, usize)| {
        let asked = Held { prefetch: tell::prefetch(look, run, member), ..member.held().clone() };
        Seat {
            group,
            tell: false,
            holds_target: standing::holds_target(look, member),
            standing: standing::standing(look, run, member, &asked),
            asked,
            member,
        }
    };
    (groups, busy.iter().zip(group_of).map(seat).collect())
}
