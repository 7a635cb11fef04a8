//! View: one policy of a plan as the invariants look at it: its selected clusters with their entries before and after, and
//! where they are, worked out anew from the stored objects.

use jiff::Timestamp;
use nave_crds::{
    Action, AssignmentEntry, ClusterAssignmentSpec, EntryStatus, Phase, PlacementPolicy, RolloutRun,
};

use crate::{
    Name, Plan, PolicyKey, PolicyReport, World,
    input::{Assignment, Cluster, Policy},
};

/// One policy of a plan.
pub(super) struct View<'a> {
    pub(super) report: &'a PolicyReport,
    pub(super) policy: Policy,
    pub(super) now: Timestamp,
    /// The selected clusters.
    pub(super) sites: Vec<Site<'a>>,
    /// The run as the plan leaves it.
    pub(super) run: Option<RolloutRun>,
}

/// One selected cluster.
pub(super) struct Site<'a> {
    pub(super) name: &'a Name,
    pub(super) cluster: Cluster,
    assignment: Assignment,
    /// The policy's Serve entry as it is stored.
    pub(super) before: Option<&'a AssignmentEntry>,
    /// The same once the plan is stored.
    pub(super) after: Option<&'a AssignmentEntry>,
}

impl Site<'_> {
    pub(super) fn connected(&self) -> bool {
        self.cluster.connected()
    }
}

/// Whether a report is of the attempt that an entry began.
fn answers(row: &EntryStatus, entry: &AssignmentEntry) -> bool {
    entry.told_at.as_ref().is_none_or(|told| row.since.0 >= told.0)
}

impl<'a> View<'a> {
    pub(super) fn new(
        world: &'a World,
        plan: &'a Plan,
        key: &PolicyKey,
        object: &std::sync::Arc<PlacementPolicy>,
        report: &'a PolicyReport,
        now: Timestamp,
    ) -> Self {
        let policy = Policy::new(key.clone(), object.clone());
        let serve = |spec: Option<&'a ClusterAssignmentSpec>| {
            spec?.entries.iter().map(AsRef::as_ref).find(|entry: &&AssignmentEntry| {
                (&entry.namespace, &entry.policy) == (&key.namespace, &key.name)
                    && entry.action == Action::Serve
                    && entry.model == policy.model()
            })
        };
        let site = |name: &'a Name| {
            let stored = world.assignments.get(&**name);
            Some(Site {
                name,
                cluster: Cluster::new(name, world.clusters.get(&**name)?.clone()),
                assignment: stored.map(|stored| Assignment::new(stored.clone(), None)).unwrap_or_default(),
                before: serve(stored.map(|stored| &stored.spec)),
                after: serve(
                    plan.assignments.get(&**name).map(|spec| &**spec).or(stored.map(|stored| &stored.spec)),
                ),
            })
        };
        let sites = report.selected.iter().filter_map(site).collect();
        let status = plan.policy_status.get(key).or(object.status.as_ref());
        let run = status.and_then(|status| status.run.clone());
        Self { report, sites, policy, now, run }
    }

    pub(super) fn row<'s>(&'s self, site: &'s Site<'_>, version: &str) -> Option<&'s EntryStatus> {
        site.assignment.row(&self.policy.key.namespace, self.policy.model(), version)
    }

    fn is_target(&self, entry: &AssignmentEntry) -> bool {
        entry.version == self.policy.target()
    }

    /// It has a Serve entry of the target once the plan is stored.
    pub(super) fn told(&self, site: &Site<'_>) -> bool {
        site.after.is_some_and(|entry| self.is_target(entry))
    }

    /// It had one before this plan.
    pub(super) fn told_before(&self, site: &Site<'_>) -> bool {
        site.before.is_some_and(|entry| self.is_target(entry))
    }

    /// It had one before this plan, of this run.
    pub(super) fn told_in_run(&self, site: &Site<'_>) -> bool {
        let started = self.run.as_ref().map(|run| run.started_at.0);
        let at = site.before.filter(|entry| self.is_target(entry)).and_then(|entry| entry.told_at.as_ref());
        at.zip(started).is_some_and(|(at, started)| at.0 >= started)
    }

    /// It answered its entry of the target by serving it.
    pub(super) fn serves(&self, site: &Site<'_>) -> bool {
        let row = self.row(site, self.policy.target()).filter(|row| row.phase == Phase::Serving);
        row.zip(site.after).is_some_and(|(row, entry)| answers(row, entry))
    }

    /// It answered its entry of the target by a failure.
    pub(super) fn failed(&self, site: &Site<'_>) -> bool {
        let row = self.row(site, self.policy.target()).filter(|row| row.phase.is_failure());
        row.zip(site.after).is_some_and(|(row, entry)| answers(row, entry))
    }

    /// It holds the target's weights, verified.
    pub(super) fn verified(&self, site: &Site<'_>) -> bool {
        self.row(site, self.policy.target()).is_some_and(|row| row.phase.is_verified())
    }

    /// A step may count on it: connected, not failed, not held.
    pub(super) fn counts(&self, site: &Site<'_>) -> bool {
        site.connected()
            && !self.report.failed.contains(site.name)
            && !self.report.deferred.contains(site.name)
    }

    /// On the way to what an entry says: connected, not there yet, and neither failed nor late.
    pub(super) fn flies(&self, site: &Site<'_>, entry: &AssignmentEntry) -> bool {
        let Some(connected) = site.cluster.connected_since else { return false };
        if let Some(row) = self.row(site, &entry.version) {
            // One that never left an older version has nothing new to say of it: that it knows its entries is the answer.
            let known = !self.is_target(entry) && site.before == Some(entry) && site.assignment.observed();
            let there = row.phase == Phase::Serving && (answers(row, entry) || known);
            if there || row.phase.is_failure() && answers(row, entry) {
                return false;
            }
        }
        let from = entry.told_at.as_ref().map_or(connected, |told| told.0.max(connected));
        from.saturating_add(self.policy.deadline).unwrap_or(Timestamp::MAX) > self.now
    }

    /// The run as it was stored, if the plan goes on with it.
    pub(super) fn stored_run(&self) -> Option<&RolloutRun> {
        let stored = self.policy.status()?.run.as_ref()?;
        let run = self.run.as_ref()?;
        let same = stored.target == run.target
            && stored.started_at.0 >= run.started_at.0
            && stored.model.as_deref().is_none_or(|model| model == self.policy.model());
        same.then_some(stored)
    }

    /// The run stops for its budget unless somebody resumed it.
    pub(super) fn over_budget(&self) -> bool {
        let resumed = self.run.as_ref().is_some_and(|run| run.resumed.is_some());
        !resumed && self.report.failed.len() > self.policy.max_failures.of(self.sites.len())
    }

    /// Every site that can be waited for holds the weights, or somebody was told in this run before.
    pub(super) fn prefetched(&self) -> bool {
        let waited_for = |site: &&Site<'_>| self.counts(site) && !self.told_before(site);
        !self.policy.prefetch()
            || self.sites.iter().any(|site| self.told_in_run(site))
            || self.sites.iter().filter(waited_for).all(|site| self.verified(site))
    }
}
