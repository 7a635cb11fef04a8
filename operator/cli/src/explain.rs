//! `explain`: why a policy did and did not choose each cluster, where each is in the rollout, and what it waits for. It
//! is the hub's own planner, run here on the objects that the cluster holds.

use std::io::Write;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use nave_operator_plan::{Explanation, PolicyKey, PolicyReport, plan};
use serde_json::json;

use crate::{
    connection::Connection,
    output::{self, Format},
    plan::{live, state, write_policy},
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
        let planned = plan(&objects.world(), at);
        let report =
            planned.report.policies.get(&key).ok_or_else(|| {
                anyhow!("PlacementPolicy {key} is not in the plan: it was deleted meanwhile")
            })?;
        match self.output {
            Format::Json => output::json(out, &self.document(&key, report, at)),
            Format::Table => Ok(self.write(&key, report, out)?),
        }
    }

    fn document(&self, key: &PolicyKey, report: &PolicyReport, at: Timestamp) -> serde_json::Value {
        let clusters: Vec<Explanation> = match &self.cluster {
            Some(cluster) => vec![report.explain(cluster)],
            None => report.clusters().iter().map(|cluster| report.explain(cluster)).collect(),
        };
        json!({"at": at, "policy": key, "step": report.step, "waitingOn": report.waiting_on,
               "conditions": report.conditions, "clusters": clusters})
    }

    fn write(&self, key: &PolicyKey, report: &PolicyReport, out: &mut dyn Write) -> std::io::Result<()> {
        let Some(cluster) = &self.cluster else {
            write_policy(key, report, out)?;
            write_scores(report, out)?;
            return write_exclusions(report, out);
        };
        write_cluster(key, &report.explain(cluster), out)
    }
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

