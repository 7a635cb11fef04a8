//! What the hub sees of the API server: one reflector for each kind, and a broadcast of what changed in them.
//! Started by `app`; read by the gateway, the planner and the resolver. It never writes to the API server.
//!
//! An object that this release cannot decode (written for a newer one) must not blind the hub to the rest: the last
//! decodable state of it stays in the store, and it is listed in [`World::undecodable`] until it is gone or mended.

#[cfg(test)]
pub(crate) mod testing;

mod claims;
mod filler;
mod reflect;
mod sharing;
mod watched;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock},
};

use kube::{
    Client,
    runtime::reflector::{self, ObjectRef, Store},
};
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use self::{
    filler::{Filler, SharedClaims},
    reflect::KindWatch,
    watched::Watched,
};

/// Changes that a reader may lag behind before it is told to look at everything again ([`broadcast`]'s `Lagged`).
/// A change is 56 bytes: this is 896 KiB, and holds a burst of one change for each of 10,000 clusters.
const CHANGES_KEPT: usize = 16_384;

/// The kinds that the hub watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// EdgeCluster.
    Cluster,
    /// ClusterAssignment.
    Assignment,
    /// PlacementPolicy.
    Policy,
    /// ModelVersion.
    Version,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cluster, Self::Assignment, Self::Policy, Self::Version];

    /// The kind as Kubernetes spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "EdgeCluster",
            Self::Assignment => "ClusterAssignment",
            Self::Policy => "PlacementPolicy",
            Self::Version => "ModelVersion",
        }
    }
}

/// Which object. The namespace is empty for the kinds that have none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, or nothing.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What changed. The stores hold the new state already when a reader gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is new, or different: the store says how.
    Object(Key),
    /// The object was deleted, and may be there again. With the resourceVersion of the deletion, if that is a number.
    Deleted(Key, Option<u64>),
    /// The kind was listed anew: anything may have changed, deletions included.
    Relisted(Kind),
}

/// Objects that could not be decoded, with the decoder's message.
type Undecodable = Arc<RwLock<BTreeMap<Key, String>>>;

/// The hub's view of the API server. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// For everything that is not in a store.
    pub client: Client,
    /// Every EdgeCluster.
    pub clusters: Store<EdgeCluster>,
    /// Every ModelVersion.
    pub versions: Store<ModelVersion>,
    /// Every PlacementPolicy.
    pub policies: Store<PlacementPolicy>,
    /// Every ClusterAssignment.
    pub assignments: Store<ClusterAssignment>,
    /// Subscribe for what changes; a reader that lags must look at everything again.
    pub changes: broadcast::Sender<Change>,
    undecodable: Undecodable,
    claims: SharedClaims,
    synced: watch::Sender<BTreeSet<Kind>>,
}

impl Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("clusters", &self.clusters.len())
            .field("versions", &self.versions.len())
            .field("policies", &self.policies.len())
            .field("assignments", &self.assignments.len())
            .finish_non_exhaustive()
    }
}

/// The watch of one kind ended before it was ever complete: the process is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the watch of {kind} ended before its first list was complete", kind = .kind.name())]
pub struct WatchEnded {
    kind: Kind,
}

impl World {
    /// Starts a watch for each kind; they run until `stop` is cancelled.
    pub fn start(client: Client, stop: &CancellationToken) -> Self {
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let (undecodable, claims) = (Arc::default(), SharedClaims::default());
        let (synced, _) = watch::channel(BTreeSet::new());
        let (clusters, clusters_writer) = reflector::store();
        let (versions, versions_writer) = reflector::store();
        let (policies, policies_writer) = reflector::store();
        let (assignments, assignments_writer) = reflector::store();
        let fill_versions = Filler::with(&claims, versions_writer);
        let world =
            Self { client, clusters, versions, policies, assignments, changes, undecodable, claims, synced };
        world.spawn(Kind::Cluster, Filler::new(clusters_writer), stop);
        world.spawn(Kind::Version, fill_versions, stop);
        world.spawn(Kind::Policy, Filler::new(policies_writer), stop);
        world.spawn(Kind::Assignment, Filler::new(assignments_writer), stop);
        world
    }

    /// Waits until the kind was listed completely once.
    ///
    /// # Errors
    /// [`WatchEnded`] when the process stops before.
    pub async fn synced(&self, kind: Kind) -> Result<(), WatchEnded> {
        // Not the store's own `wait_until_ready`: of several that wait, kube 5.0 wakes only the last.
        let mut synced = self.synced.subscribe();
        synced.wait_for(|kinds| kinds.contains(&kind)).await.map(drop).map_err(|_| WatchEnded { kind })
    }

    /// Waits until every kind was listed completely once.
    ///
    /// # Errors
    /// [`WatchEnded`] when the process stops before.
    pub async fn all_synced(&self) -> Result<(), WatchEnded> {
        for kind in Kind::ALL {
            self.synced(kind).await?;
        }
        Ok(())
    }

    /// How many objects of the kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Cluster => self.clusters.len(),
            Kind::Assignment => self.assignments.len(),
            Kind::Policy => self.policies.len(),
            Kind::Version => self.versions.len(),
        }
    }

    /// The EdgeCluster of that name.
    pub fn cluster(&self, name: &str) -> Option<Arc<EdgeCluster>> {
        self.clusters.get(&ObjectRef::new(name))
    }

    /// The ClusterAssignment of that name, which is the cluster's.
    pub fn assignment(&self, name: &str) -> Option<Arc<ClusterAssignment>> {
        self.assignments.get(&ObjectRef::new(name))
    }

    /// The PlacementPolicy of that name.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<Arc<PlacementPolicy>> {
        self.policies.get(&ObjectRef::new(name).within(namespace))
    }

    /// The ModelVersion object of that name (which is not its model's nor its version's).
    pub fn version(&self, namespace: &str, name: &str) -> Option<Arc<ModelVersion>> {
        self.versions.get(&ObjectRef::new(name).within(namespace))
    }

    /// The ModelVersion that stands for this version of the model: the oldest that claims it, then by name.
    /// Others that claim it are refused by the resolver and never Ready.
    pub fn version_of(&self, namespace: &str, model: &str, version: &str) -> Option<Arc<ModelVersion>> {
        self.claimants(namespace, model, version).iter().find_map(|name| self.version(namespace, name))
    }

    /// The names of all ModelVersions that claim to be this version of the model, in that order.
    pub fn claimants(&self, namespace: &str, model: &str, version: &str) -> Vec<String> {
        let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
        claims.of(namespace, model, version).map(ToOwned::to_owned).collect()
    }

    /// Objects that this release cannot decode, each with the decoder's message.
    pub fn undecodable(&self) -> BTreeMap<Key, String> {
        self.undecodable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spawn<K: Watched>(&self, kind: Kind, filler: Filler<K>, stop: &CancellationToken) {
        let reflector = KindWatch::new(kind, self, filler);
        tokio::spawn(stop.clone().run_until_cancelled_owned(reflector.run()));
    }
}
