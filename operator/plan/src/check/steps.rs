//! Steps: none is passed before it is done, and telling never makes more run the target than the step asks for.

use nave_crds::RolloutPhase;

use super::view::{Site, View};
use crate::input::StepSpec;

pub(super) fn check(view: &View<'_>, add: &mut impl FnMut(String)) {
    check_told(view, add);
    check_passed(view, add);
}

fn matches(step: &StepSpec, site: &Site<'_>) -> bool {
    step.selector.as_ref().is_none_or(|selector| selector.matches(site.cluster.labels()))
}

fn number(view: &View<'_>, step: &StepSpec) -> usize {
    step.clusters.at_least_one_of(view.sites.iter().filter(|site| matches(step, site)).count())
}

fn check_told(view: &View<'_>, add: &mut impl FnMut(String)) {
    let report = view.report;
    if report.tell.is_empty() || report.phase != RolloutPhase::Rolling {
        return;
    }
    let index = usize::try_from(report.step.index).unwrap_or(1);
    let Some(step) = view.policy.steps.get(index - 1) else {
        add(format!("step {index} of {}", view.policy.steps.len()));
        return;
    };
    let most = number(view, step);
    let running = view.sites.iter().filter(|site| view.counts(site) && view.told(site));
    let told = running.filter(|site| matches(step, site)).count();
    if told > most {
        add(format!("step {index}: {told} are told of {most}"));
    }
    for site in view.sites.iter().filter(|site| report.tell.contains(site.name) && !matches(step, site)) {
        add(format!("step {index}: {} is told and not of it", site.name));
    }
}

fn check_passed(view: &View<'_>, add: &mut impl FnMut(String)) {
    let Some(run) = &view.run else { return };
    let stored = view.stored_run();
    let steps = &view.policy.steps;
    let complete = |phase| matches!(phase, RolloutPhase::Complete);
    if stored.is_some_and(|stored| complete(stored.phase)) {
        return;
    }
    let first = stored.map_or(1, |stored| usize::try_from(stored.step).unwrap_or(1).clamp(1, steps.len()));
    let next = usize::try_from(run.step).unwrap_or(1) + usize::from(complete(run.phase));
    if next <= first {
        return;
    }
    if view.policy.paused() || view.policy.frozen().is_some() || view.over_budget() || !view.prefetched() {
        add("passes a step while paused, over budget, not prefetched, or not fit to decide".into());
    }
    if !view.sites.iter().any(Site::connected) {
        add("passes a step, and nobody is connected".into());
    }
    for index in first..next.min(steps.len() + 1) {
        check_done(view, index, add);
    }
}

/// Of those that could be told as many as asked for were, all of them serve, and have soaked.
fn check_done(view: &View<'_>, index: usize, add: &mut impl FnMut(String)) {
    let steps = &view.policy.steps;
    let step = &steps[index - 1];
    let matching: Vec<&Site<'_>> = view.sites.iter().filter(|site| matches(step, site)).collect();
    let eligible = matching.iter().filter(|site| view.counts(site)).count();
    let told: Vec<&&Site<'_>> =
        matching.iter().filter(|site| view.counts(site) && view.told_before(site)).collect();
    let wanted = number(view, step);
    if told.len() < wanted.min(eligible) {
        add(format!("passes step {index} with {} of {wanted} told", told.len()));
    }
    for site in told {
        let since = view.row(site, view.policy.target()).map(|row| row.since.0);
        let soaked = since.and_then(|since| since.checked_add(step.soak).ok());
        if !view.serves(site) || soaked.is_none_or(|soaked| soaked > view.now) {
            add(format!("passes step {index}, and {} does not serve or has not soaked", site.name));
        }
    }
    // A step that nobody needs to be told for asks nothing: at most those of older runs and of the steps before are not.
    let approved = view.policy.annotations.approved.is_some_and(|upto| upto >= index);
    let older = matching.iter().filter(|site| view.told_before(site) && !view.told_in_run(site)).count();
    let earlier: usize = steps[..index - 1].iter().map(|step| number(view, step)).sum();
    if step.approval && !approved && (eligible == 0 || wanted > older + earlier) {
        add(format!("passes step {index} without its approval"));
    }
}
