//! `rollout retry`: a rolled-back run starts anew.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use nave_crds::{RETRY_ANNOTATION, RolloutPhase};

use super::Target;
use crate::connection::Connection;

/// Retry a rollout that was rolled back, with the same version
#[derive(Debug, Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    target: Target,
}

impl Retry {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut steered = self.target.fetch(connection).await?;
        let run = steered.policy.status.as_ref().and_then(|status| status.run.as_ref());
        match run.map(|run| run.phase) {
            Some(RolloutPhase::RolledBack) => {}
            Some(RolloutPhase::RollingBack) => {
                bail!("{} is still rolling back: retry when it is RolledBack", steered.named())
            }
            Some(RolloutPhase::Rolling | RolloutPhase::Complete) | None => {
                bail!("{} was not rolled back: there is nothing to retry", steered.named())
            }
        }
        // Any value that was not used before does; the time says when it was asked, too.
        steered.annotate(RETRY_ANNOTATION, &Timestamp::now().to_string()).await?;
        steered.say("starts its rollout anew", out)
    }
}
