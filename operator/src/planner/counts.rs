//! On how many clusters each version is, kept up to date assignment by assignment: the cost of a change does not grow
//! with the fleet. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nave_crds::{Action, ClusterAssignment, ModelVersionClusters, Phase};

/// Namespace, model and version.
pub type VersionName = (String, String, String);

/// Counts by version.
#[derive(Debug, Default)]
pub struct VersionCounts {
    by_version: BTreeMap<VersionName, ModelVersionClusters>,
    /// What each assignment adds, to be taken back when it changes.
    added: BTreeMap<String, Vec<(VersionName, ModelVersionClusters)>>,
    seen: BTreeMap<String, Arc<ClusterAssignment>>,
}

impl VersionCounts {
    /// Takes in an assignment, or that there is none any more. Returns the versions whose counts may differ now.
    pub fn update(
        &mut self,
        name: &str,
        assignment: Option<&Arc<ClusterAssignment>>,
    ) -> BTreeSet<VersionName> {
        let mut touched = BTreeSet::new();
        if let (Some(new), Some(old)) = (assignment, self.seen.get(name))
            && Arc::ptr_eq(new, old)
        {
            return touched;
        }
        for (version, counts) in self.added.remove(name).unwrap_or_default() {
            if let Some(total) = self.by_version.get_mut(&version) {
                total.assigned -= counts.assigned;
                total.serving -= counts.serving;
            }
            touched.insert(version);
        }
        let Some(assignment) = assignment else {
            self.seen.remove(name);
            return touched;
        };
        let added = contributions(assignment);
        for (version, counts) in &added {
            let total = self.by_version.entry(version.clone()).or_default();
            total.assigned += counts.assigned;
            total.serving += counts.serving;
            touched.insert(version.clone());
        }
        self.added.insert(name.to_owned(), added);
        self.seen.insert(name.to_owned(), Arc::clone(assignment));
        touched
    }

    /// The counts of one version.
    pub fn of(&self, version: &VersionName) -> ModelVersionClusters {
        self.by_version.get(version).copied().unwrap_or_default()
    }
}

fn contributions(assignment: &ClusterAssignment) -> Vec<(VersionName, ModelVersionClusters)> {
    let mut counts: BTreeMap<VersionName, ModelVersionClusters> = BTreeMap::new();
    for entry in &assignment.spec.entries {
        if matches!(entry.action, Action::Serve | Action::Prefetch) {
            let version = (entry.namespace.clone(), entry.model.clone(), entry.version.clone());
            counts.entry(version).or_default().assigned = 1;
        }
    }
    for row in assignment.status.iter().flat_map(|status| &status.entries) {
        if row.phase == Phase::Serving {
            let version = (row.namespace.clone(), row.model.clone(), row.version.clone());
            counts.entry(version).or_default().serving = 1;
        }
    }
    counts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(version: &str, phase: &str) -> Arc<ClusterAssignment> {
        let value = serde_json::json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "ClusterAssignment", "metadata": {"name": "a"},
            "spec": {"generation": 1, "entries": [
                {"namespace": "n", "policy": "p", "model": "m", "version": version, "action": "Serve"}]},
            "status": {"entries": [
                {"namespace": "n", "model": "m", "version": "1", "phase": phase, "since": "2026-01-01T00:00:00Z"}]}
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn version(version: &str) -> VersionName {
        ("n".into(), "m".into(), version.into())
    }

    #[test]
    fn counts_follow_each_assignment_and_name_what_changed() {
        let mut counts = VersionCounts::default();
        let pair = |counts: &VersionCounts, v: &str| {
            (counts.of(&version(v)).assigned, counts.of(&version(v)).serving)
        };
        assert_eq!(counts.update("a", Some(&assignment("1", "Serving"))), [version("1")].into());
        assert_eq!(counts.update("b", Some(&assignment("1", "Pulling"))), [version("1")].into());
        assert_eq!(pair(&counts, "1"), (2, 1));
        let touched = counts.update("a", Some(&assignment("2", "Serving")));
        assert_eq!(touched, [version("1"), version("2")].into());
        assert_eq!((pair(&counts, "1"), pair(&counts, "2")), ((1, 1), (1, 0)));
        counts.update("a", None);
        counts.update("b", None);
        assert_eq!((pair(&counts, "1"), pair(&counts, "2")), ((0, 0), (0, 0)));
    }

    #[test]
    fn the_same_object_again_touches_nothing() {
        let mut counts = VersionCounts::default();
        let same = assignment("1", "Serving");
        counts.update("a", Some(&same));
        assert!(counts.update("a", Some(&same)).is_empty());
    }
}
