//! Spread: how many of the chosen clusters lie in each domain of each constraint, and whether one more would make two
//! domains differ by more than is allowed.

use std::collections::BTreeMap;

use nave_crds::{Spread as SpreadSpec, WhenUnsatisfiable};

use super::Member;

/// The counts of all constraints of a policy.
#[derive(Debug)]
pub(crate) struct Spread {
    constraints: Vec<Constraint>,
}

#[derive(Debug)]
struct Constraint {
    max_skew: usize,
    firm: bool,
    /// Chosen clusters by domain.
    counts: Vec<usize>,
    /// How many domains have a count; its first non-zero place is the smallest count.
    domains_with: Vec<usize>,
    least: usize,
    /// The domain of each candidate, by its place in the ranking.
    domain_of: Vec<Option<usize>>,
}

impl Spread {
    /// The constraints over these candidates, best first, with nobody chosen.
    pub(crate) fn new(specs: &[SpreadSpec], candidates: &[&Member]) -> Self {
        Self { constraints: specs.iter().map(|spec| Constraint::new(spec, candidates)).collect() }
    }

    /// Whether this candidate lacks a key that it needs.
    pub(crate) fn lacks_key(spec: &[SpreadSpec], member: &Member) -> Option<String> {
        let labels = member.spoke.cluster.labels();
        spec.iter()
            .find(|one| {
                one.when_unsatisfiable == WhenUnsatisfiable::DoNotSelect
                    && !labels.contains_key(&one.topology_key)
            })
            .map(|one| format!("has no label {}", one.topology_key))
    }

    /// Counts a candidate as chosen.
    pub(crate) fn take(&mut self, candidate: usize) {
        self.constraints.iter_mut().for_each(|constraint| constraint.take(candidate));
    }

    /// Whether taking a candidate keeps every constraint that must be kept.
    pub(crate) fn allows(&self, candidate: usize) -> bool {
        self.constraints.iter().filter(|one| one.firm).all(|one| one.keeps(candidate))
    }

    /// How many of the other constraints taking a candidate would break.
    pub(crate) fn breaks(&self, candidate: usize) -> usize {
        self.constraints.iter().filter(|one| !one.firm && !one.keeps(candidate)).count()
    }

    /// What decides about a candidate besides its rank: candidates of one signature are allowed or not together.
    pub(crate) fn signature(&self, candidate: usize) -> Vec<Option<usize>> {
        self.constraints.iter().map(|constraint| constraint.domain_of[candidate]).collect()
    }
}

impl Constraint {
    fn new(spec: &SpreadSpec, candidates: &[&Member]) -> Self {
        let mut domains: BTreeMap<&str, usize> = BTreeMap::new();
        let mut domain_of = Vec::with_capacity(candidates.len());
        for member in candidates {
            let value = member.spoke.cluster.labels().get(&spec.topology_key);
            domain_of.push(value.map(|value| {
                let next = domains.len();
                *domains.entry(value).or_insert(next)
            }));
        }
        Self {
            max_skew: usize::try_from(spec.max_skew).unwrap_or(1),
            firm: spec.when_unsatisfiable == WhenUnsatisfiable::DoNotSelect,
            counts: vec![0; domains.len()],
            domains_with: vec![domains.len()],
            least: 0,
            domain_of,
        }
    }

    fn take(&mut self, candidate: usize) {
        let Some(domain) = self.domain_of[candidate] else { return };
        let count = self.counts[domain];
        self.counts[domain] = count + 1;
        self.domains_with[count] -= 1;
        if self.domains_with.len() == count + 1 {
            self.domains_with.push(0);
        }
        self.domains_with[count + 1] += 1;
        while self.domains_with[self.least] == 0 {
            self.least += 1;
        }
    }

    /// One without the key keeps nothing.
    fn keeps(&self, candidate: usize) -> bool {
        self.domain_of[candidate].is_some_and(|domain| self.counts[domain] + 1 - self.least <= self.max_skew)
    }
}
