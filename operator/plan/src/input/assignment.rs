//! Assignment: one ClusterAssignment, sorted so that a policy finds its entries and its rows without a walk.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use jiff::Timestamp;
use nave_crds::{Action, AssignmentEntry, ClusterAssignment, EntryStatus, Phase};

use super::{Fingerprint, Policy};

/// One ClusterAssignment; an empty one stands for a cluster that has none yet.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    pub(crate) object: Option<Arc<ClusterAssignment>>,
    /// Indices into `spec.entries`, in the canonical order.
    order: Vec<u32>,
    /// Where in `order` each policy's entries begin.
    owners: Vec<(Fingerprint, u32)>,
    /// Indices into `status.entries`, those of one model together and by version.
    rows: Vec<(Fingerprint, u32)>,
    /// Serve entries of all policies.
    pub(crate) serve_entries: usize,
}

/// A version that a cluster was told, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) version: Arc<str>,
    /// Absent only in an object that was not written by a planner: then it was told before anything else.
    pub(crate) at: Option<Timestamp>,
    pub(crate) previous: Option<Arc<str>>,
}

/// What a policy asks of one cluster: as it is stored, or as it shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) serve: Option<Told>,
    pub(crate) prefetch: Option<Told>,
    /// A Wait entry. Its time is set where a rollback left the cluster without a version.
    pub(crate) wait: Option<Option<Timestamp>>,
}

/// Where an assignment keeps its spoke's rows for one model.
#[derive(Clone, Debug)]
pub(crate) struct Rows(Range<u32>);

static NOTHING: Held = Held { serve: None, prefetch: None, wait: None };

impl Held {
    pub(crate) fn nothing() -> &'static Self {
        &NOTHING
    }

    /// What these entries of one policy say of its model. Of two entries of a kind the one that was told last counts.
    pub(crate) fn of<'a>(entries: impl Iterator<Item = &'a AssignmentEntry>, policy: &Policy) -> Self {
        // Of a million entries nearly all name the target: those share one text.
        let version = |name: &str| match *policy.target_name == *name {
            true => Arc::clone(&policy.target_name),
            false => Arc::from(name),
        };
        let mut held = Self::default();
        for entry in entries.filter(|entry| entry.model == policy.model()) {
            let at = entry.told_at.as_ref().map(|at| at.0);
            let told = || Told {
                version: version(&entry.version),
                at,
                previous: entry.previous_version.as_deref().map(version),
            };
            match entry.action {
                Action::Serve => latest(&mut held.serve, told()),
                Action::Prefetch => latest(&mut held.prefetch, told()),
                Action::Wait => held.wait = Some(at),
            }
        }
        held
    }

    /// Nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.serve.is_none() && self.prefetch.is_none() && self.wait.is_none()
    }
}

/// The canonical order of entries.
pub(crate) fn canonical(a: &AssignmentEntry, b: &AssignmentEntry) -> Ordering {
    let key = |e: &AssignmentEntry| (e.action, e.told_at.as_ref().map(|t| t.0));
    (&a.namespace, &a.policy, &a.model)
        .cmp(&(&b.namespace, &b.policy, &b.model))
        .then_with(|| a.action.cmp(&b.action))
        .then_with(|| a.version.cmp(&b.version))
        .then_with(|| key(a).cmp(&key(b)))
}

