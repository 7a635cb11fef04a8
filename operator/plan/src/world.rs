//! World: the snapshot that a plan is made from. Owns the objects by name; never parses or judges them.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use nave_names::ClusterName;
use serde::{Serialize, Serializer};

/// Namespace and name of a PlacementPolicy; shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyKey {
    /// `metadata.namespace`; empty where an object read from a file has none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// Namespace and name of a ModelVersion object; shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionKey {
    /// `metadata.namespace`; empty where an object read from a file has none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// A text that is not `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid policy {0:?}: expected namespace/name")]
pub struct PolicyKeyError(String);

impl PolicyKey {
    /// The key of this namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of this object.
    pub fn of(policy: &PlacementPolicy) -> Self {
        Self {
            namespace: policy.metadata.namespace.clone().unwrap_or_default(),
            name: policy.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl VersionKey {
    /// The key of this object.
    pub fn of(version: &ModelVersion) -> Self {
        Self {
            namespace: version.metadata.namespace.clone().unwrap_or_default(),
            name: version.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PolicyKey {
    type Err = PolicyKeyError;
    fn from_str(text: &str) -> Result<Self, PolicyKeyError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| PolicyKeyError(text.to_owned()))?;
        Ok(Self::new(namespace, name))
    }
}

impl Serialize for PolicyKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All objects that a plan reads. An object whose name no API server would have taken is left out.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) clusters: BTreeMap<ClusterName, Arc<EdgeCluster>>,
    pub(crate) assignments: BTreeMap<ClusterName, Arc<ClusterAssignment>>,
    pub(crate) versions: BTreeMap<VersionKey, Arc<ModelVersion>>,
    pub(crate) policies: BTreeMap<PolicyKey, Arc<PlacementPolicy>>,
}

impl World {
    /// The snapshot that holds these objects; of two with one name the last counts.
    pub fn new(
        clusters: impl IntoIterator<Item = Arc<EdgeCluster>>,
        versions: impl IntoIterator<Item = Arc<ModelVersion>>,
        policies: impl IntoIterator<Item = Arc<PlacementPolicy>>,
        assignments: impl IntoIterator<Item = Arc<ClusterAssignment>>,
    ) -> Self {
        let mut world = Self::default();
        clusters.into_iter().for_each(|cluster| world.upsert_cluster(cluster));
        versions.into_iter().for_each(|version| world.upsert_version(version));
        policies.into_iter().for_each(|policy| world.upsert_policy(policy));
        assignments.into_iter().for_each(|assignment| world.upsert_assignment(assignment));
        world
    }

    /// Puts a cluster in, or a newer one in its place.
    pub fn upsert_cluster(&mut self, cluster: Arc<EdgeCluster>) {
        if let Some(name) = cluster_name(cluster.metadata.name.as_deref()) {
            self.clusters.insert(name, cluster);
        }
    }

    /// Takes a cluster out.
    pub fn remove_cluster(&mut self, name: &str) {
        self.clusters.remove(name);
    }

    /// Puts an assignment in, or a newer one in its place.
    pub fn upsert_assignment(&mut self, assignment: Arc<ClusterAssignment>) {
        if let Some(name) = cluster_name(assignment.metadata.name.as_deref()) {
            self.assignments.insert(name, assignment);
        }
    }

    /// Takes an assignment out.
    pub fn remove_assignment(&mut self, name: &str) {
        self.assignments.remove(name);
    }

    /// Puts a version in, or a newer one in its place.
    pub fn upsert_version(&mut self, version: Arc<ModelVersion>) {
        self.versions.insert(VersionKey::of(&version), version);
    }

    /// Takes a version out.
    pub fn remove_version(&mut self, key: &VersionKey) {
        self.versions.remove(key);
    }

    /// Puts a policy in, or a newer one in its place.
    pub fn upsert_policy(&mut self, policy: Arc<PlacementPolicy>) {
        self.policies.insert(PolicyKey::of(&policy), policy);
    }

    /// Takes a policy out.
    pub fn remove_policy(&mut self, key: &PolicyKey) {
        self.policies.remove(key);
    }

    /// The clusters, by name.
    pub fn clusters(&self) -> &BTreeMap<ClusterName, Arc<EdgeCluster>> {
        &self.clusters
    }

    /// The assignments, by the name of their cluster.
    pub fn assignments(&self) -> &BTreeMap<ClusterName, Arc<ClusterAssignment>> {
        &self.assignments
    }

    /// The versions, by namespace and name of the object.
    pub fn versions(&self) -> &BTreeMap<VersionKey, Arc<ModelVersion>> {
        &self.versions
    }

    /// The policies, by namespace and name.
    pub fn policies(&self) -> &BTreeMap<PolicyKey, Arc<PlacementPolicy>> {
        &self.policies
    }
}

fn cluster_name(name: Option<&str>) -> Option<ClusterName> {
    ClusterName::new(name?).ok()
}
