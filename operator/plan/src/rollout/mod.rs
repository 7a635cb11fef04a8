//! Rollout: who of the selected clusters is told what, and when. The driver here is a table of contents; each rule has its
//! own file.

mod budget;
mod gates;
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
pub(crate) use self::{gates::Gates, standing::Seat, target::Run};
use crate::{
    Wait,
    input::{Catalogue, Held, Policy, Version},
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

/// What was decided.
#[derive(Debug)]
pub(crate) struct Rolled<'a> {
    pub(crate) run: Run,
    pub(crate) gates: Gates,
    pub(crate) state: StepState,
    pub(crate) seats: Vec<Seat<'a>>,
    pub(crate) waits: Vec<Wait>,
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

/// Decides.
pub(crate) fn roll<'a>(look: &Look<'_>, members: &'a [Member<'a>], selected: &[usize]) -> Rolled<'a> {
    let mut run = Run::begin(look.policy, look.stamp);
    let (groups, mut seats) = sit(look, &run, members, selected);
    let gates = Gates::look(look, &run, &seats);
    if gates.turn_back(look) {
        run.phase = RolloutPhase::RollingBack;
    }
    let mut stuck = Vec::new();
    match run.phase {
        RolloutPhase::Rolling | RolloutPhase::Complete => {
            let need = steps::advance(look, &mut run, &seats, gates.allow_passing());
            if let Need::Told(open) = need {
                tell::tell(look, &run, &gates, &groups, &mut seats, &open);
            }
        }
        RolloutPhase::RollingBack if !gates.paused && !gates.frozen => {
            stuck = rollback::send_back(look, &mut run, &groups, &mut seats);
        }
        RolloutPhase::RollingBack | RolloutPhase::RolledBack => {}
    }
    tell::complete_entries(&run, &gates, &mut seats);
    let need = steps::need(look, &run, &seats);
    let decided = Decided { look, run: &run, gates: &gates, groups: &groups, need: &need, stuck: &stuck };
    let waits = waiting::waits(&decided, &seats);
    let state = state::state(&run, &gates, &need, &waits, &seats);
    let recheck = recheck::recheck(&decided, &seats, &waits, state);
    Rolled { waits: waits.into_rows(), run, gates, state, seats, recheck }
}

/// Gives every selected cluster its seat, best ranked first.
fn sit<'a>(
    look: &Look<'_>,
    run: &Run,
    members: &'a [Member<'a>],
    selected: &[usize],
) -> (Groups, Vec<Seat<'a>>) {
    let chosen: Vec<&Member<'_>> = selected.iter().map(|index| &members[*index]).collect();
    let (groups, group_of) = Groups::of(look.policy, &chosen);
    let seat = |(index, group): (&usize, usize)| {
        let member = &members[*index];
        let asked = Held { prefetch: tell::prefetch(look, run, member), ..member.held.clone() };
        Seat {
            group,
            tell: false,
            holds_target: standing::holds_target(look, member),
            standing: standing::standing(look, run, member, &asked),
            asked,
            member,
        }
    };
    (groups, selected.iter().zip(group_of).map(seat).collect())
}
