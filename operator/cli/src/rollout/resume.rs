//! `rollout resume`: out of a pause, or past a failure budget that was used up.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use kube::api::Patch;
use nave_crds::{PlacementPolicy, RESUME_ANNOTATION, RolloutPhase, view::conditions};
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
        if let Some(RolloutPhase::RollingBack | RolloutPhase::RolledBack) = phase(&steered.policy) {
            bail!(
                "{} was rolled back, or is being: a rollback that began goes to its end, and then `kubectl nave rollout \
                 retry` starts anew",
                steered.named()
            );
        }
        let stopped = is_stopped_by_budget(&steered.policy);
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

fn phase(policy: &PlacementPolicy) -> Option<RolloutPhase> {
    Some(policy.status.as_ref()?.run.as_ref()?.phase)
}

fn is_stopped_by_budget(policy: &PlacementPolicy) -> bool {
    policy
        .status
        .as_ref()
        .and_then(|status| conditions::find(&status.conditions, conditions::DEGRADED))
        .is_some_and(|degraded| degraded.status == "True" && degraded.reason == "FailureBudget")
}
