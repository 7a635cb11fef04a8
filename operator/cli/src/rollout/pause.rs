//! `rollout pause`.

use std::io::Write;

use clap::Args;
use kube::api::Patch;
use serde_json::json;

use super::Target;
use crate::connection::Connection;

/// Pause a rollout: nothing more is told to switch, nothing is rolled back; prefetching goes on
#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    target: Target,
}

impl Pause {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut steered = self.target.fetch(connection).await?;
        if steered.policy.spec.rollout.paused {
            return steered.say("is paused already", out);
        }
        steered.patch(&Patch::Merge(json!({"spec": {"rollout": {"paused": true}}}))).await?;
        steered.say("paused", out)
    }
}
