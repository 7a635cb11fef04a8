//! Beside: what was found out for other policies, or other clusters, before one looks at the next: mostly it is the same.

use std::{collections::BTreeSet, sync::Arc};

use nave_crds::AssignmentEntry;

use super::{
    cel::Verdict,
    domains::{Signature, signature},
};
use crate::input::{Cluster, Held, Policy};

/// What one policy takes over as it looks at one cluster.
#[derive(Debug)]
pub(crate) struct Beside<'b> {
    /// What the policy's expressions say of the cluster.
    pub(crate) said: &'b mut Option<Verdict>,
    /// Where the cluster lies, for the policy's spread.
    pub(crate) signature: &'b mut Option<Signature>,
    /// Where any cluster lies.
    pub(crate) known: &'b mut BTreeSet<Signature>,
    /// What another cluster holds for the policy.
    pub(crate) held: &'b mut Option<Stored>,
}

/// What an entry says that a cluster holds.
#[derive(Debug)]
pub(crate) struct Stored {
    entry: Arc<AssignmentEntry>,
    held: Arc<Held>,
}

impl Beside<'_> {
    /// Where a cluster lies.
    pub(super) fn signature(&mut self, policy: &Policy, cluster: &Cluster) -> Signature {
        if policy.spread().is_empty() {
            return Signature::default();
        }
        let find = || {
            let new = signature(policy.spread(), cluster);
            let known = self.known.get(&new).cloned();
            known.unwrap_or_else(|| {
                self.known.insert(Signature::clone(&new));
                new
            })
        };
        Signature::clone(self.signature.get_or_insert_with(find))
    }

    /// What these entries hold, if anything.
    pub(super) fn held<'a>(
        &mut self,
        mut entries: impl Iterator<Item = &'a Arc<AssignmentEntry>> + Clone,
        policy: &Policy,
    ) -> Option<Arc<Held>> {
        let all = entries.clone();
        let entry = entries.next()?;
        let alone = entries.next().is_none();
        let last = self.held.as_ref();
        if let Some(last) = last.filter(|last| alone && Arc::ptr_eq(&last.entry, entry)) {
            return Some(Arc::clone(&last.held));
        }
        let held = Held::of(all, policy, last.map(|last| &*last.held));
        if held.is_empty() {
            return None;
        }
        let alike = last.filter(|last| *last.held == held).map(|last| Arc::clone(&last.held));
        let held = alike.unwrap_or_else(|| Arc::new(held));
        if alone {
            *self.held = Some(Stored { entry: Arc::clone(entry), held: Arc::clone(&held) });
        }
        Some(held)
    }
}
