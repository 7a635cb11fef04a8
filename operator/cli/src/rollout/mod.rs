//! `rollout`: seeing and steering one policy's rollout.

mod approve;
mod pause;
mod resume;
mod retry;
mod status;
mod undo;
mod watch;

use std::{io::Write, sync::Arc};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use nave_crds::{ModelVersion, PlacementPolicy, PlacementPolicyStatus};
use nave_operator_plan::{PolicyKey, PolicyReport, World, plan};
use serde::Serialize;

use crate::{
    connection::{Connected, Connection},
    failure,
    output::{self, Format},
    time::now,
};

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    Status(status::Status),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Approve(approve::Approve),
    Undo(undo::Undo),
    Retry(retry::Retry),
}

impl RolloutVerb {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Status(verb) => verb.run(connection, out).await,
            Self::Pause(verb) => verb.run(connection, out).await,
            Self::Resume(verb) => verb.run(connection, out).await,
            Self::Approve(verb) => verb.run(connection, out).await,
            Self::Undo(verb) => verb.run(connection, out).await,
            Self::Retry(verb) => verb.run(connection, out).await,
        }
    }
}

/// Which policy, and how to answer.
#[derive(Debug, Args)]
struct Target {
    /// Name of a PlacementPolicy
    #[arg(value_name = "POLICY")]
    name: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The policy as it is now, and the way to change it.
struct Steered {
    api: Api<PlacementPolicy>,
    policy: PlacementPolicy,
    name: String,
    namespace: String,
    output: Format,
}

/// What a steering verb did.
#[derive(Debug, Serialize)]
struct Done<'a> {
    namespace: &'a str,
    policy: &'a str,
    done: &'a str,
}

impl Target {
    async fn fetch(self, connection: &Connection) -> anyhow::Result<Steered> {
        let hub = connection.connect().await?;
        let Self { name, output } = self;
        let namespace = hub.namespace().to_owned();
        let policy = fetch_policy(&hub, &namespace, &name).await?;
        let api = Api::namespaced(hub.client.clone(), &namespace);
        Ok(Steered { api, policy, name, namespace, output })
    }
}

/// Reads one policy; says where it looked when there is none.
pub(crate) async fn fetch_policy(
    hub: &Connected,
    namespace: &str,
    name: &str,
) -> anyhow::Result<PlacementPolicy> {
    let api: Api<PlacementPolicy> = Api::namespaced(hub.client.clone(), namespace);
    match api.get(name).await {
        Ok(policy) => Ok(policy),
        Err(error) if failure::is_not_found(&error) => {
            Err(anyhow!("PlacementPolicy {namespace}/{name} not found (--namespace names another namespace)"))
        }
        Err(error) => {
            Err(failure::said(error)).with_context(|| format!("reading PlacementPolicy {namespace}/{name}"))
        }
    }
}

/// Whether the hub has yet to look at the latest change: the status tells of the spec before.
fn is_behind(status: &PlacementPolicyStatus, policy: &PlacementPolicy) -> bool {
    status.observed_generation < policy.metadata.generation
}

/// What the hub's planner makes of a policy's spec where no fleet and no run is in question.
fn planned(policy: &PlacementPolicy, versions: Vec<ModelVersion>) -> anyhow::Result<Arc<PolicyReport>> {
    let key = PolicyKey::of(policy);
    let alone = Arc::new(PlacementPolicy { status: None, ..policy.clone() });
    let world = World::new([], versions.into_iter().map(Arc::new), [alone], []);
    let mut planned = plan(&world, now());
    planned.report.policies.remove(&key).ok_or_else(|| anyhow!("the planner knows no PlacementPolicy {key}"))
}

impl Steered {
    fn named(&self) -> String {
        format!("PlacementPolicy {}/{}", self.namespace, self.name)
    }

    fn generation(&self) -> anyhow::Result<i64> {
        self.policy.metadata.generation.ok_or_else(|| anyhow!("{} has no generation", self.named()))
    }

    /// Sends one change; what comes back is the policy from then on.
    async fn patch<P: Serialize + std::fmt::Debug>(&mut self, patch: &Patch<P>) -> anyhow::Result<()> {
        let parameters =
            PatchParams { field_manager: Some("kubectl-nave".to_owned()), ..PatchParams::default() };
        self.policy = self
            .api
            .patch(&self.name, &parameters, patch)
            .await
            .map_err(failure::said)
            .with_context(|| format!("changing {}", self.named()))?;
        Ok(())
    }

    async fn annotate(&mut self, annotation: &str, value: &str) -> anyhow::Result<()> {
        let patch = serde_json::json!({"metadata": {"annotations": {annotation: value}}});
        self.patch(&Patch::Merge(patch)).await
    }

    /// Says what was done.
    fn say(&self, done: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.output {
            Format::Table => Ok(writeln!(out, "placementpolicy.nave.dev/{} {done}", self.name)?),
            Format::Json => output::json(out, &Done { namespace: &self.namespace, policy: &self.name, done }),
        }
    }
}
