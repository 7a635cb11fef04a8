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
    /// What each assignment was when it was counted, to be taken back when it changes.
    counted: BTreeMap<String, Arc<ClusterAssignment>>,
}

impl VersionCounts {
    /// Takes in an assignment, or that there is none any more. Returns the versions whose counts differ now.
    pub fn update(
        &mut self,
        name: &str,
        assignment: Option<&Arc<ClusterAssignment>>,
    ) -> BTreeSet<VersionName> {
        let before = match assignment {
            Some(assignment) => self.counted.insert(name.to_owned(), Arc::clone(assignment)),
            None => self.counted.remove(name),
        };
        let was = before.as_deref().map(contributions).unwrap_or_default();
        let is = assignment.map(|assignment| contributions(assignment)).unwrap_or_default();
        let differ = |version: &Version<'_>| was.get(version) != is.get(version);
        let mut touched = BTreeSet::new();
        for version in was.keys().chain(is.keys()).filter(|version| differ(version)) {
            let of = |counts: &Contributions<'_>| counts.get(version).copied().unwrap_or_default();
            let name = owned(version);
            if !touched.insert(name.clone()) {
                continue;
            }
            let total = self.by_version.entry(name.clone()).or_default();
            total.assigned += of(&is).assigned - of(&was).assigned;
            total.serving += of(&is).serving - of(&was).serving;
            if *total == ModelVersionClusters::default() {
                self.by_version.remove(&name);
            }
        }
        touched
    }

    /// The counts of one version.
    pub fn of(&self, version: &VersionName) -> ModelVersionClusters {
        self.by_version.get(version).copied().unwrap_or_default()
    }
}

/// Namespace, model and version, as an assignment has them.
type Version<'a> = (&'a str, &'a str, &'a str);

/// What one assignment adds to the counts of each version.
type Contributions<'a> = BTreeMap<Version<'a>, ModelVersionClusters>;

fn contributions(assignment: &ClusterAssignment) -> Contributions<'_> {
    let mut counts = Contributions::new();
    for entry in &assignment.spec.entries {
        if matches!(entry.action, Action::Serve | Action::Prefetch) {
            counts.entry((&entry.namespace, &entry.model, &entry.version)).or_default().assigned = 1;
        }
    }
    for row in assignment.status.iter().flat_map(|status| &status.entries) {
        if row.phase == Phase::Serving {
            counts.entry((&row.namespace, &row.model, &row.version)).or_default().serving = 1;
        }
    }
    counts
}

fn owned((namespace, model, version): &Version<'_>) -> VersionName {
    ((*namespace).to_owned(), (*model).to_owned(), (*version).to_owned())
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
        assert!(counts.by_version.is_empty(), "nothing is kept of what is gone");
    }

    #[test]
    fn a_change_that_counts_nothing_touches_nothing() {
        let mut counts = VersionCounts::default();
        counts.update("a", Some(&assignment("1", "Pulling")));
        assert!(counts.update("a", Some(&assignment("1", "Pulling"))).is_empty());
        assert!(counts.update("a", Some(&assignment("1", "Verifying"))).is_empty());
        assert_eq!(counts.of(&version("1")).assigned, 1);
    }
}
