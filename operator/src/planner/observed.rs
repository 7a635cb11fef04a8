//! The planner's own view: what the stores had, and its own writes, which the stores may not show yet. A plan made on a
//! store that lags behind would repeat what was written a moment ago; so an older state never replaces a newer one here.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::{Resource, ResourceExt as _};
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use nave_operator_plan::{Decisions, Planner, PolicyKey, VersionKey, World as PlanWorld};
use tokio::{sync::broadcast, time::Instant};

use super::counts::VersionName;
use crate::watch::{Change, Key, Kind, World};

/// How long a write of ours may be missing from the store before the store is believed instead: by then the object was
/// deleted, and not just not seen yet. Watch events take milliseconds; a broken watch is resumed within seconds.
const UNSEEN_FOR: Duration = Duration::from_secs(5);

/// What a plan is made from.
#[derive(Debug)]
pub struct Observed {
    stores: World,
    plan_world: PlanWorld,
    /// The pure planner, which is told of the same changes and decides anew only what they concern.
    planner: Planner,
    /// Our writes that the store does not show yet: their resourceVersion, and when they were made.
    written: HashMap<Key, (u64, Instant)>,
    touched: Touched,
}

/// What was taken in since it was asked for last.
#[derive(Debug, Default)]
pub struct Touched {
    /// Names of assignments.
    pub assignments: BTreeSet<String>,
    /// Versions by namespace, model and version.
    pub versions: BTreeSet<VersionName>,
}

impl Observed {
    /// With all that the stores have.
    pub fn new(stores: World) -> Self {
        let plan_world = PlanWorld::new(
            stores.clusters.state(),
            stores.versions.state(),
            stores.policies.state(),
            stores.assignments.state(),
        );
        let touched = Touched {
            assignments: plan_world.assignments().keys().map(|name| name.as_str().to_owned()).collect(),
            versions: plan_world.versions().values().map(|version| name_of(version)).collect(),
        };
        let planner = Planner::new(&plan_world);
        Self { stores, plan_world, planner, written: HashMap::new(), touched }
    }

