//! `rollout status`: where one policy's rollout stands, and what it waits for.

use std::{io::Write, time::Duration};

use anyhow::bail;
use clap::Args;
use jiff::SignedDuration;
use nave_crds::{FailedCluster, PlacementPolicy, PlacementPolicyStatus, WaitingOn};
use serde_json::json;

use super::{Target, is_behind, watch::watch};
use crate::{
    connection::Connection,
    output::{self, Format},
    text_table::TextTable,
    time::parse_duration,
};

/// Show where a rollout stands and what it waits for
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    target: Target,
    /// Go on showing changes until it is complete (exit code 0), or stopped or rolled back (1); a lost connection is made anew
    #[arg(short, long)]
    watch: bool,
    /// With --watch: give up after this time
    #[arg(long, value_parser = parse_duration, requires = "watch")]
    timeout: Option<SignedDuration>,
}

impl Status {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let steered = self.target.fetch(connection).await?;
        if !self.watch {
            return write(&steered.policy, steered.output, out);
        }
        let (named, mut policy) = (steered.named(), steered.policy);
        let until_end = watch(steered.api, &steered.name, &named, &mut policy, steered.output, out);
        let Some(timeout) = self.timeout else { return until_end.await };
        match tokio::time::timeout(Duration::try_from(timeout)?, until_end).await {
            Ok(ended) => ended,
            Err(_) => bail!("{named} is not complete after {timeout:#}{}", standing(&policy)),
        }
    }
}

/// Where it stands and what it waits for, in a few words.
fn standing(policy: &PlacementPolicy) -> String {
    let Some(status) = &policy.status else { return ": the hub has not looked at it yet".to_owned() };
    let step = status.step.as_ref();
    let step = step.map(|step| format!(": step {} of {}: {:?}", step.index, step.of, step.state));
    let waits = status.waiting_on.iter().map(|waiting| {
        let [rule, _, clusters, message] = waiting_cells(waiting);
        let message = if message.is_empty() { message } else { format!(" ({message})") };
        format!(", {rule} {clusters}{message}")
    });
    step.into_iter().chain(waits).collect()
}

/// The answer of one moment.
pub(super) fn write(policy: &PlacementPolicy, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(
            out,
            &json!({
                "namespace": policy.metadata.namespace,
                "policy": policy.metadata.name,
                "generation": policy.metadata.generation,
                "model": policy.spec.model,
                "status": policy.status,
            }),
        ),
        Format::Table => Ok(write_table(policy, out)?),
    }
}

fn write_table(policy: &PlacementPolicy, out: &mut dyn Write) -> std::io::Result<()> {
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    let model = &policy.spec.model;
    writeln!(out, "{name}: {} {}", model.name, model.version)?;
    let Some(status) = &policy.status else {
        return writeln!(out, "  the hub has not looked at it yet");
    };
    if is_behind(status, policy) {
        writeln!(out, "  the hub has not looked at its latest change yet")?;
    }
    write_status(status, out)
}

fn write_status(status: &PlacementPolicyStatus, out: &mut dyn Write) -> std::io::Result<()> {
    if let Some(step) = &status.step {
        writeln!(out, "  step {} of {}: {:?}", step.index, step.of, step.state)?;
    }
    if let Some(counts) = &status.clusters {
        writeln!(
            out,
            "  clusters: {} matched, {} selected, {} prefetched, {} updated, {} serving, {} failed, {} deferred",
            counts.matched,
            counts.selected,
            counts.prefetched,
            counts.updated,
            counts.serving,
            counts.failed,
            counts.deferred
        )?;
    }
    if let Some(previous) = &status.previous_version {
        writeln!(out, "  previous version: {previous}")?;
    }
    if !status.waiting_on.is_empty() {
        let mut table = TextTable::new(["WAITS FOR", "UNTIL", "CLUSTERS", "MESSAGE"]);
        for waiting in &status.waiting_on {
            table.row(waiting_cells(waiting));
        }
        table.write(out, "  ")?;
    }
    if !status.failures.is_empty() {
        let mut table = TextTable::new(["FAILED", "MESSAGE"]);
        for FailedCluster { cluster, message } in &status.failures {
            table.row([cluster.clone(), message.clone()]);
        }
        table.write(out, "  ")?;
        let failed = status.clusters.map_or(0, |counts| counts.failed);
        let more = failed - i64::try_from(status.failures.len()).unwrap_or(0);
        if more > 0 {
            writeln!(out, "  and {more} more failed")?;
        }
    }
    for condition in &status.conditions {
        writeln!(
            out,
            "  {}={} {} {}",
            condition.type_, condition.status, condition.reason, condition.message
        )?;
    }
    Ok(())
}

/// A rule, until when, whom it holds up, and what more there is to say.
fn waiting_cells(waiting: &WaitingOn) -> [String; 4] {
    let shown = waiting.clusters.join(", ");
    let more = waiting.count.unwrap_or(0) - i64::try_from(waiting.clusters.len()).unwrap_or(0);
    let clusters = if more > 0 { format!("{shown} and {more} more") } else { shown };
    let until = waiting.until.as_ref().map(|until| until.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let message = waiting.message.clone().unwrap_or_default();
    [format!("{:?}", waiting.rule), until.unwrap_or_default(), clusters, message]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> PlacementPolicy {
        serde_json::from_value(json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "PlacementPolicy",
            "metadata": {"name": "bridges", "namespace": "vision", "generation": 2},
            "spec": {"model": {"name": "defects", "version": "2"}},
            "status": {
                "observedGeneration": 1,
                "step": {"index": 1, "of": 2, "state": "Soaking"},
                "clusters": {"matched": 4, "selected": 3, "prefetched": 3, "updated": 2, "serving": 1, "failed": 6, "deferred": 1},
                "failures": [{"cluster": "d4", "message": "Failed: out of memory"}],
                "previousVersion": "1",
                "waitingOn": [
                    {"rule": "Requirements", "clusters": ["c3"], "count": 1, "message": "c3: has no runtime triton"},
                    {"rule": "Connected", "clusters": ["a12"], "count": 1},
                    {"rule": "Soak", "clusters": ["b7"], "count": 3, "until": "2026-11-24T12:10:00Z"}
                ]
            }
        }))
        .unwrap()
    }

    #[test]
    fn a_rollout_is_shown_with_what_it_waits_for() {
        let mut out = Vec::new();
        write_table(&policy(), &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        bridges: defects 2
          the hub has not looked at its latest change yet
          step 1 of 2: Soaking
          clusters: 4 matched, 3 selected, 3 prefetched, 2 updated, 1 serving, 6 failed, 1 deferred
          previous version: 1
          WAITS FOR      UNTIL                  CLUSTERS        MESSAGE
          Requirements   -                      c3              c3: has no runtime triton
          Connected      -                      a12             -
          Soak           2026-11-24T12:10:00Z   b7 and 2 more   -
          FAILED   MESSAGE
          d4       Failed: out of memory
          and 5 more failed
        ");
        assert_eq!(
            standing(&policy()),
            ": step 1 of 2: Soaking, Requirements c3 (c3: has no runtime triton), Connected a12, Soak b7 and 2 more"
        );
    }
}
