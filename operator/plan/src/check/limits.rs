//! Limits: neither telling nor sending back leaves more in flight than may be, or more of a group away.

use std::collections::BTreeMap;

use super::view::{Site, View};

pub(super) fn check(view: &View<'_>, add: &mut impl FnMut(String)) {
    // Who leaves what it serves by this plan, and whether it counted in its group before.
    let leaving: Vec<(&Site<'_>, bool)> =
        view.sites.iter().filter_map(|site| leaves(view, site).map(|counted| (site, counted))).collect();
    if leaving.is_empty() {
        return;
    }
    let on_the_way = view.sites.iter().filter(|site| flies(view, site)).count();
    let slots = view.policy.max_concurrent.at_least_one_of(view.sites.len());
    if on_the_way > slots {
        add(format!("{on_the_way} in flight of {slots}"));
    }
    let Some((label, share)) = &view.policy.budget else { return };
    let group = |site: &Site<'_>| site.cluster.labels().get(label).cloned().unwrap_or_default();
    let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for site in &view.sites {
        let (size, away) = groups.entry(group(site)).or_default();
        *size += 1;
        *away += usize::from(is_away(view, site));
    }
    for (site, _) in leaving.iter().filter(|(_, counted)| !counted) {
        let (size, away) = groups.get(&group(site)).copied().unwrap_or_default();
        if away > share.of(size) {
            add(format!("{} leaves, and {away} of its group {:?} are away then", site.name, group(site)));
        }
    }
}

/// Whether this plan makes a cluster leave what it serves, under the limits; if so, whether it was away already.
fn leaves(view: &View<'_>, site: &Site<'_>) -> Option<bool> {
    if view.report.tell.contains(site.name) {
        return Some(false);
    }
    let (before, after) = (site.before?, site.after?);
    let back = view.told_before(site) && !view.told(site);
    let limited = site.connected() && !view.report.deferred.contains(site.name);
    if !back || !limited || view.flies(site, before) {
        return None;
    }
    // It was there, or it had failed.
    let answered = view.row(site, &before.version).is_some_and(|row| {
        row.phase == nave_crds::Phase::Serving && before.told_at.as_ref().is_none_or(|at| row.since.0 >= at.0)
    });
    view.flies(site, after).then_some(!answered)
}

/// On the way to the target, to an older one, or back.
fn flies(view: &View<'_>, site: &Site<'_>) -> bool {
    let report = view.report;
    if report.in_flight.contains(site.name) {
        return true;
    }
    let back = report.rolled_back.contains(site.name);
    let elsewhere = view.counts(site) || back && site.connected() && !report.deferred.contains(site.name);
    elsewhere && !view.told(site) && site.after.is_some_and(|entry| view.flies(site, entry))
}

/// In flight or failed. One that was sent back counts while it is on the way only.
fn is_away(view: &View<'_>, site: &Site<'_>) -> bool {
    let failed = view.report.failed.contains(site.name) && !view.report.rolled_back.contains(site.name);
    failed || flies(view, site)
}
