//! `rollout approve`: a step that waits for someone may be passed.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use nave_crds::{APPROVE_ANNOTATION, PlacementPolicy, StepState, view::Approval};

use super::{Target, is_behind, planned};
use crate::connection::Connection;

/// Approve a rollout's step, and those before it
///
/// An approval holds for the policy's present generation only: whoever changes the policy has to have it approved anew.
/// One that is given early counts when the step has soaked.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    #[command(flatten)]
    target: Target,
    /// Which step, from 1; otherwise the one that the rollout is in, once the hub has looked at the policy's latest change
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    step: Option<i32>,
}

impl Approve {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut steered = self.target.fetch(connection).await?;
        let index = match self.step {
            Some(step) => step,
            None => current_step(&steered.policy, &steered.named())?,
        };
        let of = planned(&steered.policy, Vec::new())?.step.of;
        if index > of {
            bail!("{} has no step {index}: it has {of}", steered.named());
        }
        let approval = Approval { index, generation: steered.generation()? };
        steered.annotate(APPROVE_ANNOTATION, &approval.to_string()).await?;
        steered.say(&format!("approved: step {index}, generation {}", approval.generation), out)
    }
}

/// The step that the rollout of the present spec is in.
fn current_step(policy: &PlacementPolicy, named: &str) -> anyhow::Result<i32> {
    let Some((status, step)) =
        policy.status.as_ref().and_then(|status| Some((status, status.step.as_ref()?)))
    else {
        bail!("{named} has no rollout yet: name the step with --step");
    };
    if is_behind(status, policy) {
        bail!("{named}: the hub has not looked at its latest change yet: name the step with --step");
    }
    if step.state == StepState::Complete {
        bail!("{named} is complete: nothing waits for approval");
    }
    Ok(step.index)
}
