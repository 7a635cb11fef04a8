//! Planner: keeps what it parsed and decided between looks, and decides anew only what a change concerns. Planning from
//! scratch is this with everything changed, so there is one way to decide, not two.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use nave_crds::{ClusterAssignment, ClusterAssignmentSpec, EdgeCluster, ModelVersion, PlacementPolicy};
use nave_names::ClusterName;

use crate::{
    Name, Plan, PolicyKey, Report, VersionKey, World,
    claims::Claims,
    entries::Desk,
    input::{Assignment, Catalogue, Cluster, Held, Policy, Spoke, Version},
    outcome::{Outcome, decide},
};

/// A planner that lives as long as the world that it plans for.
#[derive(Debug, Default)]
pub struct Planner {
    spokes: BTreeMap<Name, Spoke>,
    /// Assignments of clusters that are not there.
    orphans: BTreeMap<Name, Arc<Assignment>>,
    versions: BTreeMap<VersionKey, Arc<Version>>,
    catalogue: Catalogue,
    policies: BTreeMap<PolicyKey, Slot>,
    /// Clusters whose assignment is put together anew.
    stale: BTreeSet<Name>,
    /// Assignments that differ from the stored ones.
    changed: BTreeMap<Name, ClusterAssignmentSpec>,
}

/// One policy, whom it concerns, and what was decided last.
#[derive(Debug)]
struct Slot {
    policy: Arc<Policy>,
    /// Clusters that match, or have an entry of it.
    members: BTreeSet<Name>,
    outcome: Option<Outcome>,
    /// Something that it depends on changed.
    dirty: bool,
}

impl Slot {
    /// Notes that a cluster changed; `spoke` is what it is now.
    fn cluster_changed(&mut self, name: &Name, spoke: Option<&Spoke>) {
        let concerns = spoke.is_some_and(|spoke| concerns(&self.policy, spoke));
        let before =
            if concerns { !self.members.insert(Arc::clone(name)) } else { self.members.remove(name) };
        self.dirty |= concerns || before;
    }
}

/// Whether a policy has anything to decide about a cluster.
fn concerns(policy: &Policy, spoke: &Spoke) -> bool {
    policy.selector.matches(spoke.cluster.labels())
        || spoke.assignment.entries_of(&policy.key).next().is_some()
}

impl Planner {
    /// A planner for this world, with everything to decide.
    pub fn new(world: &World) -> Self {
        let mut planner = Self::default();
        for (name, object) in &world.clusters {
            let assignment = world.assignments.get(name).map(|object| Assignment::new(Arc::clone(object)));
            let cluster = Arc::new(Cluster::new(name.as_str(), Arc::clone(object)));
            let name = Arc::clone(&cluster.name);
            planner.stale.insert(Arc::clone(&name));
            planner
                .spokes
                .insert(name, Spoke { cluster, assignment: Arc::new(assignment.unwrap_or_default()) });
        }
        for (name, object) in world.assignments.iter().filter(|(name, _)| !world.clusters.contains_key(*name))
        {
            planner.orphans.insert(Name::from(name.as_str()), Arc::new(Assignment::new(Arc::clone(object))));
        }
        let versions = world.versions.iter();
        planner.versions =
            versions.map(|(key, object)| (key.clone(), Arc::new(Version::new(Arc::clone(object))))).collect();
        planner.catalogue = Catalogue::new(planner.versions.values().cloned());
        for object in world.policies.values() {
            planner.upsert_policy(Arc::clone(object));
        }
        planner
    }

    /// Puts a cluster in, or a newer one in its place.
    pub fn upsert_cluster(&mut self, object: Arc<EdgeCluster>) {
        let Some(name) = object.metadata.name.clone().and_then(|name| ClusterName::new(name).ok()) else {
            return;
        };
        let cluster = Arc::new(Cluster::new(name.as_str(), object));
        let name = Arc::clone(&cluster.name);
        let spoke = match self.spokes.remove(&name) {
            Some(spoke) => Spoke { cluster, assignment: spoke.assignment },
            None => Spoke { cluster, assignment: self.orphans.remove(&name).unwrap_or_default() },
        };
        self.put(&name, spoke);
    }

    /// Takes a cluster out.
    pub fn remove_cluster(&mut self, name: &str) {
        let name = Name::from(name);
        let Some(spoke) = self.spokes.remove(&name) else { return };
        for slot in self.policies.values_mut() {
            slot.cluster_changed(&name, None);
        }
        self.stale.insert(Arc::clone(&name));
        if spoke.assignment.object.is_some() {
            self.orphans.insert(name, spoke.assignment);
        }
    }

