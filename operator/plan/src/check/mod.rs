//! Check: what must hold of every plan, whatever the world. It looks at the stored objects and the plan only, not at how the
//! plan was made; property tests and scenarios run it after every step.

mod limits;
mod lists;
mod status;
mod steps;
mod told;
mod view;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use nave_crds::{Action, AssignmentEntry, RolloutPhase, view::conditions::Status};

use self::view::View;
use crate::{
    Plan, PolicyKey, PolicyReport, World,
    input::{Catalogue, Version},
};

/// What a plan breaks; empty = nothing.
pub fn check(world: &World, plan: &Plan, now: Timestamp) -> Vec<String> {
    let mut broken = Vec::new();
    check_assignments(world, plan, &mut broken);
    check_runtimes(world, plan, &mut broken);
    let versions = world.versions.values();
    let catalogue = Catalogue::new(versions.map(|version| Version::new(version.clone()).into()));
    for (key, object) in &world.policies {
        let Some(report) = plan.report.policies.get(key) else {
            broken.push(format!("{key}: no report"));
            continue;
        };
        let mut add = |message: String| broken.push(format!("{key}: {message}"));
        lists::check(report, &mut add);
        check_conditions(report, &mut add);
        if let Some(status) = plan.policy_status.get(key).or(object.status.as_ref()) {
            status::check(status, report, &mut add);
        }
        let view = View::new(world, plan, key, object, report, now);
        check_end(&view, &mut add);
        check_back(&view, &mut add);
        lists::check_categories(&view, &mut add);
        told::check(&view, &catalogue, &mut add);
        limits::check(&view, &mut add);
        steps::check(&view, &mut add);
    }
    broken
}

fn check_assignments(world: &World, plan: &Plan, broken: &mut Vec<String>) {
    for (name, spec) in &plan.assignments {
        let stored = world.assignments.get(name);
        if !world.clusters.contains_key(name) {
            broken.push(format!("{name}: assigned, but there is no such cluster"));
        }
        let generation = stored.map_or(0, |stored| stored.spec.generation);
        if spec.generation != generation + 1 {
            broken.push(format!("{name}: generation {} after {generation}", spec.generation));
        }
        let key = |e: &Arc<AssignmentEntry>| {
            (e.namespace.clone(), e.policy.clone(), e.model.clone(), e.action, e.version.clone())
        };
        if !spec.entries.is_sorted_by_key(key) {
            broken.push(format!("{name}: entries are not sorted"));
        }
        let mut served = BTreeSet::new();
        for entry in &spec.entries {
            if !world.policies.contains_key(&PolicyKey::new(&entry.namespace, &entry.policy)) {
                broken.push(format!(
                    "{name}: an entry of {}/{}, which is not there",
                    entry.namespace, entry.policy
                ));
            }
            if entry.action == Action::Serve && !served.insert(&entry.model) {
                broken.push(format!("{name}: two Serve entries for model {}", entry.model));
            }
        }
    }
}

/// Nobody is asked to serve a version in a runtime that it does not have, unless it was before. A rollback goes by its policy.
fn check_runtimes(world: &World, plan: &Plan, broken: &mut Vec<String>) {
    for (name, spec) in &plan.assignments {
        let Some(cluster) = world.clusters.get(name) else { continue };
        let capacity = cluster.status.as_ref().and_then(|status| status.capacity.as_ref());
        let has = |runtime: &str| {
            matches!(runtime, "files" | "hook")
                || capacity.is_some_and(|all| all.runtimes.iter().any(|one| one.name == runtime))
        };
        let stored = world.assignments.get(name).map_or(&[][..], |stored| &stored.spec.entries);
        for entry in spec.entries.iter().filter(|entry| entry.action == Action::Serve) {
            let same = |old: &&Arc<AssignmentEntry>| {
                (&old.namespace, &old.policy, &old.model, &old.version, old.action)
                    == (&entry.namespace, &entry.policy, &entry.model, &entry.version, entry.action)
            };
            let as_before = stored.iter().filter(same).any(|old| old.serving == entry.serving);
            let policy = plan.report.policies.get(&PolicyKey::new(&entry.namespace, &entry.policy));
            let back =
                policy.is_some_and(|report| report.rolled_back.iter().any(|one| **one == *name.as_str()));
            if let Some(runtime) = &entry.serving.runtime
                && !(has(runtime) || as_before || back)
            {
                broken.push(format!(
                    "{name}: shall serve {} in {runtime}, which it does not have",
                    entry.version
                ));
            }
        }
    }
}

/// Empty is never healthy.
fn check_conditions(report: &PolicyReport, add: &mut impl FnMut(String)) {
    let healthy = report.conditions.iter().any(|one| one.type_ == "Available" && one.status == Status::True);
    let all_serve = !report.selected.is_empty() && report.serving.len() == report.selected.len();
    if healthy != all_serve {
        add(format!(
            "Available is {healthy}, but {} of {} serve",
            report.serving.len(),
            report.selected.len()
        ));
    }
}

/// Nor is a run over that reached nobody.
fn check_end(view: &View<'_>, add: &mut impl FnMut(String)) {
    let ends = view.report.phase == RolloutPhase::Complete
        && view.stored_run().is_none_or(|run| run.phase != RolloutPhase::Complete);
    if ends && view.report.serving.is_empty() {
        add("Complete, but nobody serves".into());
    }
}

/// A rollback is not over while somebody is still told what it took back.
fn check_back(view: &View<'_>, add: &mut impl FnMut(String)) {
    if view.report.phase != RolloutPhase::RolledBack {
        return;
    }
    let has_elsewhere =
        |entry: &AssignmentEntry| entry.previous_version.as_deref() != Some(view.policy.target());
    for site in view.sites.iter().filter(|site| view.told_in_run(site)) {
        if view.told(site) && site.after.is_some_and(has_elsewhere) {
            add(format!("RolledBack, but {} is told {} as before", site.name, view.policy.target()));
        }
    }
}
