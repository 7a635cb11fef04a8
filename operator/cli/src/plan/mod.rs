//! `plan`: what the hub would do, by the hub's own planner. From files alone it contacts nothing.

mod admission;
mod difference;
mod documents;
pub(crate) mod live;
mod tables;

pub(crate) use tables::{state, write_exclusions, write_policy};

use std::{io::Write, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use nave_operator_plan::{Plan, PolicyKey, World, plan, plan_document};

use self::{difference::Difference, documents::Documents};
use crate::{
    connection::Connection,
    output::{self, Format},
    time::now,
};

/// Show what the hub would do with the objects in some files, without a cluster
///
/// Reads EdgeClusters, ModelVersions, PlacementPolicies and ClusterAssignments, with their status, from YAML or JSON. Of two
/// objects with one name the later counts, so the `objects` that `-o json` prints can be given back as a further file. Objects
/// without a namespace belong to that of -n, else with --live to the context's, as with `kubectl apply`, else to `default`.
#[derive(Debug, Args)]
pub(crate) struct PlanVerb {
    /// Files with objects; - = the standard input
    #[arg(short, long = "filename", required_unless_present = "live", value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// The moment to plan for; otherwise now
    #[arg(long, value_name = "RFC3339")]
    at: Option<Timestamp>,
    /// Add the objects of the cluster that the kubeconfig names, and show the difference that applying the files would make;
    /// without files show what the hub does next, with -n for the policies of that namespace only
    #[arg(long)]
    live: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl PlanVerb {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let at = self.at.unwrap_or_else(now);
        let hub = if self.live { Some(connection.connect().await?) } else { None };
        // As `kubectl apply` has it; what is planned from files alone reads no kubeconfig.
        let namespace = hub.as_ref().map_or(connection.namespace_flag(), |hub| Some(hub.namespace()));
        let mut files = Documents::default();
        for file in &self.filename {
            files.read(file, namespace)?;
        }
        if let Some(hub) = &hub {
            let live = live::fetch(hub).await?;
            if self.filename.is_empty() {
                return self.show_next(&live, hub.named_namespace(), at, out);
            }
            return self.show_difference(&live, &files, at, out);
        }
        let world = files.world();
        let planned = plan(&world, at);
        match self.output {
            Format::Json => {
                output::json(out, &plan_document(&world, &planned, at).context("writing the plan as JSON")?)
            }
            Format::Table => {
                tables::write_plan(&planned, at, |_| true, out)?;
                Ok(tables::write_left_out(&files.left_out, out)?)
            }
        }
    }

    /// What the hub does next with what the cluster holds: all of it, or one namespace's policies.
    fn show_next(
        &self,
        live: &Documents,
        namespace: Option<&str>,
        at: Timestamp,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let world = live.world();
        let mut planned = plan(&world, at);
        if let Some(namespace) = namespace {
            planned.report.policies.retain(|key, _| key.namespace == namespace);
        }
        match self.output {
            Format::Json => write_live(&world, &planned, at, &Difference::default(), out),
            Format::Table => {
                tables::write_plan(&planned, at, |_| true, out)?;
                Ok(writeln!(out, "\nNo files were given to compare with: this is what the hub does next.")?)
            }
        }
    }

    fn show_difference(
        &self,
        live: &Documents,
        files: &Documents,
        at: Timestamp,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let before = live.world();
        let after = live.applied(files).world();
        let (planned_before, planned_after) = (plan(&before, at), plan(&after, at));
        let difference = Difference::between((&before, &planned_before), (&after, &planned_after));
        match self.output {
            Format::Json => write_live(&after, &planned_after, at, &difference, out),
            Format::Table => {
                // Of a whole fleet only what the files speak of or change.
                let named = |key: &PolicyKey| files.has_policy(key) || difference.policies.contains_key(key);
                tables::write_plan(&planned_after, at, named, out)?;
                tables::write_difference(&difference, out)?;
                Ok(tables::write_left_out(&files.left_out, out)?)
            }
        }
    }
}

/// The plan's document, with the difference beside it.
fn write_live(
    world: &World,
    planned: &Plan,
    at: Timestamp,
    difference: &Difference,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut document = plan_document(world, planned, at).context("writing the plan as JSON")?;
    document["difference"] = serde_json::to_value(difference)?;
    output::json(out, &document)
}
