//! Entries: what all policies ask of one cluster, as its ClusterAssignment stores it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_crds::{Action, AssignmentEntry, ClusterAssignmentSpec};

use crate::input::{Assignment, Catalogue, Cluster, Held, Policy, Told};

/// What a cluster's assignment is put together from.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) stored: &'a Assignment,
    pub(crate) catalogue: &'a Catalogue,
}

impl Desk<'_> {
    /// The assignment that the cluster shall have, if that is another than the stored one. `asked` is sorted by policy.
    pub(crate) fn assemble(&self, asked: &[(&Policy, &Held)]) -> Option<ClusterAssignmentSpec> {
        let mut entries = Vec::new();
        for (policy, held) in asked {
            if let Some(told) = &held.prefetch {
                entries.push(self.entry(policy, Action::Prefetch, Some(told)));
            }
            if let Some(told) = &held.serve {
                entries.push(self.entry(policy, Action::Serve, Some(told)));
            }
            if let Some(at) = held.wait {
                let mut entry = self.entry(policy, Action::Wait, None);
                entry.told_at = at.map(Time);
                entries.push(entry);
            }
        }
        let stored = self.stored.entries();
        let same = stored.len() == entries.len() && stored.eq(entries.iter());
        // A spoke refuses what is older than its ledger. Where its assignment was deleted, or restored from a backup, the
        // numbers go on after the one that it reports.
        let (generation, reported) = (self.stored.generation(), self.stored.reported_generation());
        if same && reported <= generation {
            return None;
        }
        Some(ClusterAssignmentSpec { generation: generation.max(reported).saturating_add(1), entries })
    }

    fn entry(&self, policy: &Policy, action: Action, told: Option<&Told>) -> AssignmentEntry {
        let spec = &policy.object.spec;
        AssignmentEntry {
            namespace: policy.key.namespace.clone(),
            policy: policy.key.name.clone(),
            model: spec.model.name.clone(),
            version: told.map(|told| told.version.to_string()).unwrap_or_default(),
            manifest_digest: told.map(|told| self.digest(policy, told)).unwrap_or_default(),
            signature_public_key: told
                .map(|told| self.signature_public_key(policy, told))
                .unwrap_or_default(),
            action,
            told_at: told.and_then(|told| told.at).map(Time),
            previous_version: told.and_then(|told| told.previous.as_deref()).map(ToOwned::to_owned),
            serving: spec.serving.clone(),
            transfer: self.cluster.object.spec.transfer.clone(),
            on_removal: spec.on_removal,
        }
    }

    /// The version's digest; of one that is gone, what its entry carries already.
    fn digest(&self, policy: &Policy, told: &Told) -> String {
        let known = self.catalogue.find(&policy.key.namespace, policy.model(), &told.version);
        let digest = known.map_or("", |version| version.manifest_digest());
        if !digest.is_empty() {
            return digest.to_owned();
        }
        self.stored_entry(policy, told).map(|entry| entry.manifest_digest.clone()).unwrap_or_default()
    }

    /// What the version's signature is checked with; of one that is gone, what its entry carries already: no signature
    /// ceases to be asked for by a deletion.
    fn signature_public_key(&self, policy: &Policy, told: &Told) -> String {
        match self.catalogue.find(&policy.key.namespace, policy.model(), &told.version) {
            Some(version) => version.signature_public_key().to_owned(),
            None => {
                let stored = self.stored_entry(policy, told);
                stored.map(|entry| entry.signature_public_key.clone()).unwrap_or_default()
            }
        }
    }

    fn stored_entry<'a>(&'a self, policy: &'a Policy, told: &Told) -> Option<&'a AssignmentEntry> {
        let same = |entry: &&AssignmentEntry| entry.model == policy.model() && entry.version == *told.version;
        self.stored.entries_of(&policy.key).find(same)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use nave_crds::{ClusterAssignment, EdgeCluster};
    use serde_json::json;

    use crate::{World, plan};

    fn planned(generation: i64, reported: i64) -> Option<i64> {
        let cluster: EdgeCluster =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"accepted": true}})).unwrap();
        let assignment: ClusterAssignment = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"generation": generation, "entries": []},
            "status": {"observedGeneration": reported}
        }))
        .unwrap();
        let world = World::new([Arc::new(cluster)], [], [], [Arc::new(assignment)]);
        plan(&world, Timestamp::UNIX_EPOCH).assignments.values().next().map(|spec| spec.generation)
    }

    #[test]
    fn numbers_go_on_after_what_the_spoke_has() {
        assert_eq!(planned(7, 7), None);
        assert_eq!(planned(7, 5), None);
        assert_eq!(planned(1, 7), Some(8), "the assignment was deleted, the spoke's ledger was not");
    }
}
