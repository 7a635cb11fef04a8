//! `accept`: the hub's consent to a spoke.

use std::io::Write;

use anyhow::{Context as _, anyhow};
use clap::Args;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use nave_crds::EdgeCluster;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    connection::{Connected, Connection},
    failure,
    output::{self, Format},
};

/// Accept spokes: from then on policies may select them
///
/// A revoked one is accepted again by this: its certificate counts again.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// Names of EdgeClusters
    #[arg(required = true, value_name = "CLUSTER")]
    clusters: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What became of one spoke.
#[derive(Debug, Serialize)]
struct Changed {
    cluster: String,
    accepted: bool,
    revoked: bool,
}

impl Accept {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let hub = connection.connect().await?;
        // In a merge patch null takes the field away.
        let patch = json!({"spec": {"accepted": true, "revoked": null}});
        change_each(&hub, &self.clusters, &patch, ("accepted", self.output), out).await
    }
}

/// Patches each cluster, says so, and fails at the end if any of them could not be.
pub(crate) async fn change_each(
    hub: &Connected,
    clusters: &[String],
    patch: &Value,
    (done, format): (&str, Format),
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let api: Api<EdgeCluster> = Api::all(hub.client.clone());
    let mut changed = Vec::new();
    let mut failures = Vec::new();
    for name in clusters {
        match change(&api, name, patch).await {
            Ok(cluster) => {
                if format == Format::Table {
                    writeln!(out, "edgecluster.nave.dev/{name} {done}")?;
                }
                changed.push(Changed {
                    cluster: cluster.name_any(),
                    accepted: cluster.spec.accepted,
                    revoked: cluster.spec.revoked,
                });
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if format == Format::Json {
        output::json(out, &changed)?;
    }
    if failures.is_empty() { Ok(()) } else { Err(anyhow!(failures.join("\n       "))) }
}

async fn change(api: &Api<EdgeCluster>, name: &str, patch: &Value) -> anyhow::Result<EdgeCluster> {
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(cluster) => Ok(cluster),
        Err(error) if failure::is_not_found(&error) => Err(anyhow!(
            "EdgeCluster {name} not found: it appears when its agent joins (`kubectl nave token create --cluster {name}`)"
        )),
        Err(error) => Err(failure::said(error)).with_context(|| format!("changing EdgeCluster {name}")),
    }
}