    /// Decides on what was taken in. API times have whole seconds: a plan that told at 12:00:00.7 would not find itself in
    /// what is stored.
    pub fn decide(&mut self, now: Timestamp) -> Decisions {
        self.planner.decide(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }

    /// The snapshot to plan on.
    pub fn plan_world(&self) -> &PlanWorld {
        &self.plan_world
    }

    /// The stores themselves.
    pub fn stores(&self) -> &World {
        &self.stores
    }

    /// Takes in one change.
    pub fn take(&mut self, change: &Change) {
        match change {
            Change::Object(key) => self.take_object(key),
            Change::Deleted(key, version) => self.take_deletion(key, *version),
            Change::Relisted(kind) => self.take_kind(*kind),
        }
    }

    /// Takes in all changes that wait in the channel.
    pub fn take_waiting(&mut self, changes: &mut broadcast::Receiver<Change>) {
        loop {
            match changes.try_recv() {
                Ok(change) => self.take(&change),
                Err(broadcast::error::TryRecvError::Lagged(_)) => self.take_all(),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => return,
            }
        }
    }

    /// The assignment of that name.
    pub fn assignment(&self, name: &str) -> Option<&Arc<ClusterAssignment>> {
        self.plan_world.assignments().get(name)
    }

    /// What was taken in since the last call.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Takes in everything, after changes were missed.
    pub fn take_all(&mut self) {
        Kind::ALL.into_iter().for_each(|kind| self.take_kind(kind));
    }

    /// Takes in an assignment as the API server stored it for us.
    pub fn wrote_assignment(&mut self, assignment: ClusterAssignment, now: Instant) {
        let key = key(Kind::Assignment, &assignment);
        self.expect(key, &assignment, now);
        let name = assignment.name_any();
        self.set_assignment(&name, Some(Arc::new(assignment)));
    }

    /// Takes in a policy as the API server stored it for us.
    pub fn wrote_policy(&mut self, policy: PlacementPolicy, now: Instant) {
        let key = key(Kind::Policy, &policy);
        self.expect(key, &policy, now);
        let key = PolicyKey::of(&policy);
        self.set_policy(&key, Some(Arc::new(policy)));
    }

    /// Believes the stores again about writes of ours that they have not shown for long. Returns when to ask next.
    pub fn settle(&mut self, now: Instant) -> Option<Instant> {
        let overdue: Vec<Key> = self
            .written
            .iter()
            .filter(|(_, (_, at))| now.duration_since(*at) >= UNSEEN_FOR)
            .map(|(key, _)| key.clone())
            .collect();
        for key in overdue {
            self.written.remove(&key);
            self.take_object(&key);
        }
        self.written.values().map(|(_, at)| *at + UNSEEN_FOR).min()
    }

    fn expect(&mut self, key: Key, object: &impl Resource, now: Instant) {
        if let Some(version) = version(object) {
            self.written.insert(key, (version, now));
        }
    }

    fn take_kind(&mut self, kind: Kind) {
        let mut keys: Vec<Key> = match kind {
            Kind::Cluster => self.plan_world.clusters().keys().map(|n| plain(kind, n.as_str())).collect(),
            Kind::Assignment => {
                self.plan_world.assignments().keys().map(|n| plain(kind, n.as_str())).collect()
            }
            Kind::Policy => {
                self.plan_world.policies().keys().map(|k| in_namespace(kind, &k.namespace, &k.name)).collect()
            }
            Kind::Version => {
                self.plan_world.versions().keys().map(|k| in_namespace(kind, &k.namespace, &k.name)).collect()
            }
        };
        match kind {
            Kind::Cluster => keys.extend(self.stores.clusters.state().iter().map(|o| key(kind, &**o))),
            Kind::Assignment => keys.extend(self.stores.assignments.state().iter().map(|o| key(kind, &**o))),
            Kind::Policy => keys.extend(self.stores.policies.state().iter().map(|o| key(kind, &**o))),
            Kind::Version => keys.extend(self.stores.versions.state().iter().map(|o| key(kind, &**o))),
        }
        keys.sort_unstable();
        keys.dedup();
        keys.iter().for_each(|key| self.take_object(key));
    }

    fn take_object(&mut self, key: &Key) {
        let (namespace, name) = (&*key.namespace, &*key.name);
        match key.kind {
            Kind::Cluster => self.set_cluster(name, self.stores.cluster(name)),
            Kind::Version => {
                let key = VersionKey { namespace: namespace.to_owned(), name: name.to_owned() };
                self.set_version(&key, self.stores.version(namespace, name));
            }
            Kind::Assignment => {
                let found = self.stores.assignment(name);
                if !self.is_behind(key, found.as_deref()) {
                    self.set_assignment(name, found);
                }
            }
            Kind::Policy => {
                let found = self.stores.policy(namespace, name);
                if !self.is_behind(key, found.as_deref()) {
                    self.set_policy(&PolicyKey::new(namespace, name), found);
                }
            }
        }
    }

    /// A store that shows a write of ours and the object's end at once is not behind.
    fn take_deletion(&mut self, key: &Key, version: Option<u64>) {
        let is_later = |(written, _): &(u64, Instant)| version.is_some_and(|version| version > *written);
        if self.written.get(key).is_some_and(is_later) {
            self.written.remove(key);
        }
        self.take_object(key);
    }

    fn set_cluster(&mut self, name: &str, found: Option<Arc<EdgeCluster>>) {
        if same(self.plan_world.clusters().get(name), found.as_ref()) {
            return;
        }
        match found {
            Some(cluster) => {
                self.planner.upsert_cluster(Arc::clone(&cluster));
                self.plan_world.upsert_cluster(cluster);
            }
            None => {
                self.planner.remove_cluster(name);
                self.plan_world.remove_cluster(name);
            }
        }
    }

    fn set_version(&mut self, key: &VersionKey, found: Option<Arc<ModelVersion>>) {
        if same(self.plan_world.versions().get(key), found.as_ref()) {
            return;
        }
        match found {
            Some(version) => {
                self.touched.versions.insert(name_of(&version));
                self.planner.upsert_version(Arc::clone(&version));
                self.plan_world.upsert_version(version);
            }
            None => {
                self.planner.remove_version(key);
                self.plan_world.remove_version(key);
            }
        }
    }

    fn set_assignment(&mut self, name: &str, found: Option<Arc<ClusterAssignment>>) {
        if same(self.plan_world.assignments().get(name), found.as_ref()) {
            return;
        }
        self.touched.assignments.insert(name.to_owned());
        match found {
            Some(assignment) => {
                self.planner.upsert_assignment(Arc::clone(&assignment));
                self.plan_world.upsert_assignment(assignment);
            }
            None => {
                self.planner.remove_assignment(name);
                self.plan_world.remove_assignment(name);
            }
        }
    }

    fn set_policy(&mut self, key: &PolicyKey, found: Option<Arc<PlacementPolicy>>) {
        if same(self.plan_world.policies().get(key), found.as_ref()) {
            return;
        }
        match found {
            Some(policy) => {
                self.planner.upsert_policy(Arc::clone(&policy));
                self.plan_world.upsert_policy(policy);
            }
            None => {
                self.planner.remove_policy(key);
                self.plan_world.remove_policy(key);
            }
        }
    }

    /// True = the store does not show a write of ours yet.
    fn is_behind<K: Resource>(&mut self, key: &Key, found: Option<&K>) -> bool {
        let Some((written, _)) = self.written.get(key) else { return false };
        if found.and_then(version).is_some_and(|version| version >= *written) {
            self.written.remove(key);
            return false;
        }
        true
    }
}

/// The very object, or nothing both times: a list taken in anew costs nothing where nothing changed.
fn same<K>(known: Option<&Arc<K>>, found: Option<&Arc<K>>) -> bool {
    match (known, found) {
        (Some(known), Some(found)) => Arc::ptr_eq(known, found),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn name_of(version: &ModelVersion) -> VersionName {
    let namespace = version.metadata.namespace.clone().unwrap_or_default();
    (namespace, version.spec.model.clone(), version.spec.version.clone())
}

/// Kubernetes promises since 1.35 that resourceVersions of one kind compare as numbers; etcd's always did.
fn version(object: &impl Resource) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

fn key(kind: Kind, object: &impl Resource) -> Key {
    let namespace = object.meta().namespace.clone().unwrap_or_default();
    in_namespace(kind, &namespace, &object.name_any())
}

fn plain(kind: Kind, name: &str) -> Key {
    in_namespace(kind, "", name)
}

fn in_namespace(kind: Kind, namespace: &str, name: &str) -> Key {
    Key { kind, namespace: namespace.into(), name: name.into() }
}

#[cfg(test)]
#[path = "observed_tests.rs"]
mod tests;
