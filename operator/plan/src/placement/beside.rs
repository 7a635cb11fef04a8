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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::PolicyKey;

    #[test]
    fn what_is_taken_over_is_what_the_entries_say() {
        let object = json!({"metadata": {"namespace": "n", "name": "p"}, "spec": {"model": {"name": "m", "version": "2"}}});
        let object = Arc::new(serde_json::from_value(object).unwrap());
        let policy = Policy::new(PolicyKey::of(&object), object);
        let entry = |action: &str, model: &str, version: &str, more: serde_json::Value| {
            let mut object = json!({"namespace": "n", "policy": "p", "model": model, "version": version,
                "manifestDigest": "", "action": action});
            object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Arc::new(serde_json::from_value::<AssignmentEntry>(object).unwrap())
        };
        let prefetch = entry("Prefetch", "m", "2", json!({}));
        let serve = entry("Serve", "m", "1", json!({}));
        let later = entry("Serve", "m", "1", json!({"toldAt": "2026-11-28T00:00:00Z"}));
        let another = entry("Serve", "m", "1", json!({"previousVersion": "0"}));
        let elsewhere = entry("Serve", "x", "1", json!({}));
        let serve_again = Arc::new(AssignmentEntry::clone(&serve));
        let mut last = None;
        let mut of = |entries: &[&Arc<AssignmentEntry>]| {
            let mut beside = Beside {
                said: &mut None,
                signature: &mut None,
                known: &mut BTreeSet::new(),
                held: &mut last,
            };
            beside.held(entries.iter().copied(), &policy)
        };
        let lists: [&[&Arc<AssignmentEntry>]; 10] = [
            &[&prefetch],
            &[&prefetch, &serve],
            &[&prefetch],
            &[&serve],
            &[&later],
            &[&serve, &prefetch],
            &[&another],
            &[&elsewhere],
            &[&serve],
            &[&elsewhere],
        ];
        for entries in lists {
            let alone = Held::of(entries.iter().copied(), &policy, None);
            let alone = (!alone.is_empty()).then(|| Arc::new(alone));
            assert_eq!(of(entries), alone, "{entries:?}");
        }
        assert_eq!(of(&[]), None);
        let (a, b) = (of(&[&serve]).unwrap(), of(&[&serve_again]).unwrap());
        assert!(Arc::ptr_eq(&a, &b), "equal ones are held once");
    }
}
