//! Entries: what all policies ask of one cluster, as its ClusterAssignment stores it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_crds::{Action, AssignmentEntry, ClusterAssignmentSpec, Serving};

use crate::input::{Assignment, Catalogue, Cluster, Held, Policy, Told, Version};

/// What a cluster's assignment is put together from.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) stored: &'a Assignment,
    pub(crate) catalogue: &'a Catalogue,
}

/// What one policy asks of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) policy: &'a Policy,
    /// The policy's target, if it is known.
    pub(crate) target: Option<&'a Version>,
    pub(crate) held: &'a Held,
    /// The policy's place among all.
    pub(crate) place: usize,
    /// The cluster only keeps what it has.
    pub(crate) only_keeps: bool,
}

/// The entry that was last made, or found to be as it shall be, for each policy. The next cluster is mostly asked the same, and
/// shares it.
#[derive(Debug)]
pub(crate) struct Recent<'a>(Vec<Option<Made<'a>>>);

#[derive(Clone, Debug)]
struct Made<'a> {
    entry: Arc<AssignmentEntry>,
    /// What it was made from, where nothing that the cluster has stored is in it.
    held: Option<&'a Held>,
}

impl<'a> Recent<'a> {
    /// Of so many policies; of those beyond nothing is shared.
    pub(crate) fn of(policies: usize) -> Self {
        Self(vec![None; policies])
    }

    fn last(&self, ask: &Ask<'a>) -> Option<&Made<'a>> {
        self.0.get(ask.place)?.as_ref()
    }

    fn put(&mut self, ask: &Ask<'a>, made: impl FnOnce() -> Option<Made<'a>>) {
        if let Some(last) = self.0.get_mut(ask.place)
            && let Some(made) = made()
        {
            *last = Some(made);
        }
    }
}

impl<'a> Desk<'a> {
    /// The assignment that the cluster shall have, if that is another than the stored one. `asked` is sorted by policy.
    pub(crate) fn assemble(
        &self,
        asked: &[Ask<'a>],
        recent: &mut Recent<'a>,
    ) -> Option<ClusterAssignmentSpec> {
        let mut wanted = Vec::with_capacity(asked.len());
        for ask in asked {
            let told = |action, told: &'a Told| Wanted { ask, action, told: Some(told), at: told.at };
            wanted.extend(ask.held.prefetch.as_ref().map(|one| told(Action::Prefetch, one)));
            wanted.extend(ask.held.serve.as_ref().map(|one| told(Action::Serve, one)));
            wanted.extend(ask.held.wait.map(|at| Wanted { ask, action: Action::Wait, told: None, at }));
        }
        let stored = self.stored.entries();
        let same = stored.len() == wanted.len()
            && stored.zip(&wanted).all(|(entry, wanted)| self.is_kept(entry, wanted, recent));
        // A spoke refuses what is older than its ledger. Where its assignment was deleted, or restored from a backup, the
        // numbers go on after the one that it reports.
        let (generation, reported) = (self.stored.generation(), self.stored.reported_generation());
        if same && reported <= generation {
            return None;
        }
        let entries = wanted.iter().map(|wanted| self.shared(wanted, recent)).collect();
        Some(ClusterAssignmentSpec { generation: generation.max(reported).saturating_add(1), entries })
    }

    /// Whether a stored entry is as it shall be.
    fn is_kept(
        &self,
        stored: &Arc<AssignmentEntry>,
        wanted: &Wanted<'a, '_>,
        recent: &mut Recent<'a>,
    ) -> bool {
        let last = recent.last(wanted.ask);
        if last.is_some_and(|made| Arc::ptr_eq(&made.entry, stored) && self.is_made_from(made, wanted)) {
            return true;
        }
        let same = self.is_stored(stored, wanted);
        if same {
            let made = |held| Made { entry: Arc::clone(stored), held: Some(held) };
            recent.put(wanted.ask, || self.source(wanted).map(made));
        }
        same
    }

    fn shared(&self, wanted: &Wanted<'a, '_>, recent: &mut Recent<'a>) -> Arc<AssignmentEntry> {
        let is_the_same =
            |made: &&Made<'a>| self.is_made_from(made, wanted) || self.is_stored(&made.entry, wanted);
        if let Some(made) = recent.last(wanted.ask).filter(is_the_same) {
            return Arc::clone(&made.entry);
        }
        let entry = Arc::new(self.entry(wanted));
        recent.put(wanted.ask, || Some(Made { entry: Arc::clone(&entry), held: self.source(wanted) }));
        entry
    }

    /// What an entry is made from, where nothing that the cluster has stored is in it.
    fn source(&self, wanted: &Wanted<'a, '_>) -> Option<&'a Held> {
        let ask = wanted.ask;
        let complete =
            |told| self.version(ask, told).is_some_and(|version| !version.manifest_digest().is_empty());
        (!wanted.stays() && wanted.told.is_none_or(complete)).then_some(ask.held)
    }

