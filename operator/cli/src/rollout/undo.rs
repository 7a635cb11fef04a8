//! `rollout undo`: back to the version before, by the same rollout rules.

use std::io::Write;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use kube::{
    Api,
    api::{ListParams, Patch},
};
use nave_crds::{ModelVersion, PlacementPolicyStatus, view::conditions};
use serde_json::json;

use super::{Steered, Target, planned};
use crate::{connection::Connection, status::list};

/// Undo a rollout: the policy names its previous version again, and rolls that out
///
/// Refused where no ModelVersion in the policy's namespace is that version, or where it is withdrawn.
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
        let previous = steered.policy.status.as_ref().and_then(|status| previous(status, &current));
        let version = self.to_version.or(previous).ok_or_else(|| {
            anyhow!("{} has no previous version: --to-version names the one to go to", steered.named())
        })?;
        if version == current {
            bail!("{} names version {version} already", steered.named());
        }
        let cannot = || format!("{} cannot go back to version {version}", steered.named());
        require_version(&steered, &version).await.with_context(cannot)?;
        // The test makes two who undo at once not undo each other.
        let patch = json!([
            {"op": "test", "path": "/spec/model/version", "value": current},
            {"op": "replace", "path": "/spec/model/version", "value": version},
        ]);
        steered.patch(&Patch::Json::<()>(serde_json::from_value(patch)?)).await?;
        steered.say(&format!("moves from {current} back to {version}"), out)
    }
}

/// Fails where the hub would find no such version of the policy's model, or one that is withdrawn: nobody would be told it.
async fn require_version(steered: &Steered, version: &str) -> anyhow::Result<()> {
    let Steered { api, policy, namespace, .. } = steered;
    let of_namespace: Api<ModelVersion> = Api::namespaced(api.clone().into_client(), namespace);
    let mut known = list(of_namespace, &ListParams::default(), "ModelVersions").await?;
    let mut after = policy.clone();
    after.spec.model.version = version.to_owned();
    let model = &after.spec.model;
    known.retain(|one| (&one.spec.model, &one.spec.version) == (&model.name, &model.version));
    if known.is_empty() {
        bail!("no ModelVersion in {namespace} is version {version} of model {}", model.name);
    }
    // Of several that claim to be this version the hub knows which one counts.
    let report = planned(&after, known)?;
    match report.conditions.iter().find(|one| one.type_ == conditions::DEGRADED && one.reason == "Withdrawn")
    {
        Some(withdrawn) => bail!("{}", withdrawn.message),
        None => Ok(()),
    }
}

/// The version before the policy's present one. Of one that the hub has not seen yet, unless it is the way back itself, that is
/// what the hub rolls out still.
fn previous(status: &PlacementPolicyStatus, current: &str) -> Option<String> {
    let PlacementPolicyStatus { target_version, previous_version, .. } = status;
    let unseen = target_version.as_deref().is_some_and(|target| target != current)
        && previous_version.as_deref() != Some(current);
    if unseen { target_version.clone() } else { previous_version.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_hub_has_not_seen_yet_is_undone_as_well() {
        for (target, before, current, expected) in [
            (Some("2"), Some("1"), "2", Some("1")),
            (Some("2"), Some("1"), "3", Some("2")),
            (Some("2"), Some("1"), "1", Some("1")),
            (Some("2"), None, "2", None),
            (Some("2"), None, "3", Some("2")),
            (None, None, "1", None),
        ] {
            let [target_version, previous_version] =
                [target, before].map(|version| version.map(str::to_owned));
            let status = PlacementPolicyStatus { target_version, previous_version, ..Default::default() };
            assert_eq!(previous(&status, current).as_deref(), expected, "{target:?} {before:?} {current}");
        }
    }
}
