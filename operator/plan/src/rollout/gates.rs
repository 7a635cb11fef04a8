//! Gates: what must hold before anybody is told to switch, whoever it is.

use nave_crds::{OnFailure, RolloutPhase};

use super::{Look, standing::Seat, target::Run};
use crate::{Category, at_rest::AtRest};

/// What is open and what is shut.
#[derive(Clone, Debug)]
pub(crate) struct Gates {
    /// The target is known, Ready and not withdrawn.
    pub(crate) usable: bool,
    /// The policy is not fit to decide.
    pub(crate) frozen: bool,
    pub(crate) paused: bool,
    /// So many failed.
    pub(crate) failed: usize,
    /// And so many may.
    pub(crate) may_fail: usize,
    /// More failed than may.
    pub(crate) over_budget: bool,
    /// And the run stops for it.
    pub(crate) stopped: bool,
    pub(crate) prefetch: bool,
    /// Every selected cluster that could be waited for holds the weights, or somebody was told in this run already.
    pub(crate) prefetched: bool,
    pub(crate) window: bool,
    /// Somebody selected is connected and not held.
    pub(crate) anybody: bool,
}

impl Gates {
    pub(crate) fn look(look: &Look<'_>, run: &Run, seats: &[Seat<'_>], at_rest: &AtRest) -> Self {
        let policy = look.policy;
        let failed = at_rest.failed().len() + seats.iter().filter(|seat| seat.is(Category::Failed)).count();
        let may_fail = policy.max_failures.of(seats.len() + at_rest.count());
        let rolling = run.phase == RolloutPhase::Rolling;
        let over_budget = failed > may_fail && (rolling || run.resumed.is_some());
        let told = at_rest.told_in_run > 0 || seats.iter().any(|seat| seat.standing.told_in_run);
        let delayed = || !at_rest.delaying().is_empty() || seats.iter().any(Seat::delays_prefetch);
        Self {
            usable: look.version.is_some_and(|version| version.usable()),
            frozen: policy.frozen().is_some(),
            paused: policy.paused(),
            failed,
            may_fail,
            over_budget,
            stopped: over_budget && rolling && run.resumed.is_none(),
            prefetch: policy.prefetch(),
            prefetched: !policy.prefetch() || !rolling || told || !delayed(),
            window: policy.windows.open_at(look.now),
            anybody: at_rest.active_count() > 0 || seats.iter().any(Seat::active),
        }
    }

    /// Whether a run that used up its budget turns back now.
    pub(crate) fn turn_back(&self, look: &Look<'_>) -> bool {
        self.stopped && !self.paused && !self.frozen && look.policy.on_failure() == OnFailure::Rollback
    }

    /// Whether steps may be passed.
    pub(crate) fn allow_passing(&self) -> bool {
        self.anybody && !self.paused && !self.stopped && self.prefetched && !self.frozen
    }

    /// Whether anybody may be told at all.
    pub(crate) fn allow_telling(&self) -> bool {
        self.usable && !self.frozen && !self.paused && !self.stopped && self.prefetched && self.window
    }

    /// Whether one cluster has what it must have before it is told.
    pub(crate) fn staged(&self, seat: &Seat<'_>) -> bool {
        !self.prefetch || seat.holds_target
    }
}
