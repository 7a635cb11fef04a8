//! The objects that the cluster holds now, and what they would be once some files were applied to them.

use std::sync::Arc;

use kube::{Api, ResourceExt as _, api::ListParams};

use super::documents::Documents;
use crate::{connection::Connected, status::list};

/// Everything that a plan reads, of all namespaces.
pub(crate) async fn fetch(hub: &Connected) -> anyhow::Result<Documents> {
    let client = || hub.client.clone();
    let everything = ListParams::default();
    let (clusters, versions, policies, assignments) = futures::try_join!(
        list(Api::all(client()), &everything, "EdgeClusters"),
        list(Api::all(client()), &everything, "ModelVersions"),
        list(Api::all(client()), &everything, "PlacementPolicies"),
        list(Api::all(client()), &everything, "ClusterAssignments"),
    )?;
    let mut live = Documents::default();
    clusters.into_iter().for_each(|cluster| live.put_cluster(cluster));
    versions.into_iter().for_each(|version| live.put_version(version));
    policies.into_iter().for_each(|policy| live.put_policy(policy));
    assignments.into_iter().for_each(|assignment| live.put_assignment(assignment));
    Ok(live)
}

impl Documents {
    /// What `kubectl apply` of `files` makes of these: specs, labels and annotations are the files', status and what the
    /// API server keeps stay. Of objects that are not there yet the files' status counts, so that one can ask what would be
    /// once a version is Ready.
    pub(super) fn applied(&self, files: &Self) -> Self {
        let mut after = Self::default();
        after.clusters.clone_from(&self.clusters);
        after.versions.clone_from(&self.versions);
        after.policies.clone_from(&self.policies);
        after.assignments.clone_from(&self.assignments);
        for (key, file) in &files.clusters {
            let mut object = file.as_ref().clone();
            if let Some(live) = self.clusters.get(key) {
                object.status.clone_from(&live.status);
                keep_metadata(&mut object, live.as_ref(), file.spec != live.spec);
            }
            after.clusters.insert(key.clone(), Arc::new(object));
        }
        for (key, file) in &files.versions {
            let mut object = file.as_ref().clone();
            if let Some(live) = self.versions.get(key) {
                object.status.clone_from(&live.status);
                keep_metadata(&mut object, live.as_ref(), file.spec != live.spec);
            }
            after.versions.insert(key.clone(), Arc::new(object));
        }
        for (key, file) in &files.policies {
            let mut object = file.as_ref().clone();
            if let Some(live) = self.policies.get(key) {
                object.status.clone_from(&live.status);
                keep_metadata(&mut object, live.as_ref(), file.spec != live.spec);
            }
            after.policies.insert(key.clone(), Arc::new(object));
        }
        after.assignments.extend(files.assignments.iter().map(|(key, file)| (key.clone(), Arc::clone(file))));
        after
    }
}

/// Identity, age and generation are the API server's; labels and annotations that others wrote stay beside the file's.
fn keep_metadata<K: kube::Resource>(object: &mut K, live: &K, changed: bool) {
    let mut kept = live.meta().clone();
    kept.generation = kept.generation.map(|generation| generation + i64::from(changed));
    kept.labels.get_or_insert_default().extend(object.labels().clone());
    kept.annotations.get_or_insert_default().extend(object.annotations().clone());
    *object.meta_mut() = kept;
}

#[cfg(test)]
mod tests {
    use nave_operator_plan::PolicyKey;
    use serde_json::json;

    use super::*;

    fn policy(name: &str, version: &str, previous: &str) -> Documents {
        let object = json!({
            "metadata": {"namespace": "vision", "name": name},
            "spec": {"model": {"name": "defects", "version": version}},
            "status": {"previousVersion": previous},
        });
        let mut documents = Documents::default();
        documents.put_policy(serde_json::from_value(object).unwrap());
        documents
    }

    #[test]
    fn the_status_of_what_is_there_is_not_the_files_to_say() {
        let live = policy("bridges", "2", "1");
        for (name, version, previous) in [("bridges", "3", "1"), ("stores", "3", "7")] {
            let after = live.applied(&policy(name, "3", "7"));
            let applied = after.world().policies()[&PolicyKey::new("vision", name)].clone();
            let status = applied.status.as_ref().and_then(|status| status.previous_version.as_deref());
            assert_eq!((&*applied.spec.model.version, status), (version, Some(previous)), "{name}");
        }
    }
}
