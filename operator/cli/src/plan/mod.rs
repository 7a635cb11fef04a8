//! `plan`: what the hub would do, by the hub's own planner. From files alone it contacts nothing.

mod admission;
mod difference;
mod documents;
pub(crate) mod live;
mod tables;

pub(crate) use tables::{state, write_policy};

use std::{io::Write, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use nave_operator_plan::{PolicyKey, plan, plan_document};

use self::{difference::Difference, documents::Documents};
use crate::{
    connection::Connection,
    output::{self, Format},
    time::now,
};

/// Show what the hub would do with the objects in some files, without a cluster
///
/// Reads EdgeClusters, ModelVersions, PlacementPolicies and ClusterAssignments, with their status, from YAML or JSON. Of two
/// objects with one name the later counts, so the `objects` that `-o json` prints can be given back as a further file.
#[derive(Debug, Args)]
pub(crate) struct PlanVerb {
    /// Files with objects; - = the standard input
    #[arg(short, long = "filename", required_unless_present = "live", value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// The moment to plan for; otherwise now
    #[arg(long, value_name = "RFC3339")]
    at: Option<Timestamp>,
    /// Add the objects of the cluster that the kubeconfig names, and show the difference that applying the files would make
    #[arg(long)]
    live: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl PlanVerb {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let at = self.at.unwrap_or_else(now);
        let mut files = Documents::default();
        for file in &self.filename {
            files.read(file, connection.namespace_flag())?;
        }
        if self.live {
            let hub = connection.connect().await?;
            let live = live::fetch(&hub).await?;
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
            Format::Json => {
                let mut document =
                    plan_document(&after, &planned_after, at).context("writing the plan as JSON")?;
                document["difference"] = serde_json::to_value(&difference)?;
                output::json(out, &document)
            }
            Format::Table => {
                // Of a whole fleet only what the files speak of or change; all of it where there are no files.
                let named = |key: &PolicyKey| {
                    self.filename.is_empty() || files.has_policy(key) || difference.policies.contains_key(key)
                };
                tables::write_plan(&planned_after, at, named, out)?;
                Ok(tables::write_difference(&difference, out)?)
            }
        }
    }
}
