//! Spread: how many of the chosen clusters lie in each domain of each constraint, and whether one more would make two
//! domains differ by more than is allowed.

use std::collections::BTreeMap;

use nave_crds::{Spread as SpreadSpec, WhenUnsatisfiable};

use super::{Member, Signature};

/// The counts of all constraints of a policy. Candidates that lie in the same domains are of one kind, and allowed or not
/// together.
#[derive(Debug)]
pub(crate) struct Spread<'m> {
    constraints: Vec<Constraint<'m>>,
    by_signature: BTreeMap<&'m [Option<Box<str>>], usize>,
    /// Where each kind lies, by constraint.
    domains: Vec<Vec<Option<usize>>>,
    /// The kind of each candidate.
    kind_of: Vec<usize>,
}

#[derive(Debug)]
struct Constraint<'m> {
    max_skew: usize,
    firm: bool,
    numbers: BTreeMap<&'m str, usize>,
    /// Chosen clusters by domain.
    counts: Vec<usize>,
    /// How many domains have a count; its first non-zero place is the smallest count.
    domains_with: Vec<usize>,
    least: usize,
}

impl<'m> Spread<'m> {
    /// The constraints, with no candidates.
    pub(crate) fn new(specs: &[SpreadSpec]) -> Self {
        Self {
            constraints: specs.iter().map(Constraint::new).collect(),
            by_signature: BTreeMap::new(),
            domains: Vec::new(),
            kind_of: Vec::new(),
        }
    }

    /// Whether this candidate lacks a key that it needs.
    pub(crate) fn lacks_key(spec: &[SpreadSpec], member: &Member) -> Option<String> {
        let mut lacking = spec.iter().zip(&*member.signature).filter(|(_, label)| label.is_none());
        let needed = lacking.find(|(one, _)| one.when_unsatisfiable == WhenUnsatisfiable::DoNotSelect);
        needed.map(|(one, _)| format!("has no label {}", one.topology_key))
    }

    /// One more candidate, by its domain for each constraint.
    pub(crate) fn add(&mut self, signature: &'m Signature) {
        if let Some(kind) = self.by_signature.get(&**signature) {
            self.kind_of.push(*kind);
            return;
        }
        let constraints = self.constraints.iter_mut().zip(&**signature);
        let domains = constraints.map(|(constraint, label)| Some(constraint.number(label.as_deref()?)));
        self.domains.push(domains.collect());
        let kind = self.by_signature.len();
        self.by_signature.insert(signature, kind);
        self.kind_of.push(kind);
    }

    /// The kind of the candidate that was added so many-th, from 0.
    pub(crate) fn kind(&self, candidate: usize) -> usize {
        self.kind_of[candidate]
    }

    /// How many kinds there are.
    pub(crate) fn kinds(&self) -> usize {
        self.domains.len()
    }

    /// Counts one of a kind as chosen.
    pub(crate) fn take(&mut self, kind: usize) {
        for (constraint, domain) in self.constraints.iter_mut().zip(&self.domains[kind]) {
            constraint.take(*domain);
        }
    }

    /// Whether taking one of a kind keeps every constraint that must be kept.
    pub(crate) fn allows(&self, kind: usize) -> bool {
        let constraints = self.constraints.iter().zip(&self.domains[kind]);
        constraints.filter(|(one, _)| one.firm).all(|(one, domain)| one.keeps(*domain))
    }

    /// How many of the other constraints taking one of a kind would break.
    pub(crate) fn breaks(&self, kind: usize) -> usize {
        let constraints = self.constraints.iter().zip(&self.domains[kind]);
        constraints.filter(|(one, domain)| !one.firm && !one.keeps(**domain)).count()
    }
}

impl<'m> Constraint<'m> {
    fn new(spec: &SpreadSpec) -> Self {
        Self {
            max_skew: usize::try_from(spec.max_skew).unwrap_or(1),
            firm: spec.when_unsatisfiable == WhenUnsatisfiable::DoNotSelect,
            numbers: BTreeMap::new(),
            counts: Vec::new(),
            domains_with: vec![0],
            least: 0,
        }
    }

    /// The number of a domain; a new one has nobody chosen. Domains come before anybody is.
    fn number(&mut self, label: &'m str) -> usize {
        let next = self.counts.len();
        let number = *self.numbers.entry(label).or_insert(next);
        if number == next {
            self.counts.push(0);
            self.domains_with[0] += 1;
        }
        number
    }

    fn take(&mut self, domain: Option<usize>) {
        let Some(domain) = domain else { return };
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
    fn keeps(&self, domain: Option<usize>) -> bool {
        domain.is_some_and(|domain| self.counts[domain] + 1 - self.least <= self.max_skew)
    }
}
