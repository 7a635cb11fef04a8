//! Failure: why a cluster counts as failed, and what used up a run's failure budget, for people.

use nave_crds::{
    EntryStatus,
    view::conditions::{DEGRADED, find},
};

use super::{
    Look, Rolled,
    gates::Gates,
    standing::{Seat, reports_failure},
    target::Run,
};
use crate::{
    Category, Failure, Name,
    input::{Held, Policy},
    placement::Member,
};

/// How many characters of what a spoke says are repeated.
const SHOWN: usize = 200;
/// How many failed clusters a cause names.
const NAMED: usize = 3;

/// The first of those that failed, by name, and why: of the seats, and of these that are at rest.
pub(crate) fn failures<'a>(
    look: &Look<'_>,
    rolled: &'a Rolled<'_>,
    at_rest: impl Iterator<Item = &'a Member>,
    most: usize,
) -> Vec<Failure> {
    let seats = failed(&rolled.seats);
    let all = seats.chain(at_rest.map(|member| (member, member.held()))).collect();
    first(all, most).into_iter().map(|one| failure(look.policy, &rolled.run, one)).collect()
}

/// What made a run turn back, or stop: what was said then of one that is turning back, or did.
pub(crate) fn cause(look: &Look<'_>, run: &Run, gates: &Gates, seats: &[Seat<'_>]) -> Option<String> {
    if run.is_back() {
        return stored_cause(look.policy);
    }
    if !gates.over_budget {
        return None;
    }
    let clusters = if gates.failed == 1 { "cluster" } else { "clusters" };
    let mut text = format!("{} {clusters} failed, {} may", gates.failed, gates.may_fail);
    for (number, one) in first(failed(seats).collect(), NAMED).into_iter().enumerate() {
        let Failure { cluster, message } = failure(look.policy, run, one);
        text.push_str(&format!("{} {cluster}: {message}", if number == 0 { ":" } else { ";" }));
    }
    if gates.failed > NAMED {
        text.push_str(&format!("; and {} more", gates.failed - NAMED));
    }
    Some(text)
}

/// What is said of a run that was rolled back.
pub(crate) fn rolled_back(policy: &Policy, cause: Option<&str>) -> String {
    let text = format!("the rollout of {} was rolled back", policy.target());
    match cause {
        Some(cause) => format!("{text}: {cause}"),
        None => text,
    }
}

fn stored_cause(policy: &Policy) -> Option<String> {
    let degraded = find(&policy.status()?.conditions, DEGRADED).filter(|one| one.status == "True")?;
    let cause = match &*degraded.reason {
        "RolledBack" => degraded.message.strip_prefix(&rolled_back(policy, Some("")))?,
        "FailureBudget" => &degraded.message,
        _ => return None,
    };
    Some(cause.to_owned())
}

/// A failed cluster, and what is asked of it.
type Failed<'a> = (&'a Member, &'a Held);

fn failed<'a>(seats: &'a [Seat<'_>]) -> impl Iterator<Item = Failed<'a>> {
    seats.iter().filter(|seat| seat.is(Category::Failed)).map(|seat| (seat.member, &seat.asked))
}

/// The first of these by name.
fn first(mut these: Vec<Failed<'_>>, most: usize) -> Vec<Failed<'_>> {
    let by_name = |a: &Failed<'_>, b: &Failed<'_>| a.0.name().cmp(b.0.name());
    if these.len() > most {
        these.select_nth_unstable_by(most, by_name);
        these.truncate(most);
    }
    these.sort_unstable_by(by_name);
    these
}

fn failure(policy: &Policy, run: &Run, (member, asked): Failed<'_>) -> Failure {
    Failure { cluster: Name::clone(member.name()), message: why(policy, run, member, asked) }
}

/// Why a cluster that failed did.
fn why(policy: &Policy, run: &Run, member: &Member, asked: &Held) -> String {
    let target = policy.target();
    let row_of = |version: &str| member.rows().find(|row| row.version == version);
    let row = row_of(target);
    if let Some(row) = row.filter(|_| reports_failure(policy, run, member, asked)) {
        return said(row);
    }
    let told = asked.serve.as_ref().map_or(target, |told| &told.version);
    if told != target {
        let fails = row_of(told).filter(|row| row.phase.is_failure());
        let how =
            fails.map_or_else(|| "does not serve it".to_owned(), |row| format!("fails it: {}", said(row)));
        return format!("was sent back to {told}, and {how}");
    }
    let deadline = policy.deadline;
    let says = row.map_or_else(|| "says nothing of it".to_owned(), |row| format!("says {:?}", row.phase));
    format!("does not serve {target} after the progressDeadline of {deadline:#}, and {says}")
}

/// What a spoke says of a version, in one line.
fn said(row: &EntryStatus) -> String {
    let text = if row.message.is_empty() { &row.reason } else { &row.message };
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(SHOWN) {
        words.truncate(end);
        words.push_str("...");
    }
    if words.is_empty() { format!("{:?}", row.phase) } else { format!("{:?}: {words}", row.phase) }
}