    /// Puts an assignment in, or a newer one in its place.
    pub fn upsert_assignment(&mut self, object: Arc<ClusterAssignment>) {
        let Some(name) = object.metadata.name.clone().and_then(|name| ClusterName::new(name).ok()) else {
            return;
        };
        let name = Name::from(name.as_str());
        self.set_assignment(&name, Arc::new(Assignment::new(object)));
    }

    /// Takes an assignment out.
    pub fn remove_assignment(&mut self, name: &str) {
        let name = Name::from(name);
        self.orphans.remove(&name);
        if self.spokes.contains_key(&name) {
            self.set_assignment(&name, Arc::default());
        }
    }

    fn set_assignment(&mut self, name: &Name, assignment: Arc<Assignment>) {
        match self.spokes.remove(name) {
            Some(spoke) => self.put(name, Spoke { cluster: spoke.cluster, assignment }),
            None => {
                self.orphans.insert(Arc::clone(name), assignment);
            }
        }
    }

    fn put(&mut self, name: &Name, spoke: Spoke) {
        for slot in self.policies.values_mut() {
            slot.cluster_changed(name, Some(&spoke));
        }
        self.stale.insert(Arc::clone(name));
        self.spokes.insert(Arc::clone(name), spoke);
    }

    /// Puts a version in, or a newer one in its place.
    pub fn upsert_version(&mut self, object: Arc<ModelVersion>) {
        let version = Arc::new(Version::new(object));
        let before = self.versions.insert(VersionKey::of(&version.object), Arc::clone(&version));
        self.versions_changed([before, Some(version)]);
    }

    /// Takes a version out.
    pub fn remove_version(&mut self, key: &VersionKey) {
        let before = self.versions.remove(key);
        self.versions_changed([before, None]);
    }

    fn versions_changed(&mut self, changed: [Option<Arc<Version>>; 2]) {
        self.catalogue = Catalogue::new(self.versions.values().cloned());
        for name in changed.into_iter().flatten().map(|version| version.name()) {
            for slot in self.policies.values_mut() {
                if slot.policy.key.namespace != name.namespace || slot.policy.model() != name.model {
                    continue;
                }
                slot.dirty = true;
                let asked = slot.outcome.iter().flat_map(|outcome| &outcome.asked);
                self.stale.extend(asked.map(|(name, _)| Arc::clone(name)));
            }
        }
    }

    /// Puts a policy in, or a newer one in its place.
    pub fn upsert_policy(&mut self, object: Arc<PlacementPolicy>) {
        let key = PolicyKey::of(&object);
        let policy = Arc::new(Policy::new(key.clone(), object));
        let members = self.spokes.iter().filter(|(_, spoke)| concerns(&policy, spoke));
        let members = members.map(|(name, _)| Arc::clone(name)).collect();
        let before = self.policies.remove(&key);
        if let Some(before) = &before
            && (before.policy.model() != policy.model() || !before.policy.ranks_like(&policy))
        {
            self.model_changed(&before.policy);
            self.model_changed(&policy);
        }
        let outcome = before.and_then(|before| before.outcome);
        let asked = outcome.iter().flat_map(|outcome| &outcome.asked);
        self.stale.extend(asked.map(|(name, _)| Arc::clone(name)));
        self.policies.insert(key, Slot { policy, members, outcome, dirty: true });
    }

    /// Takes a policy out.
    pub fn remove_policy(&mut self, key: &PolicyKey) {
        let Some(before) = self.policies.remove(key) else { return };
        self.model_changed(&before.policy);
        let asked = before.outcome.iter().flat_map(|outcome| &outcome.asked);
        self.stale.extend(asked.map(|(name, _)| Arc::clone(name)));
        self.stale.extend(before.members);
    }

    /// Other policies for the same model may have what this one had.
    fn model_changed(&mut self, policy: &Policy) {
        for slot in self.policies.values_mut() {
            slot.dirty |= slot.policy.model() == policy.model();
        }
    }

