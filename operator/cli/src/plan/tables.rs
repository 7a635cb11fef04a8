//! A plan for people: one block for each policy, one row for each cluster.

use std::{collections::BTreeSet, io::Write};

use jiff::Timestamp;
use nave_operator_plan::{Category, Explanation, Failure, Plan, PolicyKey, PolicyReport};

use super::difference::{Difference, Moves, PolicyDifference, Stand};
use crate::text_table::TextTable;

/// Failed clusters of which it is said why; there may be thousands.
const FAILURES: usize = 20;

/// The plan, as far as `shown` wants it.
pub(super) fn write_plan(
    plan: &Plan,
    at: Timestamp,
    shown: impl Fn(&PolicyKey) -> bool,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    match plan.recheck_at {
        Some(next) => writeln!(out, "At {at}; time alone changes this plan at {next}.")?,
        None => writeln!(out, "At {at}; time alone does not change this plan.")?,
    }
    for (key, report) in plan.report.policies.iter().filter(|(key, _)| shown(key)) {
        writeln!(out)?;
        write_policy(key, report, out)?;
        write_exclusions(report, out)?;
    }
    if plan.report.policies.is_empty() {
        writeln!(out, "\nNo policies.")?;
    }
    Ok(())
}

/// One policy: where it stands, then each cluster.
pub(crate) fn write_policy(
    key: &PolicyKey,
    report: &PolicyReport,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let step = &report.step;
    writeln!(out, "{key}: version {}, step {} of {}: {:?}", report.target, step.index, step.of, step.state)?;
    writeln!(
        out,
        "  {} matched, {} selected, {} serving, {} in flight, {} failed, {} deferred",
        report.matched.len(),
        report.selected.len(),
        report.serving.len(),
        report.in_flight.len(),
        report.failed.len(),
        report.deferred.len()
    )?;
    for condition in &report.conditions {
        let line =
            format!("  {}={} {} {}", condition.type_, condition.status, condition.reason, condition.message);
        writeln!(out, "{}", line.trim_end())?;
    }
    let mut table = TextTable::new(["CLUSTER", "RANK", "STATE", "TOLD NOW", "WAITS FOR", "UNTIL"]);
    let mut explained: Vec<Explanation> =
        report.clusters().iter().map(|cluster| report.explain(cluster)).collect();
    explained.sort_by(|a, b| place(a).cmp(&place(b)));
    for explanation in &explained {
        let wait = explanation.waits.first();
        table.row([
            explanation.cluster.to_string(),
            explanation.rank.map(|rank| rank.to_string()).unwrap_or_default(),
            state(explanation),
            if explanation.told_now { "yes".to_owned() } else { String::new() },
            wait.map(|wait| format!("{:?}", wait.rule)).unwrap_or_default(),
            wait.and_then(|wait| wait.until).map(|until| until.to_string()).unwrap_or_default(),
        ]);
    }
    if !table.is_empty() {
        table.write(out, "  ")?;
    }
    // Once for each rule: it may hold up thousands.
    for wait in &report.waiting_on {
        if let Some(message) = &wait.message {
            writeln!(out, "  waits for {:?}: {message}", wait.rule)?;
        }
    }
    for Failure { cluster, message } in report.failures.iter().take(FAILURES) {
        writeln!(out, "  {cluster} failed: {message}")?;
    }
    match report.failures.len().saturating_sub(FAILURES) {
        0 => Ok(()),
        more => writeln!(
            out,
            "  and {more} more failed: kubectl nave explain policy NAME --cluster CLUSTER says why"
        ),
    }
}

