//! `rollout resume`: out of a pause, or past a failure budget that was used up.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use kube::api::Patch;
use nave_crds::{ModelReference, PlacementPolicyStatus, RESUME_ANNOTATION, RolloutPhase, view::conditions};
use serde_json::json;

use super::Target;
use crate::connection::Connection;

/// Resume a rollout that is paused, or that its failure budget stopped
///
/// A run that is resumed no longer stops for its failure budget. A rollback that began is not ended by this: see `rollout retry`.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    target: Target,
}

impl Resume {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut steered = self.target.fetch(connection).await?;
        let paused = steered.policy.spec.rollout.paused;
        // What stopped the run of another version is no reason to let this one's go past its budget.
        let status =
            steered.policy.status.as_ref().filter(|status| tells_of(status, &steered.policy.spec.model));
        if let Some(RolloutPhase::RollingBack | RolloutPhase::RolledBack) = status.and_then(phase) {
            bail!(
                "{} was rolled back, or is being: a rollback that began goes to its end, and then `kubectl nave rollout \
                 retry` starts anew",
                steered.named()
            );
        }
        let stopped = status.is_some_and(is_stopped_by_budget);
        if !paused && !stopped {
            bail!("{} is neither paused nor stopped by its failure budget", steered.named());
        }
        if paused {
            steered.patch(&Patch::Merge(json!({"spec": {"rollout": {"paused": null}}}))).await?;
        }
        if !stopped {
            return steered.say("resumed", out);
        }
        // After the unpausing, which made a new generation: one that names an older one does not count.
        let generation = steered.generation()?;
        steered.annotate(RESUME_ANNOTATION, &generation.to_string()).await?;
        steered.say("resumed; this run no longer stops for its failure budget", out)
    }
}

/// Whether its run is of what the policy names now.
fn tells_of(status: &PlacementPolicyStatus, model: &ModelReference) -> bool {
    status.run.as_ref().is_some_and(|run| {
        run.target == model.version && run.model.as_ref().is_none_or(|name| *name == model.name)
    })
}

fn phase(status: &PlacementPolicyStatus) -> Option<RolloutPhase> {
    Some(status.run.as_ref()?.phase)
}

fn is_stopped_by_budget(status: &PlacementPolicyStatus) -> bool {
    conditions::find(&status.conditions, conditions::DEGRADED)
        .is_some_and(|degraded| degraded.status == "True" && degraded.reason == "FailureBudget")
}
