//! What a plan says, as the scenarios show it.

use jiff::Timestamp;
use nave_operator_plan::{Name, Plan, PolicyReport};

use super::Stage;

/// The lines of a plan. Sections are shown besides what always is: `ranking`, `excluded`, `entries`, `conditions`,
/// `matched`, `previous` (the version that an undo goes back to), `named` (whom the status names of those that wait),
/// `failures` (why those that failed did); other words name the policies to show.
pub(super) fn plan(stage: &Stage, plan: &Plan, sections: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    let known = ["ranking", "excluded", "entries", "conditions", "matched", "previous", "named", "failures"];
    let shown: Vec<&&str> = sections.iter().filter(|word| !known.contains(word)).collect();
    for (key, report) in &plan.report.policies {
        if shown.is_empty() || shown.iter().any(|name| **name == key.name) {
            let several = plan.report.policies.len() > 1;
            lines.extend(policy(
                &if several { format!("{} ", key.name) } else { String::new() },
                report,
                sections,
            ));
            let stored = stage.world.policies().get(key).and_then(|policy| policy.status.as_ref());
            let Some(status) = plan.policy_status.get(key).or(stored) else { continue };
            if sections.contains(&"previous") {
                let previous = status.previous_version.as_deref();
                lines.push(format!("  previousVersion {}", previous.unwrap_or("-")));
            }
            for row in status.waiting_on.iter().filter(|_| sections.contains(&"named")) {
                let (count, clusters) = (row.count.unwrap(), row.clusters.join(" "));
                lines.push(format!("  status {:?}: {count}, of these {clusters}", row.rule));
            }
        }
    }
    if sections.contains(&"entries") {
        lines.extend(entries(plan));
    }
    for event in &plan.events {
        lines.push(format!("event {:?} {}: {}", event.severity, event.reason, event.note));
    }
    if let Some(at) = plan.recheck_at {
        lines.push(format!("recheck {}", time(stage, at)));
    }
    lines
}

fn policy(name: &str, report: &PolicyReport, sections: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    let step = &report.step;
    lines.push(format!(
        "{name}step {}/{} {:?}{}",
        step.index,
        step.of,
        step.state,
        list(" tell", &report.tell)
    ));
    let where_ = [
        ("serving", &report.serving),
        ("inFlight", &report.in_flight),
        ("failed", &report.failed),
        ("deferred", &report.deferred),
        ("rolledBack", &report.rolled_back),
    ];
    let where_: Vec<String> =
        where_.iter().filter(|(_, list)| !list.is_empty()).map(|(word, all)| list(word, all)).collect();
    if !where_.is_empty() {
        lines.push(format!("  {}", where_.join("; ")));
    }
    if sections.contains(&"matched") {
        lines.push(format!("  {}; {}", list("matched", &report.matched), list("selected", &report.selected)));
    }
    if sections.contains(&"ranking") {
        for one in &report.ranking {
            let json = serde_json::to_value(one).unwrap();
            let kept = if one.kept { " kept" } else { "" };
            lines.push(format!(
                "  rank {}{kept} prefer-no-select={} total={} {}",
                one.cluster, one.prefer_no_select, json["total"], json["scores"]
            ));
        }
    }
    if sections.contains(&"excluded") {
        for one in &report.excluded {
            lines.push(format!("  excluded {} {}: {}", one.cluster, one.reason.as_str(), one.message));
        }
    }
    for one in report.failures.iter().filter(|_| sections.contains(&"failures")) {
        lines.push(format!("  failed {}: {}", one.cluster, one.message));
    }
    for wait in &report.waiting_on {
        let until = wait.until.map(|until| format!(" until {until}")).unwrap_or_default();
        let message = wait.message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default();
        lines.push(format!("  waits {:?}: {}{until}{message}", wait.rule, names(&wait.clusters)));
    }
    let conditions =
        report.conditions.iter().map(|one| format!("{}={}/{}", one.type_, one.status, one.reason));
    lines.push(format!("  {}", conditions.collect::<Vec<_>>().join(" ")));
    if sections.contains(&"conditions") {
        for one in report.conditions.iter().filter(|one| !one.message.is_empty()) {
            lines.push(format!("  {}: {}", one.type_, one.message));
        }
    }
    lines
}

fn entries(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, spec) in &plan.assignments {
        for entry in &spec.entries {
            let previous =
                entry.previous_version.as_ref().map(|was| format!(" was {was}")).unwrap_or_default();
            let runtime =
                entry.serving.runtime.as_ref().map(|runtime| format!(" in {runtime}")).unwrap_or_default();
            lines.push(format!(
                "assign {name} g{}: {} {} {}@{}{runtime}{previous}",
                spec.generation, entry.policy, entry.action, entry.model, entry.version
            ));
        }
        if spec.entries.is_empty() {
            lines.push(format!("assign {name} g{}: nothing", spec.generation));
        }
    }
    lines
}

fn list(word: &str, all: &[Name]) -> String {
    if all.is_empty() { String::new() } else { format!("{word} {}", names(all)) }
}

fn names(all: &[Name]) -> String {
    all.iter().map(|name| &**name).collect::<Vec<_>>().join(" ")
}

/// The time of day where it is today.
fn time(stage: &Stage, at: Timestamp) -> String {
    let text = at.to_string();
    let today = stage.now.to_string()[..10].to_owned();
    text.strip_prefix(&format!("{today}T")).map(|time| time.trim_end_matches('Z').to_owned()).unwrap_or(text)
}