/// Why each of those that match and are not chosen is not.
pub(crate) fn write_exclusions(report: &PolicyReport, out: &mut dyn Write) -> std::io::Result<()> {
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

/// The selected first, then the candidates, each by rank.
fn place(explanation: &Explanation) -> (bool, usize, &str) {
    (!explanation.selected, explanation.rank.unwrap_or(usize::MAX), &explanation.cluster)
}

/// Where a cluster is in the rollout, or why it is not chosen.
pub(crate) fn state(explanation: &Explanation) -> String {
    if explanation.rolled_back {
        return "RolledBack".to_owned();
    }
    if let Some(category) = explanation.category {
        return match category {
            Category::Serving => "Serving",
            Category::InFlight => "InFlight",
            Category::Failed => "Failed",
            Category::Deferred => "Deferred",
            Category::Waiting => "Waiting",
        }
        .to_owned();
    }
    match &explanation.excluded {
        Some(excluded) => format!("excluded: {}", excluded.reason.as_str()),
        None => "not matched".to_owned(),
    }
}

/// Kinds of the files that a plan does not read.
pub(super) fn write_left_out(kinds: &BTreeSet<String>, out: &mut dyn Write) -> std::io::Result<()> {
    if kinds.is_empty() {
        return Ok(());
    }
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    writeln!(out, "\nLeft out, because a plan does not read them: {}.", kinds.join(", "))
}

/// What applying the files would change.
pub(super) fn write_difference(difference: &Difference, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out)?;
    if difference.is_empty() {
        return writeln!(out, "Applying the files would change nothing.");
    }
    writeln!(out, "Applying the files would change:")?;
    for (key, policy) in &difference.policies {
        write_policy_difference(key, policy, out)?;
    }
    for (cluster, entries) in &difference.clusters {
        for entry in entries {
            let [before, after] = [&entry.before, &entry.after]
                .map(|entries| if entries.is_empty() { "nothing".to_owned() } else { entries.join(" + ") });
            writeln!(out, "  {cluster}: {} of {}: {before} -> {after}", entry.model, entry.policy)?;
        }
    }
    Ok(())
}

fn write_policy_difference(
    key: &PolicyKey,
    policy: &PolicyDifference,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let stand = |stand: &Stand| {
        format!(
            "version {}, step {} of {} {:?}",
            stand.target, stand.step.index, stand.step.of, stand.step.state
        )
    };
    let before = policy.before.as_ref().map_or_else(|| "new".to_owned(), stand);
    writeln!(out, "  {key}: {before} -> {}", stand(&policy.after))?;
    for (what, moves) in [("selected", &policy.selected), ("told now", &policy.tell)] {
        write_moves(what, moves, out)?;
    }
    Ok(())
}

fn write_moves(what: &str, moves: &Moves, out: &mut dyn Write) -> std::io::Result<()> {
    if !moves.added.is_empty() {
        writeln!(out, "    {what}: + {}", moves.added.join(", "))?;
    }
    if !moves.removed.is_empty() {
        writeln!(out, "    {what}: - {}", moves.removed.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nave_operator_plan::{World, plan};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_rule_has_to_say_is_said_once() {
        let cluster = |name: &str| {
            let connected = json!({"type": "Connected", "status": "True", "reason": "Session", "message": "",
                "lastTransitionTime": "2026-11-24T09:00:00Z"});
            let object = json!({"metadata": {"name": name}, "spec": {"accepted": true}, "status": {"conditions": [connected]}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let policy = json!({
            "metadata": {"namespace": "vision", "name": "bridges", "generation": 1},
            "spec": {"model": {"name": "defects", "version": "2"}},
        });
        let policy = Arc::new(serde_json::from_value(policy).unwrap());
        let world = World::new([cluster("site-a"), cluster("site-b")], [], [policy], []);
        let planned = plan(&world, "2026-11-24T10:00:00Z".parse().unwrap());
        let mut out = Vec::new();
        write_policy(
            &PolicyKey::new("vision", "bridges"),
            planned.report.policies.values().next().unwrap(),
            &mut out,
        )
        .unwrap();
        let shown = String::from_utf8(out).unwrap();
        let (_, table) = shown.split_once("Conflicted=False None\n").unwrap();
        insta::assert_snapshot!(table, @"
        CLUSTER   RANK   STATE     TOLD NOW   WAITS FOR      UNTIL
        site-a    1      Waiting   -          ModelVersion   -
        site-b    2      Waiting   -          ModelVersion   -
        waits for ModelVersion: no ModelVersion in vision is version 2 of model defects
        ");
    }
}
