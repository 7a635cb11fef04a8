//! Filler: puts what a watch says into its kind's store, and into what is looked up beside it.

use std::sync::{Arc, PoisonError, RwLock};

use kube::{
    ResourceExt as _,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};

use super::{claims::Claims, watched::Watched};

/// Claims that are read while they are filled.
pub(super) type SharedClaims = Arc<RwLock<Claims>>;

/// Fills one kind's store.
pub(crate) struct Filler<K: Watched> {
    writer: Writer<K>,
    store: Store<K>,
    /// Filled too, if these objects are versions.
    claims: Option<SharedClaims>,
}

impl<K: Watched> Filler<K> {
    /// Of objects that claim nothing.
    pub(super) fn new(writer: Writer<K>) -> Self {
        Self { store: writer.as_reader(), writer, claims: None }
    }

    /// Of versions.
    pub(super) fn with(claims: &SharedClaims, writer: Writer<K>) -> Self {
        Self { claims: Some(Arc::clone(claims)), ..Self::new(writer) }
    }

    /// What it fills.
    pub(super) fn store(&self) -> &Store<K> {
        &self.store
    }

    /// Takes in what the watch says.
    pub(crate) fn apply_watcher_event(&mut self, event: &Event<K>) {
        let Some(claims) = self.claims.clone() else {
            return self.writer.apply_watcher_event(event);
        };
        let before = if let Event::Apply(object) = event { self.store.get(&reference(object)) } else { None };
        self.writer.apply_watcher_event(event);
        let mut claims = claims.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => {
                before.iter().filter_map(|before| before.as_version()).for_each(|before| claims.take(before));
                object.as_version().into_iter().for_each(|version| claims.put(version));
            }
            Event::Delete(object) => {
                object.as_version().into_iter().for_each(|version| claims.take(version));
            }
            Event::Init | Event::InitApply(_) => {}
            Event::InitDone => {
                let objects = self.store.state();
                *claims = objects.iter().filter_map(|object| object.as_version()).collect();
            }
        }
    }
}

fn reference<K: Watched>(object: &K) -> ObjectRef<K> {
    let reference = ObjectRef::new(&object.name_any());
    match object.namespace() {
        Some(namespace) => reference.within(&namespace),
        None => reference,
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use nave_crds::ModelVersion;
    use serde_json::json;

    use super::*;

    fn version(name: &str, version: &str) -> ModelVersion {
        serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": name},
            "spec": {"model": "m", "version": version, "source": {"s3": {"bucket": "b", "prefix": "p"}}},
        }))
        .unwrap()
    }

    #[test]
    fn claims_are_those_of_the_objects_that_are_there() {
        let claims = SharedClaims::default();
        let mut filler = Filler::with(&claims, reflector::store().1);
        let of = |version: &str| {
            claims.read().unwrap().of("n", "m", version).map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        filler.apply_watcher_event(&Event::Apply(version("a", "1")));
        filler.apply_watcher_event(&Event::Apply(version("b", "1")));
        filler.apply_watcher_event(&Event::Apply(version("b", "1")));
        assert_eq!(of("1"), ["a", "b"]);
        // The CRD does not let it say something else, but it may have been deleted and made anew unseen.
        filler.apply_watcher_event(&Event::Apply(version("a", "2")));
        assert_eq!((of("1"), of("2")), (vec!["b".to_owned()], vec!["a".to_owned()]));
        filler.apply_watcher_event(&Event::Delete(version("b", "1")));
        assert_eq!(of("1"), [""; 0]);
        filler.apply_watcher_event(&Event::Init);
        filler.apply_watcher_event(&Event::InitApply(version("c", "1")));
        assert_eq!((of("1").len(), of("2").len()), (0, 1), "the old list holds until the new one is whole");
        filler.apply_watcher_event(&Event::InitDone);
        assert_eq!((of("1"), of("2")), (vec!["c".to_owned()], Vec::new()));
    }
}
