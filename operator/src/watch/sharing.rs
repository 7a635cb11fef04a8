//! Sharing: a policy asks the same of many clusters, so that 10,000 clusters and 100 policies have a million entries that say
//! some hundred different things. Those that say the same are held once, from whichever assignments they were read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
};

use nave_crds::{AssignmentEntry, ClusterAssignment};

/// Different entries of one policy that a new one is compared to: clusters that are told one after the other differ in when
/// that was.
const KEPT: usize = 16;
/// Policies after which those are looked for of which no entry is left.
const FEW: usize = 64;

/// The entries that were read last and are still held by somebody.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    /// By policy, the last first.
    recent: BTreeMap<String, VecDeque<Weak<AssignmentEntry>>>,
    /// How many policies there were when the last sweep was over.
    swept: usize,
    /// For the text of a key.
    key: String,
}

impl Sharing {
    /// Lets an assignment hold the entries that others hold already.
    pub(super) fn share(&mut self, assignment: &mut ClusterAssignment) {
        for entry in &mut assignment.spec.entries {
            self.share_one(entry);
        }
        if self.recent.len() > FEW.max(self.swept * 2) {
            self.recent.retain(|_, recent| recent.iter().any(|entry| entry.strong_count() > 0));
            self.swept = self.recent.len();
        }
    }

    fn share_one(&mut self, entry: &mut Arc<AssignmentEntry>) {
        // Neither name has a slash in it.
        self.key.clear();
        self.key.extend([&*entry.namespace, "/", &*entry.policy]);
        if !self.recent.contains_key(&self.key) {
            self.recent.insert(self.key.clone(), VecDeque::new());
        }
        let Some(recent) = self.recent.get_mut(&self.key) else { return };
        let alike = |one: &Weak<AssignmentEntry>| {
            one.upgrade().filter(|one| (one.told_at == entry.told_at) && **one == **entry)
        };
        if let Some((place, held)) =
            recent.iter().enumerate().find_map(|(place, one)| Some((place, alike(one)?)))
        {
            *entry = held;
            recent.swap(0, place);
            return;
        }
        recent.retain(|one| one.strong_count() > 0);
        recent.truncate(KEPT - 1);
        recent.push_front(Arc::downgrade(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(policy: &str, told_at: usize) -> ClusterAssignment {
        let entry = serde_json::json!({
            "namespace": "n", "policy": policy, "model": "m", "version": "1", "action": "Serve",
            "toldAt": format!("2026-01-01T00:00:{told_at:02}Z"),
        });
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a"}, "spec": {"generation": 1, "entries": [entry]},
        }))
        .unwrap()
    }

    fn read(sharing: &mut Sharing, policy: &str, told_at: usize) -> Arc<AssignmentEntry> {
        let mut assignment = assignment(policy, told_at);
        sharing.share(&mut assignment);
        assert_eq!(assignment, self::assignment(policy, told_at), "it says what it said");
        assignment.spec.entries.remove(0)
    }

    #[test]
    fn what_says_the_same_is_held_once() {
        let mut sharing = Sharing::default();
        let first: Vec<_> = (0..KEPT).map(|told_at| read(&mut sharing, "p", told_at)).collect();
        let other = read(&mut sharing, "q", 0);
        assert!(!Arc::ptr_eq(&first[0], &other));
        for (told_at, one) in first.iter().enumerate() {
            assert!(Arc::ptr_eq(one, &read(&mut sharing, "p", told_at)), "{told_at}");
        }
        // One more than is kept: what was met longest ago is forgotten.
        let more = read(&mut sharing, "p", KEPT);
        assert!(Arc::ptr_eq(&more, &read(&mut sharing, "p", KEPT)));
        let again = first.iter().enumerate().filter(|(told_at, one)| {
            let again = read(&mut sharing, "p", *told_at);
            Arc::ptr_eq(one, &again)
        });
        assert!(again.count() < KEPT);
    }

    #[test]
    fn what_differs_in_anything_is_held_by_itself() {
        let mut sharing = Sharing::default();
        let one = assignment("p", 0);
        let entry = serde_json::to_value(&*one.spec.entries[0]).unwrap();
        let mut held = one.clone();
        sharing.share(&mut held);
        for (field, value) in [
            ("version", serde_json::json!("2")),
            ("manifestDigest", serde_json::json!("sha256:2")),
            ("action", serde_json::json!("Prefetch")),
            ("previousVersion", serde_json::json!("0")),
            ("transfer", serde_json::json!({"maxBandwidth": "1Mi"})),
            ("onRemoval", serde_json::json!("Keep")),
        ] {
            let mut other = entry.clone();
            other[field] = value;
            let mut read = one.clone();
            read.spec.entries = vec![Arc::new(serde_json::from_value(other).unwrap())];
            let said = read.clone();
            sharing.share(&mut read);
            assert_eq!(read, said, "{field}");
            assert_ne!(read, held, "{field}");
        }
    }

    #[test]
    fn one_that_is_met_or_held_outlives_others() {
        let mut sharing = Sharing::default();
        let held: Vec<_> = (0..KEPT).map(|told_at| read(&mut sharing, "p", told_at)).collect();
        read(&mut sharing, "p", 0);
        let _more = read(&mut sharing, "p", KEPT);
        assert!(Arc::ptr_eq(&held[0], &read(&mut sharing, "p", 0)), "met a moment ago");
        let lone = read(&mut sharing, "q", 0);
        (1..=2 * KEPT).for_each(|told_at| drop(read(&mut sharing, "q", told_at)));
        assert!(Arc::ptr_eq(&lone, &read(&mut sharing, "q", 0)), "the others are gone");
    }

    #[test]
    fn nothing_is_kept_that_nobody_holds() {
        let mut sharing = Sharing::default();
        for number in 0..20 * FEW {
            let held = read(&mut sharing, &format!("p{number}"), 0);
            assert_eq!((Arc::strong_count(&held), Arc::weak_count(&held)), (1, 1));
        }
        assert!(sharing.recent.len() <= 2 * FEW, "{}", sharing.recent.len());
        let held: Vec<_> = (0..4 * FEW).map(|number| read(&mut sharing, &format!("h{number}"), 0)).collect();
        for (number, one) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(one, &read(&mut sharing, &format!("h{number}"), 0)), "{number}");
        }
    }
}