fn write_exclusions(report: &PolicyReport, out: &mut dyn Write) -> std::io::Result<()> {
    if report.excluded.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = TextTable::new(["EXCLUDED", "REASON", "MESSAGE"]);
    for excluded in &report.excluded {
        table.row([
            excluded.cluster.to_string(),
            excluded.reason.as_str().to_owned(),
            excluded.message.to_string(),
        ]);
    }
    table.write(out, "  ")
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
mod tests {
    use std::sync::Arc;

    use nave_operator_plan::World;

    use super::*;

    /// Five sites of which a policy chooses three, one after the other: what is said of each, and of all.
    fn explained() -> (PolicyKey, Arc<PolicyReport>) {
        let site = |name: &str, region: &str, load: &str, connected: &str| {
            let object = json!({
                "metadata": {"name": name, "labels": {"region": region, "load": load}},
                "spec": {"accepted": name != "site-d",
                    "taints": if name == "site-b" { json!([{"key": "old", "effect": "PreferNoSelect"}]) } else { json!([]) }},
                "status": {"conditions": [{"type": "Connected", "status": connected, "reason": "Session",
                    "message": "", "lastTransitionTime": "2026-11-24T09:00:00Z"}]},
            });
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let version = json!({
            "metadata": {"namespace": "vision", "name": "defects-2"},
            "spec": {"model": "defects", "version": "2", "source": {"s3": {"bucket": "models", "prefix": "defects/2"}}},
            "status": {"manifestDigest": "sha256:1", "conditions": [{"type": "Ready", "status": "True", "reason": "Resolved",
                "message": "", "lastTransitionTime": "2026-11-24T09:00:00Z"}]},
        });
        let policy = json!({
            "metadata": {"namespace": "vision", "name": "bridges", "generation": 1},
            "spec": {
                "model": {"name": "defects", "version": "2"},
                "placement": {
                    "clusterSelector": {"matchLabels": {"region": "north"}}, "numberOfClusters": 3,
                    "prioritizers": [{"by": "Label", "key": "load", "weight": 2}, {"by": "Balance"}],
                },
                "rollout": {"maxConcurrent": 1},
            },
        });
        let world = World::new(
            [
                site("site-a", "north", "5", "True"),
                site("site-b", "north", "9", "True"),
                site("site-c", "north", "9", "False"),
                site("site-d", "north", "9", "True"),
                site("site-e", "north", "1", "True"),
                site("site-f", "south", "9", "True"),
            ],
            [Arc::new(serde_json::from_value(version).unwrap())],
            [Arc::new(serde_json::from_value(policy).unwrap())],
            [],
        );
        let at = "2026-11-24T10:00:00Z".parse::<Timestamp>().unwrap();
        let planned = plan(&world, at);
        planned.report.policies.into_iter().next().unwrap()
    }

    fn said(cluster: &str) -> String {
        let (key, report) = explained();
        let mut out = Vec::new();
        write_cluster(&key, &report.explain(cluster), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn of_one_cluster_it_is_said_why_its_score_by_part_where_it_is_and_what_it_waits_for() {
        insta::assert_snapshot!(said("site-a"), @"
        site-a and policy vision/bridges
          chosen; InFlight
          rank 2, total 0
            Label/load 0
            Balance 0
          is told to switch now
          waits for InFlight until 2026-11-24T11:00:00Z
        ");
        insta::assert_snapshot!(said("site-b"), @"
        site-b and policy vision/bridges
          not chosen; excluded: OutOfNumber
          OutOfNumber: numberOfClusters is 3, and others rank before it
          rank 4, total 200
            1 untolerated PreferNoSelect taints
            Label/load 100
            Balance 0
        ");
        insta::assert_snapshot!(said("site-c"), @"
        site-c and policy vision/bridges
          chosen; Deferred
          rank 1, total 200
            Label/load 100
            Balance 0
          waits for Connected
        ");
        insta::assert_snapshot!(said("site-d"), @"
        site-d and policy vision/bridges
          not chosen; excluded: NotAccepted
          NotAccepted: spec.accepted is not true
        ");
        insta::assert_snapshot!(said("site-e"), @"
        site-e and policy vision/bridges
          chosen; Waiting
          rank 3, total -200
            Label/load -100
            Balance 0
          waits for MaxConcurrent
        ");
        insta::assert_snapshot!(said("site-f"), @"
        site-f and policy vision/bridges
          its labels do not match the policy's clusterSelector
        ");
    }

    #[test]
    fn of_all_clusters_the_scores_are_said_best_first_and_then_who_is_excluded() {
        let (_, report) = explained();
        let mut out = Vec::new();
        write_scores(&report, &mut out).unwrap();
        write_exclusions(&report, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        RANK   CLUSTER   KEPT   PREFER NO SELECT   TOTAL   SCORES
        1      site-c    -      0                  200     Label/load 100, Balance 0
        2      site-a    -      0                  0       Label/load 0, Balance 0
        3      site-e    -      0                  -200    Label/load -100, Balance 0
        4      site-b    -      1                  200     Label/load 100, Balance 0

        EXCLUDED   REASON        MESSAGE
        site-b     OutOfNumber   numberOfClusters is 3, and others rank before it
        site-d     NotAccepted   spec.accepted is not true
        ");
    }

    #[test]
    fn a_report_is_written_with_the_names_of_the_contract() {
        let (_, report) = explained();
        let written = serde_json::to_value(&*report).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(
            keys(&written),
            [
                "conditions",
                "deferred",
                "excluded",
                "failed",
                "inFlight",
                "matched",
                "ranking",
                "rolledBack",
                "selected",
                "serving",
                "step",
                "tell",
                "waitingOn"
            ]
        );
        assert_eq!(keys(&written["excluded"][0]), ["cluster", "message", "reason"]);
        assert_eq!(keys(&written["ranking"][0]), ["cluster", "kept", "preferNoSelect", "scores", "total"]);
        assert_eq!(keys(&written["waitingOn"][0]), ["clusters", "rule", "until"]);
        assert_eq!(keys(&written["conditions"][0]), ["message", "reason", "status", "type"]);
        assert_eq!(keys(&written["step"]), ["index", "of", "state"]);
    }
}