    /// Whether it is sure without a look at it that an entry is the wanted one.
    fn is_made_from(&self, made: &Made<'a>, wanted: &Wanted<'a, '_>) -> bool {
        made.held.is_some_and(|held| std::ptr::eq(held, wanted.ask.held))
            && !wanted.stays()
            && made.entry.action == wanted.action
            && made.entry.transfer == self.cluster.object.spec.transfer
    }

    fn entry(&self, wanted: &Wanted<'_, '_>) -> AssignmentEntry {
        let Wanted { ask, action, told, at } = *wanted;
        let policy = ask.policy;
        let spec = &policy.object.spec;
        AssignmentEntry {
            namespace: policy.key.namespace.clone(),
            policy: policy.key.name.clone(),
            model: spec.model.name.clone(),
            version: wanted.version().to_owned(),
            manifest_digest: told.map_or("", |told| self.digest(ask, told)).to_owned(),
            signature_public_key: told.map_or("", |told| self.signature_public_key(ask, told)).to_owned(),
            action,
            told_at: at.map(Time),
            previous_version: wanted.previous().map(ToOwned::to_owned),
            serving: self.serving(wanted).clone(),
            transfer: self.cluster.object.spec.transfer.clone(),
            on_removal: spec.on_removal,
        }
    }

    /// Whether an entry is what `entry` would make: of a million entries hardly one changes, and none is made to see that.
    fn is_stored(&self, stored: &AssignmentEntry, wanted: &Wanted<'_, '_>) -> bool {
        let AssignmentEntry {
            namespace,
            policy,
            model,
            version,
            manifest_digest,
            signature_public_key,
            action,
            told_at,
            previous_version,
            serving,
            transfer,
            on_removal,
        } = stored;
        let ask = wanted.ask;
        let (spec, key) = (&ask.policy.object.spec, &ask.policy.key);
        let digest = || wanted.told.map_or("", |told| self.digest(ask, told));
        let public_key = || wanted.told.map_or("", |told| self.signature_public_key(ask, told));
        (namespace, policy, model) == (&key.namespace, &key.name, &spec.model.name)
            && version == wanted.version()
            && *action == wanted.action
            && told_at.as_ref().map(|at| at.0) == wanted.at
            && previous_version.as_deref() == wanted.previous()
            && serving == self.serving(wanted)
            && *transfer == self.cluster.object.spec.transfer
            && *on_removal == spec.on_removal
            && manifest_digest == digest()
            && signature_public_key == public_key()
    }

    /// How it is served. What a cluster only keeps, it keeps as it was told it: a runtime that the policy asks for now may be one
    /// that the cluster does not have, or that the version was never tried in.
    fn serving(&self, wanted: &Wanted<'a, '_>) -> &'a Serving {
        let stored = || {
            let told = wanted.told.filter(|_| wanted.stays())?;
            self.stored_entry(wanted.ask.policy, told, Some(wanted.action))
        };
        stored().map_or(&wanted.ask.policy.object.spec.serving, |entry| &entry.serving)
    }

