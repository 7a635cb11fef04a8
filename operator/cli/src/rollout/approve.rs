//! `rollout approve`: a step that waits for someone may be passed.

use std::io::Write;

use anyhow::{anyhow, bail};
use clap::Args;
use nave_crds::{APPROVE_ANNOTATION, PlacementPolicy, StepState, view::Approval};

use super::Target;
use crate::connection::Connection;

/// Approve a rollout's step, and those before it
///
/// An approval holds for the policy's present generation only: whoever changes the policy has to have it approved anew.
/// One that is given early counts when the step has soaked.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    #[command(flatten)]
    target: Target,
    /// Which step, from 1; otherwise the one that the rollout is in
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    step: Option<i32>,
}

impl Approve {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut steered = self.target.fetch(connection).await?;
        let index = match self.step {
            Some(step) => step,
            None => current_step(&steered.policy).map_err(|why| anyhow!("{} {why}", steered.named()))?,
        };
        if let Some(of) = step_count(&steered.policy).filter(|of| index > *of) {
            bail!("{} has no step {index}: it has {of}", steered.named());
        }
        let approval = Approval { index, generation: steered.generation()? };
        steered.annotate(APPROVE_ANNOTATION, &approval.to_string()).await?;
        steered.say(&format!("approved: step {index}, generation {}", approval.generation), out)
    }
}

fn current_step(policy: &PlacementPolicy) -> Result<i32, &'static str> {
    let step = policy
        .status
        .as_ref()
        .and_then(|status| status.step.as_ref())
        .ok_or("has no rollout yet: name the step with --step")?;
    if step.state == StepState::Complete {
        return Err("is complete: nothing waits for approval");
    }
    Ok(step.index)
}

/// As the hub counts them, with the final step that it may add; None before it has.
fn step_count(policy: &PlacementPolicy) -> Option<i32> {
    policy.status.as_ref()?.step.as_ref().map(|step| step.of)
}
