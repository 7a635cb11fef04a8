//! Whether the process can do its work: ready when every named guard was released. `/readyz` lists those that hold.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The set of things that are waited for. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    // Counted, so that two guards of one name are two guards.
    pending: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// Holds readiness back until it is dropped or [released](Guard::release).
#[derive(Debug)]
#[must_use = "dropping a guard releases it"]
pub struct Guard {
    readiness: Readiness,
    name: String,
}

impl Readiness {
    /// One that waits for nothing yet: take the guards before serving `/readyz`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready, because of `name`, until the guard goes. May be taken at any time: a process can become unready.
    pub fn guard(&self, name: impl Into<String>) -> Guard {
        let name = name.into();
        *self.lock().entry(name.clone()).or_default() += 1;
        Guard { readiness: self.clone(), name }
    }

    /// What is waited for, sorted; empty = ready.
    pub fn pending(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Whether nothing is waited for.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // A panic elsewhere cannot leave the map half changed.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// The thing is there.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut pending = self.readiness.lock();
        if let Some(count) = pending.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_guard_goes() {
        let readiness = Readiness::new();
        let watch = readiness.guard("watch");
        let lease = readiness.guard("lease");
        let second = readiness.guard("lease");
        assert_eq!(readiness.pending(), ["lease", "watch"]);
        lease.release();
        drop(watch);
        assert_eq!(readiness.pending(), ["lease"]);
        second.release();
        assert!(readiness.is_ready());
    }
}
