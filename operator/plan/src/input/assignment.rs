//! Assignment: one ClusterAssignment, sorted so that a policy finds its entries and its rows without a walk.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use jiff::Timestamp;
use nave_crds::{Action, AssignmentEntry, ClusterAssignment, EntryStatus, Phase};

use super::Policy;
use crate::PolicyKey;

/// One ClusterAssignment; an empty one stands for a cluster that has none yet.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    pub(crate) object: Option<Arc<ClusterAssignment>>,
    /// Indices into `spec.entries`, in the canonical order.
    order: Vec<u32>,
    /// Indices into `status.entries`, by namespace, model, version.
    rows: Vec<u32>,
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
        let status = object.status.as_ref().map_or(&[][..], |status| &status.entries);
        let mut rows: Vec<u32> = (0u32..).take(status.len()).collect();
        rows.sort_by(|a, b| row_key(&status[*a as usize]).cmp(&row_key(&status[*b as usize])));
        let serve_entries = entries.iter().filter(|entry| entry.action == Action::Serve).count();
        Self { order, rows, serve_entries, object: Some(object) }
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
        policy: &'a PolicyKey,
    ) -> impl Iterator<Item = &'a AssignmentEntry> + Clone + 'a {
        let entries = self.object.as_ref().map_or(&[][..], |object| &object.spec.entries);
        let from = self.order.partition_point(|index| {
            let entry = &entries[*index as usize];
            (entry.namespace.as_str(), entry.policy.as_str()) < (&policy.namespace, &policy.name)
        });
        self.order[from..]
            .iter()
            .map(move |index| &*entries[*index as usize])
            .take_while(move |entry| entry.namespace == policy.namespace && entry.policy == policy.name)
    }

    /// Where the spoke's rows for one model are: looked up once, and then as often as anybody asks.
    pub(crate) fn rows_of(&self, namespace: &str, model: &str) -> Rows {
        let rows = self.status_rows();
        let key = |index: &u32| {
            let row = &rows[*index as usize];
            (row.namespace.as_str(), row.model.as_str())
        };
        let from = self.rows.partition_point(|index| key(index) < (namespace, model));
        let count = self.rows[from..].iter().take_while(|index| key(index) == (namespace, model)).count();
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Rows(place(from)..place(from + count))
    }

    /// These rows, by version.
    pub(crate) fn rows_in(&self, place: &Rows) -> impl Iterator<Item = &EntryStatus> {
        let rows = self.status_rows();
        let place = place.0.start as usize..place.0.end as usize;
        let indices = self.rows.get(place).unwrap_or_default();
        indices.iter().map(move |index| &rows[*index as usize])
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

fn row_key(row: &EntryStatus) -> (&str, &str, &str) {
    (&row.namespace, &row.model, &row.version)
}

fn latest(slot: &mut Option<Told>, told: Told) {
    if slot.as_ref().is_none_or(|present| present.at <= told.at) {
        *slot = Some(told);
    }
}
