//! Domains: one spread constraint's, each with how many candidates and how many selected clusters lie in it, where both
//! come and go.

use std::{collections::BTreeMap, sync::Arc};

use nave_crds::{Spread, WhenUnsatisfiable};

use crate::input::Cluster;

/// The domain of one candidate by each constraint: candidates of one signature are allowed or not together.
pub(crate) type Signature = Arc<[Option<Box<str>>]>;

/// The signature of a cluster.
pub(crate) fn signature(specs: &[Spread], cluster: &Cluster) -> Signature {
    let label = |spec: &Spread| cluster.labels().get(&spec.topology_key).map(|label| label.as_str().into());
    specs.iter().map(label).collect()
}

/// One constraint's domains: those in which there is a candidate.
#[derive(Debug)]
pub(crate) struct Domains {
    /// Whether it must be kept.
    pub(crate) firm: bool,
    max_skew: usize,
    by_label: BTreeMap<Box<str>, Domain>,
    /// How many domains have a number of selected ones; none of these is zero.
    with: BTreeMap<usize, usize>,
}

#[derive(Debug)]
struct Domain {
    candidates: usize,
    selected: usize,
}

impl Domains {
    /// The constraint's, with nobody in any.
    pub(crate) fn new(spec: &Spread) -> Self {
        Self {
            firm: spec.when_unsatisfiable == WhenUnsatisfiable::DoNotSelect,
            max_skew: usize::try_from(spec.max_skew).unwrap_or(1),
            by_label: BTreeMap::new(),
            with: BTreeMap::new(),
        }
    }

    /// One more candidate. Returns whether its domain is new.
    pub(crate) fn join(&mut self, domain: Option<&str>) -> bool {
        let Some(name) = domain else { return false };
        if let Some(domain) = self.by_label.get_mut(name) {
            domain.candidates += 1;
            return false;
        }
        self.by_label.insert(name.into(), Domain { candidates: 1, selected: 0 });
        *self.with.entry(0).or_default() += 1;
        true
    }

    /// One candidate less, that is not selected. Returns whether its domain is gone.
    pub(crate) fn leave(&mut self, domain: Option<&str>) -> bool {
        let Some(name) = domain else { return false };
        let Some(domain) = self.by_label.get_mut(name) else { return false };
        domain.candidates -= 1;
        if domain.candidates > 0 {
            return false;
        }
        let selected = domain.selected;
        self.by_label.remove(name);
        self.one_less_with(selected);
        true
    }

    /// One more is selected.
    pub(crate) fn take(&mut self, domain: Option<&str>) {
        let Some(domain) = domain.and_then(|name| self.by_label.get_mut(name)) else { return };
        domain.selected += 1;
        let now = domain.selected;
        *self.with.entry(now).or_default() += 1;
        self.one_less_with(now - 1);
    }

    /// One less is.
    pub(crate) fn give_back(&mut self, domain: Option<&str>) {
        let Some(domain) = domain.and_then(|name| self.by_label.get_mut(name)) else { return };
        domain.selected -= 1;
        let now = domain.selected;
        *self.with.entry(now).or_default() += 1;
        self.one_less_with(now + 1);
    }

    fn one_less_with(&mut self, selected: usize) {
        if let Some(count) = self.with.get_mut(&selected) {
            *count -= 1;
            if *count == 0 {
                self.with.remove(&selected);
            }
        }
    }

    /// Whether one more of this domain keeps the constraint. One without the key keeps nothing.
    pub(crate) fn keeps(&self, domain: Option<&str>) -> bool {
        let least = self.with.keys().next().copied().unwrap_or_default();
        let domain = domain.and_then(|name| self.by_label.get(name));
        domain.is_some_and(|domain| domain.selected + 1 - least <= self.max_skew)
    }
}
