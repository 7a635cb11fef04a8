//! Target: which run this is. A run goes on where the stored status left it, starts anew when the target changes, and once
//! more when a rolled-back one is retried.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_crds::{RolloutPhase, RolloutRun};

use crate::{at_rest::Matching, input::Policy};

/// A run, as far as it is known when a plan begins, and as it shall be stored.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) started_at: Timestamp,
    pub(crate) phase: RolloutPhase,
    /// The first step that is not passed, from 1.
    pub(crate) step: usize,
    pub(crate) resumed: Option<i64>,
    pub(crate) retry: Option<String>,
    /// The last target before this one that went out, for undo.
    pub(crate) previous_version: Option<String>,
}

impl Run {
    /// The run of this policy at this time.
    pub(crate) fn begin(policy: &Policy, now: Timestamp) -> Self {
        let status = policy.status();
        let previous_version = status.and_then(|status| status.previous_version.clone());
        let Some(stored) = status.and_then(|status| status.run.as_ref()) else {
            return Self::anew(policy, now, None, previous_version);
        };
        let same_model = stored.model.as_deref().is_none_or(|model| model == policy.model());
        if !same_model {
            return Self::anew(policy, now, stored.retry.clone(), None);
        }
        if stored.target != policy.target() {
            let back_to = went_out(policy, stored).then(|| stored.target.clone()).or(previous_version);
            let back_to = back_to.filter(|version| version != policy.target());
            return Self::anew(policy, now, stored.retry.clone(), back_to);
        }
        let retry = policy.annotations.retry.as_ref();
        if stored.phase == RolloutPhase::RolledBack && retry.is_some() && retry != stored.retry.as_ref() {
            return Self::anew(policy, now, retry.cloned(), previous_version);
        }
        let step = usize::try_from(stored.step).unwrap_or(1);
        // The clock was put back: whoever is told before it is there again is told in this run all the same. In a rollback
        // nobody is, and who was told the old version before the run is not to look sent back.
        let back = matches!(stored.phase, RolloutPhase::RollingBack | RolloutPhase::RolledBack);
        let started_at = if back { stored.started_at.0 } else { stored.started_at.0.min(now) };
        Self {
            started_at,
            phase: stored.phase,
            step: step.clamp(1, policy.steps.len()),
            resumed: policy.annotations.resume.or(stored.resumed),
            retry: stored.retry.clone(),
            previous_version,
        }
    }

    fn anew(
        policy: &Policy,
        now: Timestamp,
        retry: Option<String>,
        previous_version: Option<String>,
    ) -> Self {
        Self {
            started_at: now,
            phase: RolloutPhase::Rolling,
            step: 1,
            resumed: policy.annotations.resume,
            retry,
            previous_version,
        }
    }

    /// Its form in PlacementPolicy.status.
    pub(crate) fn stored(&self, policy: &Policy) -> RolloutRun {
        RolloutRun {
            model: Some(policy.model().to_owned()),
            target: policy.target().to_owned(),
            started_at: Time(self.started_at),
            phase: self.phase,
            step: i32::try_from(self.step).unwrap_or(i32::MAX),
            resumed: self.resumed,
            retry: self.retry.clone(),
        }
    }

    /// The stored run of a policy, if it goes on as it is stored: then its clusters may rest.
    pub(crate) fn lets_rest(policy: &Policy, now: Timestamp) -> Option<Self> {
        let stored = policy.status().and_then(|status| status.run.as_ref())?;
        let run = Self::begin(policy, now);
        let goes_on = stored.target == policy.target()
            && stored.model.as_deref().is_none_or(|model| model == policy.model())
            && run.phase == stored.phase;
        let countable = policy.steps.len() <= Matching::BITS as usize;
        (goes_on && countable && policy.frozen().is_none()).then_some(run)
    }

    /// What has to stay as it is for clusters to go on resting.
    pub(crate) fn resting(policy: &Policy) -> Option<(Timestamp, RolloutPhase)> {
        Self::lets_rest(policy, Timestamp::MAX).map(|run| (run.started_at, run.phase))
    }

    /// Whether a rollback is under way or over.
    pub(crate) fn is_back(&self) -> bool {
        matches!(self.phase, RolloutPhase::RollingBack | RolloutPhase::RolledBack)
    }
}

/// Whether anybody was told a run's target and may still have it: an undo goes to no version that nobody ever ran, nor to one
/// that a rollback took back.
fn went_out(policy: &Policy, run: &RolloutRun) -> bool {
    let counts = policy.status().and_then(|status| status.clusters);
    let back = matches!(run.phase, RolloutPhase::RollingBack | RolloutPhase::RolledBack);
    !back && counts.is_some_and(|counts| counts.updated > 0)
}
