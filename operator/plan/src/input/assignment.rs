//! Assignment: one ClusterAssignment, sorted so that a policy finds its entries and its rows without a walk.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use jiff::Timestamp;
use nave_crds::{Action, AssignmentEntry, ClusterAssignment, EntryStatus, Phase};

use super::{Fingerprint, Policy};

/// One ClusterAssignment; an empty one stands for a cluster that has none yet.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    pub(crate) object: Option<Arc<ClusterAssignment>>,
    /// Clusters that hold the same entries share it.
    layout: Arc<Layout>,
    /// Indices into `status.entries`, those of one model together and by version.
    rows: Vec<(Fingerprint, u32)>,
}

/// Where entries are.
#[derive(Debug, Default)]
struct Layout {
    /// Their indices, in the canonical order.
    order: Vec<u32>,
    /// Where in `order` each policy's entries begin.
    owners: Vec<(Fingerprint, u32)>,
    /// Serve entries of all policies.
    serve_entries: u32,
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
    pub(crate) serve: Option<Arc<Told>>,
    pub(crate) prefetch: Option<Arc<Told>>,
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

    /// What these entries of one policy say of its model. Of two entries of a kind the one that was told last counts. What
    /// `like` was told as well is shared with it.
    pub(crate) fn of<'a>(
        entries: impl Iterator<Item = &'a Arc<AssignmentEntry>>,
        policy: &Policy,
        like: Option<&Self>,
    ) -> Self {
        // Of a million entries nearly all name the target: those share one text.
        let version = |name: &str| match *policy.target_name == *name {
            true => Arc::clone(&policy.target_name),
            false => Arc::from(name),
        };
        let mut held = Self::default();
        for entry in entries.filter(|entry| entry.model == policy.model()) {
            let at = entry.told_at.as_ref().map(|at| at.0);
            let is_told = |told: &&Arc<Told>| {
                *told.version == *entry.version
                    && told.at == at
                    && told.previous.as_deref() == entry.previous_version.as_deref()
            };
            let told = || {
                let known =
                    like.into_iter().flat_map(|like| like.serve.iter().chain(&like.prefetch)).find(is_told);
                let new = || Told {
                    version: version(&entry.version),
                    at,
                    previous: entry.previous_version.as_deref().map(version),
                };
                known.map_or_else(|| Arc::new(new()), Arc::clone)
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
    /// One like another: mostly a cluster's is like the one of before, or of the cluster before, and holds the very same entries.
    pub(crate) fn new(object: Arc<ClusterAssignment>, like: Option<&Self>) -> Self {
        let entries = &object.spec.entries;
        let like = like.filter(|like| holds_the_same(like.stored(), entries));
        let layout = like.map_or_else(|| Arc::new(Layout::of(entries)), |like| Arc::clone(&like.layout));
        let status = object.status.as_ref().map_or(&[][..], |status| &status.entries);
        let fingerprint = |row: &EntryStatus| Fingerprint::of(&row.namespace, &row.model);
        let mut rows: Vec<(Fingerprint, u32)> = status.iter().map(fingerprint).zip(0u32..).collect();
        let key = |index: u32| row_key(&status[index as usize]);
        rows.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(&key(b.1))));
        Self { layout, rows, object: Some(object) }
    }

    /// Serve entries of all policies.
    pub(crate) fn serve_entries(&self) -> u32 {
        self.layout.serve_entries
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
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = &Arc<AssignmentEntry>> {
        let entries = self.stored();
        self.layout.order.iter().map(move |index| &entries[*index as usize])
    }

    /// The stored entries of one policy.
    pub(crate) fn entries_of<'a>(
        &'a self,
        policy: &'a Policy,
    ) -> impl Iterator<Item = &'a Arc<AssignmentEntry>> + Clone + 'a {
        let (entries, Layout { order, owners, .. }) = (self.stored(), &*self.layout);
        let is_its = |entry: &&Arc<AssignmentEntry>| {
            entry.policy == policy.key.name && entry.namespace == policy.key.namespace
        };
        let from = owners.partition_point(|(owner, _)| *owner < policy.fingerprint);
        let alike = owners[from..].iter().take_while(|(owner, _)| *owner == policy.fingerprint);
        let entry = move |index: &u32| &entries[*index as usize];
        let begin = alike.map(|(_, begin)| *begin as usize).find(|begin| is_its(&entry(&order[*begin])));
        let of_it = begin.map_or(&[][..], |begin| &order[begin..]);
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
        self.stored().iter().any(|entry| {
            entry.version == version
                && entry.model == model
                && entry.namespace == namespace
                && entry.action != Action::Wait
        })
    }

    fn stored(&self) -> &[Arc<AssignmentEntry>] {
        self.object.as_ref().map_or(&[], |object| &object.spec.entries)
    }

    fn status_rows(&self) -> &[EntryStatus] {
        self.object.as_ref().and_then(|object| object.status.as_ref()).map_or(&[], |status| &status.entries)
    }
}

/// Whether these are not only equal, but held once.
fn holds_the_same(a: &[Arc<AssignmentEntry>], b: &[Arc<AssignmentEntry>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

impl Layout {
    fn of(entries: &[Arc<AssignmentEntry>]) -> Self {
        let mut order: Vec<u32> = (0u32..).take(entries.len()).collect();
        order.sort_by(|a, b| canonical(&entries[*a as usize], &entries[*b as usize]));
        let serve_entries = entries.iter().filter(|entry| entry.action == Action::Serve).count();
        Self {
            owners: owners(entries, &order),
            order,
            serve_entries: u32::try_from(serve_entries).unwrap_or(u32::MAX),
        }
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

fn latest(slot: &mut Option<Arc<Told>>, told: Arc<Told>) {
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
    fn only_one_with_the_very_same_entries_is_laid_out_like_another() {
        let entry = |policy: &str| {
            let object = json!({"namespace": "n", "policy": policy, "model": "m", "version": "1", "manifestDigest": "", "action": "Serve"});
            Arc::new(serde_json::from_value::<AssignmentEntry>(object).unwrap())
        };
        let [a, b, c] = ["a", "b", "c"].map(entry);
        let of = |entries: &[&Arc<AssignmentEntry>], like: Option<&Assignment>| {
            let mut object = ClusterAssignment::new("x", Default::default());
            object.spec.entries = entries.iter().map(|entry| Arc::clone(entry)).collect();
            Assignment::new(Arc::new(object), like)
        };
        let first = of(&[&b, &a], None);
        for (entries, sorted, alike) in [
            (vec![&b, &a], vec!["a", "b"], true),
            (vec![&a, &b], vec!["a", "b"], false),
            (vec![&b, &c], vec!["b", "c"], false),
            (vec![&b], vec!["b"], false),
            (vec![&b, &a, &c], vec!["a", "b", "c"], false),
            (vec![], vec![], false),
        ] {
            let second = of(&entries, Some(&first));
            assert_eq!(second.entries().map(|entry| &*entry.policy).collect::<Vec<_>>(), sorted);
            assert_eq!(Arc::ptr_eq(&first.layout, &second.layout), alike, "{sorted:?}");
            assert_eq!(second.serve_entries() as usize, entries.len());
        }
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
        let assignment = Assignment::new(Arc::new(serde_json::from_value(object).unwrap()), None);
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
