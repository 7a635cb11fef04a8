//! Check: what must hold of every plan, whatever the world. It looks at the stored objects and the plan only, not at how the
//! plan was made; property tests and scenarios run it after every step.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nave_crds::{Action, AssignmentEntry, PlacementPolicy, RolloutPhase, view::conditions::Status};

use crate::{
    Name, Plan, PolicyKey, PolicyReport, World,
    input::{Catalogue, Cluster, Policy, Version},
};

/// What a plan breaks; empty = nothing.
pub fn check(world: &World, plan: &Plan, now: Timestamp) -> Vec<String> {
    let mut broken = Vec::new();
    check_assignments(world, plan, &mut broken);
    let versions = world.versions.values();
    let catalogue = Catalogue::new(versions.map(|version| Version::new(version.clone()).into()));
    for (key, object) in &world.policies {
        let Some(report) = plan.report.policies.get(key) else {
            broken.push(format!("{key}: no report"));
            continue;
        };
        let mut add = |message: String| broken.push(format!("{key}: {message}"));
        check_lists(report, &mut add);
        check_conditions(report, &mut add);
        check_status(plan, key, object, &mut add);
        let view = View { world, plan, report, policy: Policy::new(key.clone(), object.clone()), now };
        view.check_told(&catalogue, &mut add);
        view.check_budgets(&mut add);
        view.check_step(&mut add);
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
        let key = |e: &AssignmentEntry| {
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

fn check_lists(report: &PolicyReport, add: &mut impl FnMut(String)) {
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

fn check_status(plan: &Plan, key: &PolicyKey, object: &PlacementPolicy, add: &mut impl FnMut(String)) {
    let Some(status) = plan.policy_status.get(key).or(object.status.as_ref()) else { return };
    if status.waiting_on.len() > 16 || status.waiting_on.iter().any(|row| row.clusters.len() > 10) {
        add("status.waitingOn is not bounded".into());
    }
    if status.excluded.iter().any(|row| row.clusters.len() > 10) {
        add("status.excluded is not bounded".into());
    }
}

/// One policy of a plan.
struct View<'a> {
    world: &'a World,
    plan: &'a Plan,
    report: &'a PolicyReport,
    policy: Policy,
    now: Timestamp,
}

impl View<'_> {
    fn cluster(&self, name: &Name) -> Option<Cluster> {
        let object = self.world.clusters.get(&**name)?;
        Some(Cluster::new(name, object.clone()))
    }

    /// The policy's entries for a cluster once the plan is stored.
    fn entries(&self, name: &Name) -> Vec<&AssignmentEntry> {
        let stored = self.world.assignments.get(&**name).map(|stored| &stored.spec);
        let spec = self.plan.assignments.get(&**name).or(stored);
        let key = &self.policy.key;
        let own = |entry: &&AssignmentEntry| entry.namespace == key.namespace && entry.policy == key.name;
        spec.map(|spec| spec.entries.iter().filter(own).collect()).unwrap_or_default()
    }

    fn told(&self, name: &Name) -> bool {
        self.entries(name).iter().any(|entry| {
            entry.action == Action::Serve
                && entry.model == self.policy.model()
                && entry.version == self.policy.target()
        })
    }

    /// Whoever is told may be told.
    fn check_told(&self, catalogue: &Catalogue, add: &mut impl FnMut(String)) {
        let policy = &self.policy;
        if self.report.tell.is_empty() {
            return;
        }
        if matches!(self.report.phase, RolloutPhase::RollingBack | RolloutPhase::RolledBack) {
            add("tells in a rollback".into());
        }
        let version = catalogue.find(&policy.key.namespace, policy.model(), policy.target());
        if !version.is_some_and(|version| version.usable()) {
            add("tells a version that is not usable".into());
        }
        if policy.paused() || policy.frozen().is_some() || !policy.windows.open_at(self.now) {
            add("tells while paused, out of its window, or not fit to decide".into());
        }
        for name in &self.report.tell {
            let cluster = self.cluster(name);
            if !cluster.as_ref().is_some_and(|cluster| cluster.connected() && cluster.object.spec.accepted) {
                add(format!("tells {name}, which is not connected or not accepted"));
            }
            if !self.told(name) {
                add(format!("tells {name} without an entry"));
            }
            if policy.prefetch() && !self.verified(name) {
                add(format!("tells {name} before it holds the weights"));
            }
        }
    }

    fn verified(&self, name: &Name) -> bool {
        let status = self.world.assignments.get(&**name).and_then(|stored| stored.status.as_ref());
        let row = status.and_then(|status| {
            status.entry(&self.policy.key.namespace, self.policy.model(), self.policy.target())
        });
        row.is_some_and(|row| row.phase.is_verified())
    }

    /// Telling never leaves more in flight than may be, nor more of a group away.
    fn check_budgets(&self, add: &mut impl FnMut(String)) {
        if self.report.tell.is_empty() {
            return;
        }
        let slots = self.policy.max_concurrent.at_least_one_of(self.report.selected.len());
        if self.report.in_flight.len() > slots {
            add(format!("{} in flight of {slots}", self.report.in_flight.len()));
        }
        let Some((label, share)) = &self.policy.budget else { return };
        let group = |name: &Name| {
            let cluster = self.cluster(name);
            cluster.and_then(|cluster| cluster.labels().get(label).cloned()).unwrap_or_default()
        };
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        let mut away: BTreeMap<String, usize> = BTreeMap::new();
        self.report.selected.iter().for_each(|name| *sizes.entry(group(name)).or_default() += 1);
        let missing = self.report.in_flight.iter().chain(&self.report.failed);
        missing.for_each(|name| *away.entry(group(name)).or_default() += 1);
        for name in &self.report.tell {
            let group = group(name);
            let most = share.of(sizes.get(&group).copied().unwrap_or(0));
            if away.get(&group).is_some_and(|away| *away > most) {
                add(format!("tells {name}, and more than {most} of group {group:?} are away"));
            }
        }
    }

    /// Telling never makes more run the target than the step asks for.
    fn check_step(&self, add: &mut impl FnMut(String)) {
        if self.report.tell.is_empty() || self.report.phase != RolloutPhase::Rolling {
            return;
        }
        let index = usize::try_from(self.report.step.index).unwrap_or(1);
        let Some(step) = self.policy.steps.get(index - 1) else {
            add(format!("step {index} of {}", self.policy.steps.len()));
            return;
        };
        let matches = |name: &&Name| {
            let cluster = self.cluster(name);
            step.selector
                .as_ref()
                .is_none_or(|selector| cluster.is_some_and(|cluster| selector.matches(cluster.labels())))
        };
        let most = step.clusters.at_least_one_of(self.report.selected.iter().filter(matches).count());
        let running = self.report.serving.iter().chain(&self.report.in_flight);
        let told = running.filter(matches).filter(|name| self.told(name)).count();
        if told > most || !self.report.tell.iter().all(|name| matches(&name)) {
            add(format!("step {index}: {told} are told of {most}"));
        }
    }
}
