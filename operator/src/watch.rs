//! What the hub sees of the API server: one reflector for each kind, and a broadcast of what changed in them.
//! Started by `app`; read by the gateway, the planner and the resolver. It never writes to the API server.
//!
//! An object that this release cannot decode (written for a newer one) must not blind the hub to the rest: the last
//! decodable state of it stays in the store, and it is listed in [`World::undecodable`] until it is gone or mended.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock},
};

use futures::StreamExt as _;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event},
    },
};
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Changes that a reader may lag behind before it is told to look at everything again ([`broadcast`]'s `Lagged`).
/// A change is 32 bytes: this is 512 KiB, and holds a burst of one change for each of 10,000 clusters.
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
    /// The object is new, different, or gone: the store says which.
    Object(Key),
    /// The kind was listed anew: anything may have changed, deletions included.
    Relisted(Kind),
}

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
    undecodable: Arc<RwLock<BTreeMap<Key, String>>>,
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
        let undecodable = Arc::default();
        let (clusters, clusters_writer) = reflector::store();
        let (versions, versions_writer) = reflector::store();
        let (policies, policies_writer) = reflector::store();
        let (assignments, assignments_writer) = reflector::store();
        let world = Self { client, clusters, versions, policies, assignments, changes, undecodable };
        world.spawn(Kind::Cluster, clusters_writer, stop);
        world.spawn(Kind::Version, versions_writer, stop);
        world.spawn(Kind::Policy, policies_writer, stop);
        world.spawn(Kind::Assignment, assignments_writer, stop);
        world
    }

    /// Waits until the kind was listed completely once.
    ///
    /// # Errors
    /// [`WatchEnded`] when the process stops before.
    pub async fn synced(&self, kind: Kind) -> Result<(), WatchEnded> {
        let ready = match kind {
            Kind::Cluster => self.clusters.wait_until_ready().await,
            Kind::Assignment => self.assignments.wait_until_ready().await,
            Kind::Policy => self.policies.wait_until_ready().await,
            Kind::Version => self.versions.wait_until_ready().await,
        };
        ready.map_err(|_| WatchEnded { kind })
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
        let claims = |v: &ModelVersion| {
            v.spec.model == model && v.spec.version == version && v.namespace().as_deref() == Some(namespace)
        };
        let age = |v: &Arc<ModelVersion>| (v.metadata.creation_timestamp.clone().map(|t| t.0), v.name_any());
        self.versions.state_filter(claims).into_iter().min_by_key(age)
    }

    /// Objects that this release cannot decode, each with the decoder's message.
    pub fn undecodable(&self) -> BTreeMap<Key, String> {
        self.undecodable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spawn<K>(&self, kind: Kind, writer: Writer<K>, stop: &CancellationToken)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let watch = KindWatch {
            kind,
            api: Api::all(self.client.clone()),
            reader: writer.as_reader(),
            writer,
            changes: self.changes.clone(),
            undecodable: Arc::clone(&self.undecodable),
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch.run()));
    }
}

/// One kind's watch, store and place to report to.
struct KindWatch<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    kind: Kind,
    api: Api<DeserializeGuard<K>>,
    reader: Store<K>,
    writer: Writer<K>,
    changes: broadcast::Sender<Change>,
    undecodable: Arc<RwLock<BTreeMap<Key, String>>>,
}

impl<K> KindWatch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    async fn run(mut self) {
        // A streaming list costs the API server no buffer of the whole list; servers without it (before 1.32, or with
        // the WatchList gate off) refuse it as invalid, and get an ordinary paged list.
        let mut config = watcher::Config::default().streaming_lists();
        loop {
            let events = watcher::watcher(self.api.clone(), config.clone()).default_backoff();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.take(event),
                    Err(error) if refuses_streaming(&error) => {
                        tracing::info!(kind = self.kind.name(), "no streaming lists here; listing by pages");
                        config = watcher::Config::default();
                        break;
                    }
                    Err(error) => warn_of(self.kind, &error),
                }
            }
        }
    }

    fn take(&mut self, event: Event<DeserializeGuard<K>>) {
        match event {
            Event::Apply(object) => {
                let key = self.key(&object);
                if let Some(object) = self.decoded(&key, object) {
                    self.writer.apply_watcher_event(&Event::Apply(object));
                }
                self.tell(Change::Object(key));
            }
            Event::Delete(object) => {
                let key = self.key(&object);
                self.mark(&key, None);
                if let Some(object) = object.0.ok().or_else(|| self.last_decodable(&key)) {
                    self.writer.apply_watcher_event(&Event::Delete(object));
                }
                self.tell(Change::Object(key));
            }
            Event::Init => {
                let kind = self.kind;
                let mut marks = self.undecodable.write().unwrap_or_else(PoisonError::into_inner);
                marks.retain(|key, _| key.kind != kind);
                drop(marks);
                self.writer.apply_watcher_event(&Event::Init);
            }
            Event::InitApply(object) => {
                let key = self.key(&object);
                if let Some(object) = self.decoded(&key, object).or_else(|| self.last_decodable(&key)) {
                    self.writer.apply_watcher_event(&Event::InitApply(object));
                }
            }
            Event::InitDone => {
                self.writer.apply_watcher_event(&Event::InitDone);
                self.tell(Change::Relisted(self.kind));
            }
        }
    }

    /// The object, without what nobody here reads; or nothing and a mark that names it.
    fn decoded(&self, key: &Key, object: DeserializeGuard<K>) -> Option<K> {
        match object.0 {
            Ok(mut object) => {
                // A third of a small object's size, and of no use to a reader.
                object.meta_mut().managed_fields = None;
                self.mark(key, None);
                Some(object)
            }
            Err(invalid) => {
                tracing::error!(
                    kind = key.kind.name(),
                    namespace = %key.namespace,
                    name = %key.name,
                    error = %invalid.error,
                    "object not understood; was it written for a newer release?"
                );
                self.mark(key, Some(invalid.error));
                None
            }
        }
    }

    fn last_decodable(&self, key: &Key) -> Option<K> {
        let mut reference = ObjectRef::new(&key.name);
        if !key.namespace.is_empty() {
            reference = reference.within(&key.namespace);
        }
        self.reader.get(&reference).map(|object| K::clone(&object))
    }

    fn mark(&self, key: &Key, error: Option<String>) {
        let mut marks = self.undecodable.write().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => marks.insert(key.clone(), error),
            None => marks.remove(key),
        };
    }

    fn key(&self, object: &DeserializeGuard<K>) -> Key {
        let meta = object.meta();
        Key {
            kind: self.kind,
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
        }
    }

    fn tell(&self, change: Change) {
        // Nobody listening yet is fine: a reader looks at the stores when it starts.
        drop(self.changes.send(change));
    }
}

fn refuses_streaming(error: &watcher::Error) -> bool {
    const UNPROCESSABLE: u16 = 422;
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == UNPROCESSABLE)
}

fn warn_of(kind: Kind, error: &watcher::Error) {
    let hint = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => match status.code {
            403 => "the ServiceAccount may not list and watch it: check the ClusterRole",
            404 => "the CRD is not installed: apply what `nave-operator crds` prints",
            _ => "",
        },
        _ => "",
    };
    tracing::warn!(kind = kind.name(), error = %error, hint, "watch interrupted; trying again");
}
