//! Whoever is told may be told: every gate is open, for the run and for the cluster.

use nave_crds::RolloutPhase;

use super::view::View;
use crate::input::Catalogue;

pub(super) fn check(view: &View<'_>, catalogue: &Catalogue, add: &mut impl FnMut(String)) {
    let (policy, report) = (&view.policy, view.report);
    if report.tell.is_empty() {
        return;
    }
    match report.phase {
        RolloutPhase::RollingBack | RolloutPhase::RolledBack => add("tells in a rollback".into()),
        RolloutPhase::Rolling if view.over_budget() => add("tells, though more failed than may".into()),
        RolloutPhase::Rolling if !view.prefetched() => {
            add("tells before everybody who is there holds the weights".into());
        }
        RolloutPhase::Rolling | RolloutPhase::Complete => {}
    }
    let version = catalogue.find(&policy.key.namespace, policy.model(), policy.target());
    if !version.is_some_and(|version| version.usable()) {
        add("tells a version that is not usable".into());
    }
    if policy.paused() || policy.frozen().is_some() || !policy.windows.open_at(view.now) {
        add("tells while paused, out of its window, or not fit to decide".into());
    }
    for name in &report.tell {
        let Some(site) = view.sites.iter().find(|site| site.name == name) else {
            add(format!("tells {name}, which is not selected"));
            continue;
        };
        if !(site.connected() && site.cluster.object.spec.accepted) {
            add(format!("tells {name}, which is not connected or not accepted"));
        }
        if !view.told(site) || view.told_before(site) {
            add(format!("tells {name} without a new entry"));
        }
        if policy.prefetch() && !view.verified(site) {
            add(format!("tells {name} before it holds the weights"));
        }
    }
}
