//! Which ModelVersion object stands for a version of a model, where several claim it: the oldest, then by name. Pure.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt as _;
use nave_crds::ModelVersion;

/// Namespace and name of an object.
pub type ObjectName = (String, String);

/// For every object that claims what another claims with more right: the name of that other.
pub fn refused(versions: &[Arc<ModelVersion>]) -> BTreeMap<ObjectName, String> {
    let mut claims: BTreeMap<(String, &str, &str), Vec<&ModelVersion>> = BTreeMap::new();
    for version in versions {
        let claim = (version.namespace().unwrap_or_default(), &*version.spec.model, &*version.spec.version);
        claims.entry(claim).or_default().push(version);
    }
    let age = |version: &&ModelVersion| {
        (version.metadata.creation_timestamp.as_ref().map(|time| time.0), version.name_any())
    };
    let mut refused = BTreeMap::new();
    for ((namespace, ..), mut claimants) in claims {
        claimants.sort_by_key(age);
        let mut claimants = claimants.into_iter();
        let Some(winner) = claimants.next() else { continue };
        for loser in claimants {
            refused.insert((namespace.clone(), loser.name_any()), winner.name_any());
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn version(namespace: &str, name: &str, version: &str, created: i64) -> Arc<ModelVersion> {
        let spec = serde_json::json!({
            "model": "m", "version": version, "source": {"s3": {"bucket": "w", "prefix": "m"}}
        });
        let mut object = ModelVersion::new(name, serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some(namespace.into());
        object.metadata.creation_timestamp = Some(Time(jiff::Timestamp::from_second(created).unwrap()));
        Arc::new(object)
    }

    #[test]
    fn the_oldest_counts_then_the_name() {
        let versions = [
            version("a", "young", "1", 30),
            version("a", "old-b", "1", 10),
            version("a", "old-a", "1", 10),
            version("a", "other-version", "2", 40),
            version("b", "other-namespace", "1", 50),
        ];
        let refused = refused(&versions);
        let names: Vec<_> = refused.iter().map(|((_, loser), winner)| (&**loser, &**winner)).collect();
        assert_eq!(names, [("old-b", "old-a"), ("young", "old-a")]);
    }
}
