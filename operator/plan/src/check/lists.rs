//! Lists of a report: sorted, nobody in two that exclude each other, and everybody in the one where the stored objects put
//! them: who is away is deferred, and never failed for that alone.

use std::collections::BTreeSet;

use nave_crds::WaitRule;

use super::view::{Site, View};
use crate::{Name, PolicyReport};

/// Lists are sorted, and nobody is in two of them.
pub(super) fn check(report: &PolicyReport, add: &mut impl FnMut(String)) {
    let lists = [
        ("matched", &report.matched),
        ("selected", &report.selected),
        ("tell", &report.tell),
        ("serving", &report.serving),
        ("inFlight", &report.in_flight),
        ("failed", &report.failed),
        ("deferred", &report.deferred),
        ("rolledBack", &report.rolled_back),
    ];
    for (word, list) in lists {
        if !list.is_sorted_by(|a, b| a < b) {
            add(format!("{word} is not sorted, or names a cluster twice"));
        }
    }
    let selected: BTreeSet<&Name> = report.selected.iter().collect();
    let mut somewhere = BTreeSet::new();
    for list in [&report.serving, &report.in_flight, &report.failed, &report.deferred] {
        for name in list {
            if !selected.contains(name) || !somewhere.insert(name) {
                add(format!("{name} is in two categories, or in one without being selected"));
            }
        }
    }
    let excluded: BTreeSet<&Name> = report.excluded.iter().map(|one| &one.cluster).collect();
    if excluded.len() != report.excluded.len() || excluded.iter().any(|name| selected.contains(*name)) {
        add("a cluster is excluded twice, or excluded and selected".into());
    }
    for name in &report.matched {
        if !selected.contains(name) && !excluded.contains(name) {
            add(format!("{name} matches and is neither selected nor excluded"));
        }
    }
    let rules: BTreeSet<_> = report.waiting_on.iter().map(|wait| wait.rule).collect();
    if rules.len() != report.waiting_on.len() {
        add("waitingOn names a rule twice".into());
    }
}

/// Everybody is where the stored objects say.
pub(super) fn check_categories(view: &View<'_>, add: &mut impl FnMut(String)) {
    let report = view.report;
    for site in &view.sites {
        let name = site.name;
        let (serving, in_flight) = (report.serving.contains(name), report.in_flight.contains(name));
        let (failed, deferred) = (report.failed.contains(name), report.deferred.contains(name));
        let told = view.told(site);
        if serving && !(site.connected() && told && view.serves(site)) {
            add(format!("{name} is serving, but is away, not told, or does not say so"));
        }
        if site.connected() && told && view.serves(site) && !serving {
            add(format!("{name} serves the target and is there, but is not serving"));
        }
        if in_flight && !(site.connected() && told && site.after.is_some_and(|to| view.flies(site, to))) {
            add(format!("{name} is in flight, but is away, not told, there, failed or late"));
        }
        if site.connected() && told && !(serving || in_flight || failed || deferred) {
            add(format!("{name} is told, and neither serving, in flight, failed nor deferred"));
        }
        if told && !serving && !failed && view.failed(site) {
            add(format!("{name} reports a failure of the target, but does not count as failed"));
        }
        if deferred && site.connected() && !held(report, name) {
            add(format!("{name} is deferred, but is there, and nothing holds it"));
        }
        if failed && !site.connected() && !says_so(view, site) {
            add(format!("{name} is away and reported no failure, but counts as failed"));
        }
        if !site.connected() && !failed && !deferred {
            add(format!("{name} is away, but neither deferred nor failed"));
        }
        if deferred && site.connected() && told && view.serves(site) {
            add(format!("{name} serves the target, but is deferred"));
        }
        if report.tell.contains(name) && !(serving || in_flight) {
            add(format!("tells {name}, which is neither in flight nor there then"));
        }
    }
}

fn held(report: &PolicyReport, name: &Name) -> bool {
    let first = [WaitRule::ModelVersion, WaitRule::Requirements];
    report.waiting_on.iter().any(|wait| first.contains(&wait.rule) && wait.clusters.contains(name))
}

/// The spoke itself reports a failure: for the target, or for what it was sent back to.
fn says_so(view: &View<'_>, site: &Site<'_>) -> bool {
    let back = site.after.filter(|_| view.report.rolled_back.contains(site.name));
    let versions = [Some(view.policy.target()), back.map(|entry| entry.version.as_str())];
    versions
        .into_iter()
        .flatten()
        .any(|version| view.row(site, version).is_some_and(|row| row.phase.is_failure()))
}
