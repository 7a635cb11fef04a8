//! Version: one ModelVersion, and the catalogue that finds it by what policies call it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use nave_crds::{ModelVersion, ModelVersionStatus, view::conditions};

use super::quantity::parse_quantity;

/// Stands for a key in an entry whose version asks for a signature that the hub has not verified: it is no key, so a spoke
/// refuses the entry.
const NOT_VERIFIED: &str = "not verified by the hub";

/// How policies name a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionName {
    pub(crate) namespace: String,
    pub(crate) model: String,
    pub(crate) version: String,
}

/// One ModelVersion.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) object: Arc<ModelVersion>,
    pub(crate) ready: bool,
    /// Least memory of an accelerator, in billionths of a byte.
    pub(crate) min_memory: Option<i128>,
    /// Why it cannot be used at all: a field that admission should have refused.
    pub(crate) malformed: Option<String>,
}

impl Version {
    pub(crate) fn new(object: Arc<ModelVersion>) -> Self {
        let conditions = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let ready = conditions::is_true(conditions, conditions::READY);
        let accelerator = object.spec.requirements.as_ref().and_then(|needs| needs.accelerator.as_ref());
        let min_memory = accelerator.and_then(|needs| needs.min_memory.as_ref());
        let (min_memory, malformed) = match min_memory.map(|quantity| parse_quantity(&quantity.0)) {
            Some(Ok(memory)) => (Some(memory), None),
            Some(Err(error)) => (None, Some(format!("spec.requirements.accelerator.minMemory: {error}"))),
            None => (None, None),
        };
        Self { ready, min_memory, malformed, object }
    }

    pub(crate) fn name(&self) -> VersionName {
        VersionName {
            namespace: self.object.metadata.namespace.clone().unwrap_or_default(),
            model: self.object.spec.model.clone(),
            version: self.object.spec.version.clone(),
        }
    }

    /// Whether planning sees no difference to another state of the same object. On how many clusters a version is changes
    /// all through a rollout, and nothing is decided by it.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        let parts = |version: &Self| {
            let metadata = &version.object.metadata;
            let status = version.object.status.clone().unwrap_or_default();
            let status = ModelVersionStatus { clusters: None, ..status };
            (metadata.name.clone(), metadata.creation_timestamp.clone(), status)
        };
        self.object.spec == other.object.spec && parts(self) == parts(other)
    }

    pub(crate) fn withdrawn(&self) -> bool {
        self.object.spec.withdrawn
    }

    /// Whether clusters may be told it.
    pub(crate) fn usable(&self) -> bool {
        self.ready && !self.withdrawn() && self.malformed.is_none()
    }

    pub(crate) fn size_bytes(&self) -> Option<i64> {
        self.object.status.as_ref()?.size_bytes
    }

    /// As an entry carries it; empty while it is not known.
    pub(crate) fn manifest_digest(&self) -> &str {
        self.object.status.as_ref().and_then(|status| status.manifest_digest.as_deref()).unwrap_or_default()
    }

    /// What spokes check the signature with, as an entry carries it; empty where none is asked for.
    pub(crate) fn signature_public_key(&self) -> &str {
        let verified = self.object.status.as_ref().and_then(|status| status.signature.as_ref());
        match (&self.object.spec.signature, verified) {
            (None, _) => "",
            (Some(_), Some(verified)) => &verified.public_key,
            // Nobody's signature passes this.
            (Some(_), None) => NOT_VERIFIED,
        }
    }

    /// Of several objects that claim one version: a usable one, then the oldest, then by name.
    fn precedence(&self) -> (bool, bool, Option<Timestamp>, &str) {
        let metadata = &self.object.metadata;
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!self.ready, created.is_none(), created, metadata.name.as_deref().unwrap_or_default())
    }
}

/// All versions, by what policies call them: namespace, model, version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue(BTreeMap<String, BTreeMap<String, BTreeMap<String, Claimants>>>);

/// Those that claim to be the same version, by precedence.
type Claimants = Vec<Arc<Version>>;

impl Catalogue {
    /// The catalogue of these versions.
    pub(crate) fn new(versions: impl IntoIterator<Item = Arc<Version>>) -> Self {
        let mut catalogue = Self::default();
        versions.into_iter().for_each(|version| catalogue.put(version));
        catalogue
    }

    /// Puts one more in.
    pub(crate) fn put(&mut self, version: Arc<Version>) {
        let VersionName { namespace, model, version: name } = version.name();
        let models = self.0.entry(namespace).or_default();
        let claimants = models.entry(model).or_default().entry(name).or_default();
        let place = claimants.partition_point(|one| one.precedence() < version.precedence());
        claimants.insert(place, version);
    }

    /// Takes this very one out.
    pub(crate) fn take(&mut self, version: &Arc<Version>) {
        let VersionName { namespace, model, version: name } = version.name();
        let Some(models) = self.0.get_mut(&namespace) else { return };
        let Some(versions) = models.get_mut(&model) else { return };
        let Some(claimants) = versions.get_mut(&name) else { return };
        claimants.retain(|one| !Arc::ptr_eq(one, version));
        if claimants.is_empty() {
            versions.remove(&name);
        }
        if versions.is_empty() {
            models.remove(&model);
        }
        if models.is_empty() {
            self.0.remove(&namespace);
        }
    }

    /// The version of this name.
    pub(crate) fn find(&self, namespace: &str, model: &str, version: &str) -> Option<&Arc<Version>> {
        self.0.get(namespace)?.get(model)?.get(version)?.first()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(name: &str, version: &str, ready: &str, created: i64) -> Arc<Version> {
        let object = json!({
            "metadata": {"namespace": "n", "name": name, "creationTimestamp": Timestamp::from_second(created).unwrap()},
            "spec": {"model": "m", "version": version, "source": {"s3": {"bucket": "b", "prefix": "p"}}},
            "status": {"conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "",
                "lastTransitionTime": "2026-11-01T00:00:00Z"}]},
        });
        Arc::new(Version::new(Arc::new(serde_json::from_value(object).unwrap())))
    }

    #[test]
    fn of_those_that_claim_the_same_a_usable_one_is_found_then_the_oldest() {
        let all = [
            version("old", "1", "False", 1),
            version("young", "1", "True", 3),
            version("middle", "1", "True", 2),
            version("other", "2", "True", 0),
        ];
        let found = |catalogue: &Catalogue| {
            catalogue.find("n", "m", "1").map(|version| version.object.metadata.name.clone().unwrap())
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let mut catalogue = Catalogue::new(order.map(|place: usize| Arc::clone(&all[place])));
            for (expected, place) in [("middle", 2), ("young", 1), ("old", 0)] {
                assert_eq!(found(&catalogue).as_deref(), Some(expected), "{order:?}");
                catalogue.take(&all[place]);
            }
            assert_eq!(found(&catalogue), None);
            catalogue.take(&all[3]);
            assert!(catalogue.0.is_empty(), "nothing is kept of what is gone");
        }
    }
}
