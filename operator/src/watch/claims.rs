//! Claims: which ModelVersion objects say that they are which version of a model. A gateway asks for each entry that it
//! tells, so the answer must not be a walk over all versions.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use kube::ResourceExt as _;
use nave_crds::ModelVersion;

/// Namespace, model, version.
type Claimed = (String, String, String);

/// The names of those that claim each version: the oldest first, then by name. Whoever is first stands for the version.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<Claimed, BTreeSet<(Option<Timestamp>, String)>>);

impl Claims {
    /// One more.
    pub(super) fn put(&mut self, version: &ModelVersion) {
        self.0.entry(claimed(version)).or_default().insert(claimant(version));
    }

    /// One less.
    pub(super) fn take(&mut self, version: &ModelVersion) {
        let claimed = claimed(version);
        if let Some(claimants) = self.0.get_mut(&claimed) {
            claimants.remove(&claimant(version));
            if claimants.is_empty() {
                self.0.remove(&claimed);
            }
        }
    }

    /// Names, with the one that stands for the version first.
    pub(super) fn of(&self, namespace: &str, model: &str, version: &str) -> impl Iterator<Item = &str> {
        let claimed = (namespace.to_owned(), model.to_owned(), version.to_owned());
        self.0.get(&claimed).into_iter().flatten().map(|(_, name)| name.as_str())
    }
}

impl<'a> FromIterator<&'a ModelVersion> for Claims {
    fn from_iter<T: IntoIterator<Item = &'a ModelVersion>>(versions: T) -> Self {
        let mut claims = Self::default();
        versions.into_iter().for_each(|version| claims.put(version));
        claims
    }
}

fn claimed(version: &ModelVersion) -> Claimed {
    (version.namespace().unwrap_or_default(), version.spec.model.clone(), version.spec.version.clone())
}

fn claimant(version: &ModelVersion) -> (Option<Timestamp>, String) {
    (version.metadata.creation_timestamp.as_ref().map(|time| time.0), version.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(namespace: &str, name: &str, version: &str, created: &str) -> ModelVersion {
        let value = serde_json::json!({
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
            "spec": {"model": "m", "version": version, "source": {"s3": {"bucket": "b", "prefix": "p"}}},
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_oldest_counts_then_the_name() {
        let versions = [
            version("a", "young", "1", "2026-03-01T00:00:00Z"),
            version("a", "old-b", "1", "2026-01-01T00:00:00Z"),
            version("a", "old-a", "1", "2026-01-01T00:00:00Z"),
            version("a", "other-version", "2", "2025-01-01T00:00:00Z"),
            version("b", "other-namespace", "1", "2025-01-01T00:00:00Z"),
        ];
        let mut claims: Claims = versions.iter().collect();
        let of = |claims: &Claims| claims.of("a", "m", "1").map(ToOwned::to_owned).collect::<Vec<_>>();
        assert_eq!(of(&claims), ["old-a", "old-b", "young"]);
        claims.take(&versions[2]);
        assert_eq!(of(&claims), ["old-b", "young"]);
        versions.iter().for_each(|version| claims.take(version));
        assert!(claims.0.is_empty(), "nothing is kept of what is gone");
    }
}
