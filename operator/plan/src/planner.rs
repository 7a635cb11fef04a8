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
    Decisions, Name, Plan, PolicyKey, Report, VersionKey, World,
    entries::{Ask, Desk, Recent},
    family,
    input::{Assignment, Catalogue, Cluster, Policy, Spoke, Version},
    slot::Slot,
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
    stale: Stale,
    /// Assignments that differ from the stored ones.
    changed: BTreeMap<Name, Arc<ClusterAssignmentSpec>>,
}

/// Some clusters, or all.
#[derive(Debug)]
enum Stale {
    All,
    These(BTreeSet<Name>),
}

impl Default for Stale {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Stale {
    fn extend(&mut self, names: impl IntoIterator<Item = Name>) {
        match self {
            Self::All => {}
            Self::These(stale) => stale.extend(names),
        }
    }
}

impl Planner {
    /// A planner for this world, with everything to decide.
    pub fn new(world: &World) -> Self {
        let mut planner = Self { stale: Stale::All, ..Self::default() };
        let nothing = Arc::<Assignment>::default();
        let mut last: Option<Arc<Assignment>> = None;
        for (name, object) in &world.clusters {
            let assignment = world.assignments.get(name).map_or_else(
                || Arc::clone(&nothing),
                |object| Arc::new(Assignment::new(Arc::clone(object), last.as_deref())),
            );
            last = Some(Arc::clone(&assignment));
            let cluster = Arc::new(Cluster::new(name.as_str(), Arc::clone(object)));
            let name = Arc::clone(&cluster.name);
            planner.spokes.insert(name, Spoke { cluster, assignment });
        }
        for (name, object) in world.assignments.iter().filter(|(name, _)| !world.clusters.contains_key(*name))
        {
            let assignment = Assignment::new(Arc::clone(object), None);
            planner.orphans.insert(Name::from(name.as_str()), Arc::new(assignment));
        }
        let versions = world.versions.iter();
        planner.versions =
            versions.map(|(key, object)| (key.clone(), Arc::new(Version::new(Arc::clone(object))))).collect();
        planner.catalogue = Catalogue::new(planner.versions.values().cloned());
        let parsed = |(key, object): (&PolicyKey, &Arc<PlacementPolicy>)| {
            Arc::new(Policy::new(key.clone(), Arc::clone(object)))
        };
        planner.put_policies(&world.policies.iter().map(parsed).collect::<Vec<_>>());
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
        self.stale.extend([Arc::clone(&name)]);
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
        let before = self.spokes.get(&name).map(|spoke| &*spoke.assignment);
        let assignment = Arc::new(Assignment::new(object, before));
        self.set_assignment(&name, assignment);
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
        self.stale.extend([Arc::clone(name)]);
        self.spokes.insert(Arc::clone(name), spoke);
    }

    /// Puts a version in, or a newer one in its place.
    pub fn upsert_version(&mut self, object: Arc<ModelVersion>) {
        let key = VersionKey::of(&object);
        let version = Arc::new(Version::new(object));
        let before = self.versions.get(&key);
        if before.is_some_and(|before| before.says_the_same_as(&version)) {
            return;
        }
        let before = self.versions.insert(key, Arc::clone(&version));
        self.catalogue.put(Arc::clone(&version));
        self.version_changed(before.as_ref(), Some(&version));
    }

    /// Takes a version out.
    pub fn remove_version(&mut self, key: &VersionKey) {
        let before = self.versions.remove(key);
        self.version_changed(before.as_ref(), None);
    }

    fn version_changed(&mut self, before: Option<&Arc<Version>>, after: Option<&Arc<Version>>) {
        if let Some(before) = before {
            self.catalogue.take(before);
        }
        let names = [before, after].into_iter().flatten().map(|version| version.name());
        for name in names.collect::<BTreeSet<_>>() {
            for slot in self.policies.values_mut() {
                if slot.policy.key.namespace == name.namespace && slot.policy.model() == name.model {
                    self.stale.extend(slot.version_changed(&self.catalogue, &name.version));
                }
            }
        }
    }

    /// Puts a policy in, or a newer one in its place.
    pub fn upsert_policy(&mut self, object: Arc<PlacementPolicy>) {
        let key = PolicyKey::of(&object);
        let policy = Arc::new(Policy::new(key.clone(), object));
        if let Some(slot) = self.policies.get_mut(&key)
            && slot.policy.says_the_same_as(&policy)
        {
            slot.renew(policy);
            return;
        }
        self.remove_policy(&key);
        self.put_policies(&[policy]);
    }

    fn put_policies(&mut self, policies: &[Arc<Policy>]) {
        // So many share one walk over the clusters; what a walk holds twice stays small beside what the planner keeps.
        const AT_ONCE: usize = 64;
        for some in policies.chunks(AT_ONCE) {
            let slots = Slot::some(some, &self.catalogue, self.spokes.values());
            self.policies.extend(slots.into_iter().map(|slot| (slot.policy.key.clone(), slot)));
        }
        let models: BTreeSet<&str> = policies.iter().map(|policy| policy.model()).collect();
        models.into_iter().for_each(|model| self.company_changed(model));
    }

    /// Takes a policy out.
    pub fn remove_policy(&mut self, key: &PolicyKey) {
        let Some(before) = self.policies.remove(key) else { return };
        self.stale.extend(before.all_asked().map(|(name, _)| Arc::clone(name)));
        self.company_changed(before.policy.model());
    }