    /// Decides what changed since the last look, and what time alone changed.
    pub fn plan(&mut self, now: Timestamp) -> Plan {
        self.decide_policies(now);
        self.assemble();
        let mut plan = Plan {
            assignments: self
                .changed
                .iter()
                .filter_map(|(name, spec)| Some((ClusterName::new(&**name).ok()?, spec.clone())))
                .collect(),
            ..Plan::default()
        };
        let mut report = Report::default();
        for (key, slot) in &self.policies {
            let Some(outcome) = &slot.outcome else { continue };
            report.policies.insert(key.clone(), Arc::clone(&outcome.report));
            if slot.policy.status() != Some(&outcome.status) {
                plan.policy_status.insert(key.clone(), outcome.status.clone());
                plan.events.extend(outcome.events.iter().cloned());
            }
            plan.recheck_at = match (plan.recheck_at, outcome.recheck) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        plan.report = report;
        plan
    }

    /// Decides the policies that something changed for: those of one model in their order, because the first that selects
    /// a cluster has it.
    fn decide_policies(&mut self, now: Timestamp) {
        let mut families: BTreeMap<String, Vec<PolicyKey>> = BTreeMap::new();
        for (key, slot) in &mut self.policies {
            slot.dirty |=
                slot.outcome.as_ref().is_none_or(|outcome| outcome.recheck.is_some_and(|at| at <= now));
            families.entry(slot.policy.model().to_owned()).or_default().push(key.clone());
        }
        for mut family in families.into_values() {
            if !family.iter().any(|key| self.policies.get(key).is_some_and(|slot| slot.dirty)) {
                continue;
            }
            family.sort_by(|a, b| match (self.policies.get(a), self.policies.get(b)) {
                (Some(a), Some(b)) => a.policy.precedes(&b.policy),
                (a, b) => a.is_some().cmp(&b.is_some()),
            });
            self.decide_family(&family, now);
        }
    }

    fn decide_family(&mut self, family: &[PolicyKey], now: Timestamp) {
        let mut claims = Claims::default();
        let mut moved = false;
        for (place, key) in family.iter().enumerate() {
            let Some(slot) = self.policies.get_mut(key) else { continue };
            if slot.dirty || moved {
                let spokes = slot.members.iter().filter_map(|name| self.spokes.get(name));
                let outcome = decide(&slot.policy, spokes, &self.catalogue, &claims, now);
                let before = slot.outcome.replace(outcome);
                slot.dirty = false;
                if let Some(after) = &slot.outcome {
                    moved |= before.as_ref().is_none_or(|before| before.claimed != after.claimed);
                    let none = Vec::new();
                    let old = before.as_ref().map_or(&none, |before| &before.asked);
                    differing(old, &after.asked, &mut self.stale);
                }
            }
            if place + 1 < family.len()
                && let Some(outcome) = &slot.outcome
            {
                outcome.claim(&slot.policy, &mut claims);
            }
        }
    }

    /// Puts the assignments of stale clusters together.
    fn assemble(&mut self) {
        let stale = std::mem::take(&mut self.stale);
        let mut cursors: Vec<(&Policy, &[(Name, Held)])> = Vec::new();
        for slot in self.policies.values() {
            if let Some(outcome) = &slot.outcome {
                cursors.push((&slot.policy, &outcome.asked));
            }
        }
        for name in stale {
            let Some(spoke) = self.spokes.get(&name) else {
                self.changed.remove(&name);
                continue;
            };
            let mut asked: Vec<(&Policy, &Held)> = Vec::new();
            for (policy, rest) in &mut cursors {
                skip_to(rest, &name);
                if let Some((first, held)) = rest.first()
                    && *first == name
                {
                    asked.push((policy, held));
                }
            }
            let desk =
                Desk { cluster: &spoke.cluster, stored: &spoke.assignment, catalogue: &self.catalogue };
            match desk.assemble(&asked) {
                Some(spec) => self.changed.insert(name, spec),
                None => self.changed.remove(&name),
            };
        }
    }
}

/// Moves a sorted list on to a name: by one where that is enough, else by halving.
fn skip_to(rest: &mut &[(Name, Held)], name: &Name) {
    if rest.first().is_none_or(|(first, _)| first >= name) {
        return;
    }
    *rest = &rest[1..];
    if rest.first().is_some_and(|(first, _)| first < name) {
        *rest = &rest[rest.partition_point(|(other, _)| other < name)..];
    }
}

/// The names of which something else is asked than before.
fn differing(before: &[(Name, Held)], after: &[(Name, Held)], stale: &mut BTreeSet<Name>) {
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.0.cmp(&b.0),
        };
        let a = if order.is_le() { old.next() } else { None };
        let b = if order.is_ge() { new.next() } else { None };
        if a.map(|(_, held)| held) != b.map(|(_, held)| held)
            && let Some((name, _)) = a.or(b)
        {
            stale.insert(Arc::clone(name));
        }
    }
}
