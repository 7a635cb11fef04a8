//! `explain`: why a policy did and did not choose each cluster, where each is in the rollout, and what it waits for. It
//! is the hub's own planner, run here on the objects that the cluster holds.

use std::io::Write;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use nave_crds::EntryStatus;
use nave_operator_plan::{Explanation, PolicyKey, PolicyReport, World, plan};
use serde::Serialize;
use serde_json::json;

use crate::{
    connection::Connection,
    output::{self, Format},
    plan::{live, state, write_exclusions, write_policy},
    rollout::fetch_policy,
    text_table::TextTable,
    time::now,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ExplainVerb {
    Policy(ExplainPolicy),
}

/// Explain a policy: why each cluster is (not) chosen, its score, where it is in the rollout, what it waits for
#[derive(Debug, Args)]
pub(crate) struct ExplainPolicy {
    /// Name of a PlacementPolicy
    #[arg(value_name = "POLICY")]
    name: String,
    /// Only this cluster, with everything there is to say
    #[arg(long)]
    cluster: Option<String>,
    /// The moment to explain; otherwise now
    #[arg(long, value_name = "RFC3339")]
    at: Option<Timestamp>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl ExplainVerb {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Policy(verb) => verb.run(connection, out).await,
        }
    }
}

impl ExplainPolicy {
    async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let hub = connection.connect().await?;
        // Says so where there is no such policy, before a whole fleet is read.
        fetch_policy(&hub, hub.namespace(), &self.name).await?;
        let key = PolicyKey::new(hub.namespace(), &self.name);
        let objects = live::fetch(&hub).await?;
        if let Some(cluster) = &self.cluster
            && !objects.has_cluster(cluster)
        {
            return Err(anyhow!("EdgeCluster {cluster} not found"));
        }
        let at = self.at.unwrap_or_else(now);
        let world = objects.world();
        let planned = plan(&world, at);
        let report =
            planned.report.policies.get(&key).ok_or_else(|| {
                anyhow!("PlacementPolicy {key} is not in the plan: it was deleted meanwhile")
            })?;
        match self.output {
            Format::Json => output::json(out, &self.document(&world, &key, report, at)),
            Format::Table => Ok(self.write(&world, &key, report, out)?),
        }
    }

    fn document(
        &self,
        world: &World,
        key: &PolicyKey,
        report: &PolicyReport,
        at: Timestamp,
    ) -> serde_json::Value {
        let explained = |cluster: &str| Explained {
            explanation: report.explain(cluster),
            reported: reported(world, key, cluster).collect(),
        };
        let clusters: Vec<Explained<'_>> = match &self.cluster {
            Some(cluster) => vec![explained(cluster)],
            None => report.clusters().iter().map(|cluster| explained(cluster)).collect(),
        };
        json!({"at": at, "policy": key, "step": report.step, "waitingOn": report.waiting_on,
               "conditions": report.conditions, "clusters": clusters})
    }

    fn write(
        &self,
        world: &World,
        key: &PolicyKey,
        report: &PolicyReport,
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        let Some(cluster) = &self.cluster else {
            write_policy(key, report, out)?;
            write_scores(report, out)?;
            return write_exclusions(report, out);
        };
        write_cluster(key, &report.explain(cluster), out)?;
        write_reported(reported(world, key, cluster), out)
    }
}

/// What there is to say of a cluster, and what its spoke says of the policy's model.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    explanation: Explanation,
    reported: Vec<&'a EntryStatus>,
}

/// The rows that a spoke reported on the versions of a policy's model.
fn reported<'a>(
    world: &'a World,
    key: &'a PolicyKey,
    cluster: &str,
) -> impl Iterator<Item = &'a EntryStatus> + use<'a> {
    let model = world.policies().get(key).map(|policy| &policy.spec.model.name);
    let status = world.assignments().get(cluster).and_then(|assignment| assignment.status.as_ref());
    let rows = status.into_iter().flat_map(|status| &status.entries);
    rows.filter(move |row| row.namespace == key.namespace && Some(&row.model) == model)
}

fn write_reported<'a>(
    rows: impl Iterator<Item = &'a EntryStatus>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    for EntryStatus { version, phase, since, message, .. } in rows {
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        writeln!(out, "  its spoke says of {version}: {phase:?} since {}{message}", since.0)?;
    }
    Ok(())
}

/// The ranking with its parts, best first.
fn write_scores(report: &PolicyReport, out: &mut dyn Write) -> std::io::Result<()> {
    if report.ranking.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = TextTable::new(["RANK", "CLUSTER", "KEPT", "PREFER NO SELECT", "TOTAL", "SCORES"]);
    for (index, ranked) in report.ranking.iter().enumerate() {
        table.row([
            (index + 1).to_string(),
            ranked.cluster.to_string(),
            if ranked.kept { "yes" } else { "" }.to_owned(),
            ranked.prefer_no_select.to_string(),
            ranked.total.to_string(),
            scores(&ranked.scores),
        ]);
    }
    table.write(out, "  ")
}

fn scores(scores: &[(std::sync::Arc<str>, f64)]) -> String {
    scores.iter().map(|(name, score)| format!("{name} {score}")).collect::<Vec<_>>().join(", ")
}

/// Everything there is to say of one cluster.
fn write_cluster(key: &PolicyKey, explanation: &Explanation, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{} and policy {key}", explanation.cluster)?;
    if !explanation.matched && !explanation.selected {
        return writeln!(out, "  its labels do not match the policy's clusterSelector");
    }
    let chosen = if explanation.selected { "chosen" } else { "not chosen" };
    writeln!(out, "  {chosen}; {}", state(explanation))?;
    if let Some(excluded) = &explanation.excluded {
        writeln!(out, "  {}: {}", excluded.reason.as_str(), excluded.message)?;
    }
    if let Some(failure) = &explanation.failure {
        writeln!(out, "  why: {failure}")?;
    }
    if let (Some(rank), Some(score)) = (explanation.rank, &explanation.score) {
        let kept = if score.kept { ", kept because it was chosen before" } else { "" };
        writeln!(out, "  rank {rank}, total {}{kept}", score.total)?;
        if score.prefer_no_select > 0 {
            writeln!(out, "    {} untolerated PreferNoSelect taints", score.prefer_no_select)?;
        }
        for (name, value) in &score.scores {
            writeln!(out, "    {name} {value}")?;
        }
    }
    if explanation.told_now {
        writeln!(out, "  is told to switch now")?;
    }
    for wait in &explanation.waits {
        let until = wait.until.map(|until| format!(" until {until}")).unwrap_or_default();
        let message = wait.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        writeln!(out, "  waits for {:?}{until}{message}", wait.rule)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
