//! One kind's watch: from the API server's events to its store, decodable or not.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use futures::StreamExt as _;
use kube::{
    Api, Resource,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        reflector::ObjectRef,
        watcher::{self, Event},
    },
};
use tokio::sync::{broadcast, watch};

use super::{Change, Key, Kind, Undecodable, World, filler::Filler, sharing::Sharing, watched::Watched};

/// One kind's watch, store and place to report to.
pub(super) struct KindWatch<K: Watched> {
    kind: Kind,
    api: Api<DeserializeGuard<K>>,
    filler: Filler<K>,
    changes: broadcast::Sender<Change>,
    undecodable: Undecodable,
    synced: watch::Sender<BTreeSet<Kind>>,
    sharing: Sharing,
}

impl<K: Watched> KindWatch<K> {
    pub(super) fn new(kind: Kind, world: &World, filler: Filler<K>) -> Self {
        Self {
            kind,
            api: Api::all(world.client.clone()),
            filler,
            changes: world.changes.clone(),
            undecodable: Arc::clone(&world.undecodable),
            synced: world.synced.clone(),
            sharing: Sharing::default(),
        }
    }

    pub(super) async fn run(mut self) {
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
                    self.filler.apply_watcher_event(&Event::Apply(object));
                }
                self.tell(Change::Object(key));
            }
            Event::Delete(object) => {
                let key = self.key(&object);
                let version =
                    object.meta().resource_version.as_ref().and_then(|version| version.parse().ok());
                self.mark(&key, None);
                if let Some(object) = object.0.ok().or_else(|| self.last_decodable(&key)) {
                    self.filler.apply_watcher_event(&Event::Delete(object));
                }
                self.tell(Change::Deleted(key, version));
            }
            Event::Init => {
                let kind = self.kind;
                let mut marks = self.undecodable.write().unwrap_or_else(PoisonError::into_inner);
                marks.retain(|key, _| key.kind != kind);
                drop(marks);
                self.filler.apply_watcher_event(&Event::Init);
            }
            Event::InitApply(object) => {
                let key = self.key(&object);
                if let Some(object) = self.decoded(&key, object).or_else(|| self.last_decodable(&key)) {
                    self.filler.apply_watcher_event(&Event::InitApply(object));
                }
            }
            Event::InitDone => {
                self.filler.apply_watcher_event(&Event::InitDone);
                self.synced.send_if_modified(|kinds| kinds.insert(self.kind));
                self.tell(Change::Relisted(self.kind));
            }
        }
    }

    /// The object, without what nobody here reads; or nothing and a mark that names it.
    fn decoded(&mut self, key: &Key, object: DeserializeGuard<K>) -> Option<K> {
        match object.0 {
            Ok(mut object) => {
                // A third of a small object's size, and of no use to a reader.
                object.meta_mut().managed_fields = None;
                object.share(&mut self.sharing);
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
        self.filler.store().get(&reference).map(|object| K::clone(&object))
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

#[allow(clippy::wildcard_enum_match_arm)] // Not our enum: it may grow.
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

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use nave_crds::{ClusterAssignment, EdgeCluster};

    use super::*;
    use crate::watch::testing;

    type Guarded = DeserializeGuard<EdgeCluster>;

    fn cluster(name: &str, effect: &str) -> Guarded {
        let value = serde_json::json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "EdgeCluster", "metadata": {"name": name},
            "spec": {"taints": [{"key": "k", "effect": effect}]}
        });
        serde_json::from_value(value).unwrap()
    }

    fn watch() -> (World, KindWatch<EdgeCluster>) {
        let (mut world, _) = testing::world();
        let (reader, writer) = reflector::store();
        world.clusters = reader;
        let watch = KindWatch::new(Kind::Cluster, &world, Filler::new(writer));
        (world, watch)
    }

    #[tokio::test]
    async fn an_object_that_cannot_be_decoded_keeps_its_last_state_and_is_named() {
        let (world, mut watch) = watch();
        watch.take(Event::Apply(cluster("a", "NoSelect")));
        watch.take(Event::Apply(cluster("a", "FromAFutureRelease")));
        watch.take(Event::Apply(cluster("b", "NoSelect")));
        assert!(world.cluster("a").is_some() && world.cluster("b").is_some());
        let named: Vec<_> = world.undecodable().into_keys().map(|key| key.name.to_string()).collect();
        assert_eq!(named, ["a"]);
        watch.take(Event::Delete(cluster("a", "FromAFutureRelease")));
        assert!(world.cluster("a").is_none() && world.undecodable().is_empty());
    }

    #[tokio::test]
    async fn clusters_that_are_asked_the_same_hold_one_entry() {
        let (mut world, _) = testing::world();
        let (reader, writer) = reflector::store();
        world.assignments = reader;
        let mut watch = KindWatch::new(Kind::Assignment, &world, Filler::new(writer));
        let assignment = |name: &str| -> DeserializeGuard<ClusterAssignment> {
            let entry = serde_json::json!({"namespace": "n", "policy": "p", "model": "m", "action": "Wait"});
            let value = serde_json::json!({
                "apiVersion": "nave.dev/v1alpha1", "kind": "ClusterAssignment", "metadata": {"name": name},
                "spec": {"generation": 1, "entries": [entry]}
            });
            serde_json::from_value(value).unwrap()
        };
        watch.take(Event::Apply(assignment("a")));
        watch.take(Event::Init);
        watch.take(Event::InitApply(assignment("a")));
        watch.take(Event::InitApply(assignment("b")));
        watch.take(Event::InitDone);
        watch.take(Event::Apply(assignment("c")));
        let entry = |name| Arc::clone(&world.assignment(name).unwrap().spec.entries[0]);
        assert!(Arc::ptr_eq(&entry("a"), &entry("b")) && Arc::ptr_eq(&entry("a"), &entry("c")));
    }

    #[tokio::test]
    async fn a_new_list_keeps_the_last_state_too() {
        let (world, mut watch) = watch();
        watch.take(Event::Apply(cluster("a", "NoSelect")));
        watch.take(Event::Init);
        watch.take(Event::InitApply(cluster("a", "FromAFutureRelease")));
        watch.take(Event::InitApply(cluster("never-read", "FromAFutureRelease")));
        watch.take(Event::InitDone);
        assert!(world.cluster("a").is_some(), "known from before");
        assert!(world.cluster("never-read").is_none());
        assert_eq!(world.undecodable().len(), 2);
    }

    #[tokio::test]
    async fn changes_are_told_once_the_store_has_them() {
        let (world, mut watch) = watch();
        let mut changes = world.changes.subscribe();
        watch.take(Event::Apply(cluster("a", "NoSelect")));
        let Change::Object(key) = changes.recv().await.unwrap() else { panic!("not an object") };
        assert_eq!((key.kind, &*key.name), (Kind::Cluster, "a"));
        let mut last = cluster("a", "NoSelect");
        last.meta_mut().resource_version = Some("7".to_owned());
        watch.take(Event::Delete(last));
        assert_eq!(changes.recv().await.unwrap(), Change::Deleted(key, Some(7)));
        watch.take(Event::InitDone);
        assert_eq!(changes.recv().await.unwrap(), Change::Relisted(Kind::Cluster));
    }

    #[tokio::test]
    async fn everyone_who_waits_for_the_first_list_is_woken() {
        let (world, mut watch) = watch();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let world = world.clone();
                tokio::spawn(async move { world.synced(Kind::Cluster).await })
            })
            .collect();
        tokio::task::yield_now().await;
        watch.take(Event::InitDone);
        for waiter in waiting {
            waiter.await.unwrap().unwrap();
        }
    }
}