    /// The version's digest; of one that is gone, what its entry carries already.
    fn digest(&self, ask: &Ask<'a>, told: &Told) -> &'a str {
        let digest = self.version(ask, told).map_or("", |version| version.manifest_digest());
        if !digest.is_empty() {
            return digest;
        }
        self.stored_entry(ask.policy, told, None).map_or("", |entry| &entry.manifest_digest)
    }

    /// What the version's signature is checked with; of one that is gone, what its entry carries already: no signature
    /// ceases to be asked for by a deletion.
    fn signature_public_key(&self, ask: &Ask<'a>, told: &Told) -> &'a str {
        match self.version(ask, told) {
            Some(version) => version.signature_public_key(),
            None => self.stored_entry(ask.policy, told, None).map_or("", |entry| &entry.signature_public_key),
        }
    }

    fn version(&self, ask: &Ask<'a>, told: &Told) -> Option<&'a Version> {
        if told.version == ask.policy.target_name {
            return ask.target;
        }
        let namespace = &ask.policy.key.namespace;
        self.catalogue.find(namespace, ask.policy.model(), &told.version).map(|version| &**version)
    }

    /// What is stored of that version, for any action or for this one.
    fn stored_entry(
        &self,
        policy: &'a Policy,
        told: &Told,
        action: Option<Action>,
    ) -> Option<&'a Arc<AssignmentEntry>> {
        let same = |entry: &&Arc<AssignmentEntry>| {
            entry.model == policy.model()
                && entry.version == *told.version
                && action.is_none_or(|action| entry.action == action)
        };
        self.stored.entries_of(policy).find(same)
    }
}

/// One entry, before it is made.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a, 'w> {
    ask: &'w Ask<'a>,
    action: Action,
    told: Option<&'a Told>,
    at: Option<Timestamp>,
}

impl<'a> Wanted<'a, '_> {
    fn version(&self) -> &'a str {
        self.told.map_or("", |told| &told.version)
    }

    /// The cluster only keeps it, or its turn for the target has not come.
    fn stays(&self) -> bool {
        self.ask.only_keeps || self.told.is_some_and(|told| *told.version != *self.ask.policy.target_name)
    }

    fn previous(&self) -> Option<&'a str> {
        self.told.and_then(|told| told.previous.as_deref())
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
    fn entries_that_are_held_once_are_looked_at_for_each_cluster() {
        let connected = json!({"conditions": [{"type": "Connected", "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z"}], "capacity": {"runtimes": [{"name": "triton"}]}});
        let cluster = |name: &str, bandwidth: &str| {
            let spec = json!({"accepted": true, "transfer": {"maxBandwidth": bandwidth}});
            let object = json!({"metadata": {"name": name}, "spec": spec, "status": connected});
            Arc::new(serde_json::from_value::<EdgeCluster>(object).unwrap())
        };
        let policy = json!({"metadata": {"namespace": "n", "name": "p"}, "spec": {"model": {"name": "m", "version": "1"}}});
        let version = json!({"metadata": {"namespace": "n", "name": "m-1"},
            "spec": {"model": "m", "version": "1", "source": {"s3": {"bucket": "b", "prefix": "p"}}},
            "status": {"manifestDigest": "sha256:1", "conditions": [{"type": "Ready", "status": "True", "reason": "R",
                "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z"}]}});
        let world = |clusters: Vec<Arc<EdgeCluster>>, version: &serde_json::Value| {
            World::new(
                clusters,
                [Arc::new(serde_json::from_value(version.clone()).unwrap())],
                [Arc::new(serde_json::from_value(policy.clone()).unwrap())],
                [],
            )
        };
        let names = ["a", "b", "c"];
        let mut stored = world(names.map(|name| cluster(name, "1Mi")).into(), &version);
        let first = plan(&stored, Timestamp::UNIX_EPOCH);
        assert_eq!(first.assignments.len(), 3);
        let mut other = world(vec![cluster("a", "1Mi"), cluster("b", "2Mi"), cluster("c", "1Mi")], &version);
        let mut another = version.clone();
        another["status"]["manifestDigest"] = json!("sha256:2");
        let mut renewed = world(names.map(|name| cluster(name, "1Mi")).into(), &another);
        for (name, spec) in &first.assignments {
            let object = Arc::new(ClusterAssignment::new(name.as_str(), (**spec).clone()));
            for world in [&mut stored, &mut other, &mut renewed] {
                world.upsert_assignment(Arc::clone(&object));
            }
        }
        let changed = |world: &World| {
            let plan = plan(world, Timestamp::UNIX_EPOCH);
            plan.assignments.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert!(changed(&stored).is_empty());
        assert_eq!(changed(&other), ["b"], "its transfer is another");
        assert_eq!(changed(&renewed), names, "the version's weights are others");
    }

    #[test]
    fn numbers_go_on_after_what_the_spoke_has() {
        assert_eq!(planned(7, 7), None);
        assert_eq!(planned(7, 5), None);
        assert_eq!(planned(1, 7), Some(8), "the assignment was deleted, the spoke's ledger was not");
    }
}
