//! Version: one ModelVersion, and the catalogue that finds it by what policies call it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use nave_crds::{ModelVersion, view::conditions};

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
pub(crate) struct Catalogue(BTreeMap<String, BTreeMap<String, BTreeMap<String, Arc<Version>>>>);

impl Catalogue {
    /// The catalogue of these versions.
    pub(crate) fn new(versions: impl IntoIterator<Item = Arc<Version>>) -> Self {
        let mut catalogue = Self::default();
        for version in versions {
            let VersionName { namespace, model, version: name } = version.name();
            let models = catalogue.0.entry(namespace).or_default();
            match models.entry(model).or_default().entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(version)),
                Entry::Occupied(mut entry) if version.precedence() < entry.get().precedence() => {
                    entry.insert(version);
                }
                Entry::Occupied(_) => {}
            }
        }
        catalogue
    }

    /// The version of this name.
    pub(crate) fn find(&self, namespace: &str, model: &str, version: &str) -> Option<&Arc<Version>> {
        self.0.get(namespace)?.get(model)?.get(version)
    }
}
