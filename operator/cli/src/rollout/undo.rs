//! `rollout undo`: back to the version before, by the same rollout rules.

use std::io::Write;

use anyhow::{anyhow, bail};
use clap::Args;
use kube::api::Patch;
use serde_json::json;

use super::Target;
use crate::connection::Connection;

/// Undo a rollout: the policy names its previous version again, and rolls that out
#[derive(Debug, Args)]
pub(crate) struct Undo {
    #[command(flatten)]
    target: Target,
    /// Another version than the previous one
    #[arg(long, value_name = "VERSION")]
    to_version: Option<String>,
}

impl Undo {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut steered = self.target.fetch(connection).await?;
        let current = steered.policy.spec.model.version.clone();
        let previous = steered.policy.status.as_ref().and_then(|status| status.previous_version.clone());
        let version = self.to_version.or(previous).ok_or_else(|| {
            anyhow!("{} has no previous version: --to-version names the one to go to", steered.named())
        })?;
        if version == current {
            bail!("{} names version {version} already", steered.named());
        }
        // The test makes two who undo at once not undo each other.
        let patch = json!([
            {"op": "test", "path": "/spec/model/version", "value": current},
            {"op": "replace", "path": "/spec/model/version", "value": version},
        ]);
        steered.patch(&Patch::Json::<()>(serde_json::from_value(patch)?)).await?;
        steered.say(&format!("moves from {current} back to {version}"), out)
    }
}