impl Assignment {
    pub(crate) fn new(object: Arc<ClusterAssignment>) -> Self {
        let entries = &object.spec.entries;
        let mut order: Vec<u32> = (0u32..).take(entries.len()).collect();
        order.sort_by(|a, b| canonical(&entries[*a as usize], &entries[*b as usize]));
        let owners = owners(entries, &order);
        let status = object.status.as_ref().map_or(&[][..], |status| &status.entries);
        let fingerprint = |row: &EntryStatus| Fingerprint::of(&row.namespace, &row.model);
        let mut rows: Vec<(Fingerprint, u32)> = status.iter().map(fingerprint).zip(0u32..).collect();
        let key = |index: u32| row_key(&status[index as usize]);
        rows.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(&key(b.1))));
        let serve_entries = entries.iter().filter(|entry| entry.action == Action::Serve).count();
        Self { order, owners, rows, serve_entries, object: Some(object) }
    }

    pub(crate) fn generation(&self) -> i64 {
        self.object.as_ref().map_or(0, |object| object.spec.generation)
    }

    /// The generation in the spoke's ledger; 0 = it has not said.
    pub(crate) fn reported_generation(&self) -> i64 {
        let status = self.object.as_ref().and_then(|object| object.status.as_ref());
        status.and_then(|status| status.observed_generation).unwrap_or(0)
    }

    /// Whether the spoke has said that it knows the stored entries.
    pub(crate) fn observed(&self) -> bool {
        self.object.is_some() && self.reported_generation() >= self.generation()
    }

    /// The stored entries, in the canonical order.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = &AssignmentEntry> {
        let entries = self.object.as_ref().map_or(&[][..], |object| &object.spec.entries);
        self.order.iter().map(move |index| &*entries[*index as usize])
    }

    /// The stored entries of one policy.
    pub(crate) fn entries_of<'a>(
        &'a self,
        policy: &'a Policy,
    ) -> impl Iterator<Item = &'a AssignmentEntry> + Clone + 'a {
        let entries = self.object.as_ref().map_or(&[][..], |object| &object.spec.entries);
        let is_its = |entry: &&AssignmentEntry| {
            entry.policy == policy.key.name && entry.namespace == policy.key.namespace
        };
        let from = self.owners.partition_point(|(owner, _)| *owner < policy.fingerprint);
        let alike = self.owners[from..].iter().take_while(|(owner, _)| *owner == policy.fingerprint);
        let entry = move |index: &u32| &*entries[*index as usize];
        let begin = alike.map(|(_, begin)| *begin as usize).find(|begin| is_its(&entry(&self.order[*begin])));
        let of_it = begin.map_or(&[][..], |begin| &self.order[begin..]);
        of_it.iter().map(entry).take_while(is_its)
    }

    /// Where the spoke's rows for one model are: looked up once, and then as often as anybody asks.
    pub(crate) fn rows_of(&self, namespace: &str, model: &str) -> Rows {
        self.rows_by(Fingerprint::of(namespace, model), namespace, model)
    }

    /// The same for a policy's model.
    pub(crate) fn rows_for(&self, policy: &Policy) -> Rows {
        self.rows_by(policy.model_fingerprint, &policy.key.namespace, policy.model())
    }

    fn rows_by(&self, fingerprint: Fingerprint, namespace: &str, model: &str) -> Rows {
        let rows = self.status_rows();
        let of_model = |(_, index): &&(Fingerprint, u32)| {
            let row = &rows[*index as usize];
            (row.model.as_str(), row.namespace.as_str()) == (model, namespace)
        };
        let from = self.rows.partition_point(|(one, _)| *one < fingerprint);
        let mut alike = self.rows[from..].iter().take_while(|(one, _)| *one == fingerprint).peekable();
        let others = std::iter::from_fn(|| alike.next_if(|one| !of_model(one))).count();
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let begin = from + others;
        Rows(place(begin)..place(begin + alike.take_while(of_model).count()))
    }

    /// These rows, by version.
    pub(crate) fn rows_in(&self, place: &Rows) -> impl Iterator<Item = &EntryStatus> {
        let rows = self.status_rows();
        let place = place.0.start as usize..place.0.end as usize;
        let indices = self.rows.get(place).unwrap_or_default();
        indices.iter().map(move |(_, index)| &rows[*index as usize])
    }

    /// The spoke's row for one version.
    pub(crate) fn row(&self, namespace: &str, model: &str, version: &str) -> Option<&EntryStatus> {
        self.rows_in(&self.rows_of(namespace, model)).find(|row| row.version == version)
    }

    /// Whether the spoke ever served this version, as far as its last activations tell.
    pub(crate) fn activated(&self, namespace: &str, model: &str, version: &str) -> bool {
        let history =
            self.object.as_ref().and_then(|object| object.status.as_ref()).map(|status| &status.history);
        history.into_iter().flatten().any(|activation| {
            activation.namespace == namespace && activation.model == model && activation.version == version
        })
    }

    /// Whether the spoke serves any version of this model.
    pub(crate) fn serves_any(&self, namespace: &str, model: &str) -> bool {
        self.rows_in(&self.rows_of(namespace, model)).any(|row| row.phase == Phase::Serving)
    }

    /// Whether any policy asks the spoke to hold this version.
    pub(crate) fn asks_for(&self, namespace: &str, model: &str, version: &str) -> bool {
        let entries = self.object.as_ref().map_or(&[][..], |object| &object.spec.entries);
        entries.iter().any(|entry| {
            entry.version == version
                && entry.model == model
                && entry.namespace == namespace
                && entry.action != Action::Wait
        })
    }

    fn status_rows(&self) -> &[EntryStatus] {
        self.object.as_ref().and_then(|object| object.status.as_ref()).map_or(&[], |status| &status.entries)
    }
}