    /// Other policies for the same model may have what one has or had.
    fn company_changed(&mut self, model: &str) {
        let of_model = self.policies.values_mut().filter(|slot| slot.policy.model() == model);
        of_model.for_each(Slot::company_changed);
    }

    /// Decides what changed since the last time, and what time alone changed; and says of every cluster why.
    pub fn plan(&mut self, now: Timestamp) -> Plan {
        let Decisions { assignments, policy_status, recheck_at, events } = self.decide(now);
        Plan { assignments, policy_status, report: self.report(now), recheck_at, events }
    }

    /// Decides what changed since the last time, and what time alone changed.
    pub fn decide(&mut self, now: Timestamp) -> Decisions {
        self.decide_policies(now);
        self.assemble();
        let changed = self.changed.iter();
        let mut decisions = Decisions {
            assignments: changed
                .filter_map(|(name, spec)| Some((ClusterName::new(&**name).ok()?, Arc::clone(spec))))
                .collect(),
            ..Decisions::default()
        };
        for (key, slot) in &self.policies {
            let Some(outcome) = &slot.outcome else { continue };
            if slot.policy.status() != Some(&outcome.status) {
                decisions.policy_status.insert(key.clone(), outcome.status.clone());
                decisions.events.extend(outcome.events.iter().cloned());
            }
            decisions.recheck_at = match (decisions.recheck_at, outcome.recheck) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        decisions
    }

    /// Why: of every policy and cluster what was decided at this time. It costs a look at each of them.
    pub fn report(&self, now: Timestamp) -> Report {
        let report =
            |(key, slot): (&PolicyKey, &Slot)| (key.clone(), Arc::new(slot.report(&self.catalogue, now)));
        Report { policies: self.policies.iter().map(report).collect() }
    }

    fn decide_policies(&mut self, now: Timestamp) {
        self.policies.values_mut().for_each(|slot| slot.wake(now));
        if !self.policies.values().any(Slot::is_due) {
            return;
        }
        self.stale.extend(family::decide(self.policies.values_mut(), &self.catalogue, now));
    }

    /// Puts the assignments of stale clusters together.
    fn assemble(&mut self) {
        match std::mem::take(&mut self.stale) {
            Stale::All => self.assemble_all(),
            Stale::These(names) => names.into_iter().for_each(|name| self.assemble_one(name)),
        }
    }

    fn assemble_one(&mut self, name: Name) {
        let spec = self.spokes.get(&name).and_then(|spoke| {
            let slots = self.policies.values().enumerate();
            let asked: Vec<Ask<'_>> =
                slots.filter_map(|(place, slot)| slot.ask(place, slot.member(&name)?)).collect();
            self.desk(spoke).assemble(&asked, &mut Recent::of(0))
        });
        match spec {
            Some(spec) => drop(self.changed.insert(name, Arc::new(spec))),
            None => drop(self.changed.remove(&name)),
        }
    }

    /// The same for every cluster, in one walk over all that is asked.
    fn assemble_all(&mut self) {
        let slots = self.policies.values();
        let mut asked_by: Vec<_> = slots.map(|slot| (slot, slot.members().peekable())).collect();
        let mut changed = BTreeMap::new();
        let mut recent = Recent::of(self.policies.len());
        let mut asked: Vec<Ask<'_>> = Vec::new();
        for (name, spoke) in &self.spokes {
            asked.clear();
            for (place, (slot, all)) in asked_by.iter_mut().enumerate() {
                let member = all.next_if(|next| next.name() == name);
                asked.extend(member.and_then(|member| slot.ask(place, member)));
            }
            if let Some(spec) = self.desk(spoke).assemble(&asked, &mut recent) {
                changed.insert(Arc::clone(name), Arc::new(spec));
            }
        }
        self.changed = changed;
    }

    fn desk<'a>(&'a self, spoke: &'a Spoke) -> Desk<'a> {
        Desk { cluster: &spoke.cluster, stored: &spoke.assignment, catalogue: &self.catalogue }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(name: &str, ready: &str, serving: i64) -> Arc<ModelVersion> {
        let object = json!({
            "metadata": {"namespace": "n", "name": name},
            "spec": {"model": "m", "version": name, "source": {"s3": {"bucket": "b", "prefix": "p"}}},
            "status": {"manifestDigest": "sha256:1", "clusters": {"assigned": serving, "serving": serving},
                "conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "",
                    "lastTransitionTime": "2026-11-01T00:00:00Z"}]},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn on_how_many_clusters_a_version_is_decides_nothing() {
        let cluster = json!({"metadata": {"name": "a"}, "spec": {"accepted": true}});
        let policy = json!({"metadata": {"namespace": "n", "name": "p"}, "spec": {"model": {"name": "m", "version": "1"}}});
        let world = World::new(
            [Arc::new(serde_json::from_value(cluster).unwrap())],
            [version("1", "True", 0)],
            [Arc::new(serde_json::from_value(policy).unwrap())],
            [],
        );
        let mut planner = Planner::new(&world);
        planner.decide(Timestamp::UNIX_EPOCH);
        let concerns = |planner: &Planner| {
            let stale = matches!(&planner.stale, Stale::These(names) if names.contains("a"));
            (planner.policies.values().any(Slot::is_due), stale)
        };
        planner.upsert_version(version("1", "True", 1));
        assert_eq!(concerns(&planner), (false, false));
        planner.upsert_version(version("2", "True", 0));
        assert_eq!(concerns(&planner), (true, false), "a rollout may go back to it, but nobody has it");
        planner.upsert_version(version("1", "False", 1));
        assert_eq!(concerns(&planner), (true, true));
    }
}