/// Where in the canonical order each policy's entries begin.
fn owners(entries: &[Arc<AssignmentEntry>], order: &[u32]) -> Vec<(Fingerprint, u32)> {
    let owner = |index: &u32| {
        let entry = &entries[*index as usize];
        (entry.namespace.as_str(), entry.policy.as_str())
    };
    let mut owners = Vec::with_capacity(order.len());
    let mut before = None;
    for (index, place) in order.iter().zip(0u32..) {
        let owner = owner(index);
        if before.replace(owner) != Some(owner) {
            owners.push((Fingerprint::of(owner.0, owner.1), place));
        }
    }
    owners.sort_unstable();
    owners
}

fn row_key(row: &EntryStatus) -> (&str, &str, &str) {
    (&row.namespace, &row.model, &row.version)
}

fn latest(slot: &mut Option<Told>, told: Told) {
    if slot.as_ref().is_none_or(|present| present.at <= told.at) {
        *slot = Some(told);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    /// Two names of one fingerprint; there are hardly more names than that takes.
    fn alike() -> [String; 2] {
        let mut seen = BTreeMap::new();
        let twin = (0..1_000_000).find_map(|number| {
            let name = format!("p{number}");
            let before = seen.insert(Fingerprint::of("n", &name), name.clone())?;
            Some([before, name])
        });
        twin.unwrap()
    }

    #[test]
    fn whose_an_entry_or_a_row_is_does_not_depend_on_its_fingerprint_alone() {
        let names = alike();
        let others = ["a", "p", "z"].map(str::to_owned);
        let all = || names.iter().chain(&others);
        let entries: Vec<_> = all()
            .map(|name| json!({"namespace": "n", "policy": name, "model": name, "version": "1", "manifestDigest": "", "action": "Serve"}))
            .collect();
        let rows: Vec<_> = all()
            .flat_map(|name| ["2", "1"].map(|version| (name, version)))
            .map(|(name, version)| json!({"namespace": "n", "model": name, "version": version, "phase": "Serving", "since": "2026-11-24T10:00:00Z"}))
            .collect();
        let object = json!({"metadata": {"name": "c"}, "spec": {"generation": 1, "entries": entries},
            "status": {"observedGeneration": 1, "entries": rows}});
        let assignment = Assignment::new(Arc::new(serde_json::from_value(object).unwrap()));
        for name in all() {
            let object = json!({"metadata": {"namespace": "n", "name": name}, "spec": {"model": {"name": name, "version": "1"}}});
            let object = Arc::new(serde_json::from_value(object).unwrap());
            let policy = Policy::new(crate::PolicyKey::of(&object), object);
            let models: Vec<&str> = assignment.entries_of(&policy).map(|entry| &*entry.model).collect();
            assert_eq!(models, [name.as_str()]);
            for place in [assignment.rows_for(&policy), assignment.rows_of("n", name)] {
                let rows: Vec<_> = assignment
                    .rows_in(&place)
                    .map(|row| (row.model.as_str(), row.version.as_str()))
                    .collect();
                assert_eq!(rows, [(name.as_str(), "1"), (name, "2")]);
            }
        }
        assert_eq!(assignment.rows_in(&assignment.rows_of("n", "b")).count(), 0);
    }
}
