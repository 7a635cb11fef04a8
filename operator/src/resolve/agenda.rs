//! Agenda: which version is looked at when. What it costs to note one, or to find the next, does not grow with how many there
//! are. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nave_crds::ModelVersionStatus;
use tokio::time::Instant;

use super::manifest::Memory;

/// Namespace and name of an object.
pub(super) type ObjectName = (String, String);

/// First and longest wait after an attempt that failed. The longest is what a user waits after mending a bucket.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What makes a version worth another look before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) uid: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) annotations: BTreeMap<String, String>,
    /// The object that stands for the same version with more right.
    pub(super) refused_for: Option<String>,
    /// Model and version that it claims to be.
    pub(super) claim: (String, String),
}

#[derive(Debug)]
struct Tracked {
    trigger: Trigger,
    /// Nothing while an attempt runs.
    due: Option<Instant>,
    failures: u32,
    memory: Memory,
    written: Option<ModelVersionStatus>,
}

/// The versions that there are.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    versions: BTreeMap<ObjectName, Tracked>,
    /// Those of which no attempt runs, the next one first.
    due: BTreeSet<(Instant, ObjectName)>,
}

impl Agenda {
    /// All that are tracked.
    pub(super) fn names(&self) -> impl Iterator<Item = ObjectName> {
        self.versions.keys().cloned()
    }

    /// What is known of one.
    pub(super) fn trigger(&self, name: &ObjectName) -> Option<&Trigger> {
        self.versions.get(name).map(|tracked| &tracked.trigger)
    }

    /// Takes in what one says: a new object is looked at first then, one that says something else than before at once.
    pub(super) fn note(&mut self, name: &ObjectName, trigger: Trigger, first_look: Instant, now: Instant) {
        match self.versions.get_mut(name) {
            Some(tracked) if tracked.trigger == trigger => {}
            Some(tracked) if tracked.trigger.uid == trigger.uid => {
                tracked.trigger = trigger;
                tracked.failures = 0;
                let idle = tracked.due.is_some();
                // Of one that is being looked at, the end of that shows that it is out of date.
                if idle {
                    self.set_due(name, now);
                }
            }
            Some(_) | None => {
                self.forget(name);
                let tracked =
                    Tracked { trigger, due: None, failures: 0, memory: Memory::default(), written: None };
                self.versions.insert(name.clone(), tracked);
                self.set_due(name, first_look);
            }
        }
    }

    /// It is gone.
    pub(super) fn forget(&mut self, name: &ObjectName) {
        if let Some(due) = self.versions.remove(name).and_then(|tracked| tracked.due) {
            self.due.remove(&(due, name.clone()));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Those whose time has come. Each is out of the agenda until its attempt has ended.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<(ObjectName, Trigger, Memory)> {
        let mut begun = Vec::new();
        while self.next().is_some_and(|due| due <= now) {
            let Some((_, name)) = self.due.pop_first() else { break };
            let Some(tracked) = self.versions.get_mut(&name) else { continue };
            tracked.due = None;
            begun.push((name, tracked.trigger.clone(), std::mem::take(&mut tracked.memory)));
        }
        begun
    }

    /// An attempt has ended. Says whether it was one of what the version says now; if not, the next one is due at once.
    pub(super) fn ended(
        &mut self,
        name: &ObjectName,
        trigger: &Trigger,
        memory: Memory,
        now: Instant,
    ) -> bool {
        let Some(tracked) = self.versions.get_mut(name) else { return false };
        if tracked.trigger.uid != trigger.uid {
            // Another object of that name, with an attempt of its own.
            return false;
        }
        tracked.memory = memory;
        let current = tracked.trigger == *trigger;
        if !current {
            self.set_due(name, now);
        }
        current
    }

    /// It failed: the next one is due after a while.
    pub(super) fn again(&mut self, name: &ObjectName, now: Instant) {
        let Some(tracked) = self.versions.get_mut(name) else { return };
        tracked.failures = tracked.failures.saturating_add(1);
        let wait = backoff(tracked.failures);
        self.set_due(name, now + wait);
    }

    /// All is well with it until then.
    pub(super) fn settled(&mut self, name: &ObjectName, due: Instant) {
        if let Some(tracked) = self.versions.get_mut(name) {
            tracked.failures = 0;
        }
        self.set_due(name, due);
    }

    /// What was written of it last, which the store may not show yet.
    pub(super) fn written(&self, name: &ObjectName) -> Option<&ModelVersionStatus> {
        self.versions.get(name)?.written.as_ref()
    }

    /// That was written of it.
    pub(super) fn wrote(&mut self, name: &ObjectName, status: ModelVersionStatus) {
        if let Some(tracked) = self.versions.get_mut(name) {
            tracked.written = Some(status);
        }
    }

    fn set_due(&mut self, name: &ObjectName, due: Instant) {
        let Some(tracked) = self.versions.get_mut(name) else { return };
        if let Some(before) = tracked.due.replace(due) {
            self.due.remove(&(before, name.clone()));
        }
        self.due.insert((due, name.clone()));
    }
}

fn backoff(failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    let doubled = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    // A tenth of jitter, so that versions that failed together do not come back together for ever.
    doubled.min(longest).mul_f64(0.9 + 0.2 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    fn name(name: &str) -> ObjectName {
        ("n".into(), name.into())
    }

    fn trigger(uid: &str, generation: i64) -> Trigger {
        Trigger {
            uid: Some(uid.into()),
            generation: Some(generation),
            annotations: BTreeMap::new(),
            refused_for: None,
            claim: ("m".into(), "1".into()),
        }
    }

    fn begun(agenda: &mut Agenda, now: Instant) -> Vec<String> {
        agenda.begin(now).into_iter().map(|((_, name), ..)| name).collect()
    }

    #[test]
    fn each_is_looked_at_when_its_time_has_come_and_not_twice_at_once() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.note(&name("later"), trigger("1", 1), now + SOON, now);
        agenda.note(&name("now"), trigger("2", 1), now, now);
        assert_eq!(begun(&mut agenda, now), ["now"]);
        assert_eq!((begun(&mut agenda, now).len(), agenda.next()), (0, Some(now + SOON)));
        assert!(agenda.ended(&name("now"), &trigger("2", 1), Memory::default(), now));
        agenda.settled(&name("now"), now + 2 * SOON);
        assert_eq!(begun(&mut agenda, now + 2 * SOON), ["later", "now"]);
    }

    #[test]
    fn one_that_says_something_else_is_looked_at_at_once() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.note(&name("a"), trigger("1", 1), now, now);
        begun(&mut agenda, now);
        agenda.ended(&name("a"), &trigger("1", 1), Memory::default(), now);
        agenda.settled(&name("a"), now + SOON);
        agenda.note(&name("a"), trigger("1", 1), now, now);
        assert_eq!(agenda.next(), Some(now + SOON), "it says what it said");
        agenda.note(&name("a"), trigger("1", 2), now + SOON, now);
        assert_eq!(begun(&mut agenda, now), ["a"]);
        // And where it does so during an attempt, once that has ended.
        agenda.note(&name("a"), trigger("1", 3), now, now);
        assert_eq!(agenda.next(), None);
        assert!(
            !agenda.ended(&name("a"), &trigger("1", 2), Memory::default(), now),
            "of what it said before"
        );
        assert_eq!(begun(&mut agenda, now), ["a"]);
    }

    #[test]
    fn one_that_fails_waits_longer_each_time_until_it_changes_or_is_well() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.note(&name("a"), trigger("1", 1), now, now);
        let fail = |agenda: &mut Agenda, generation| {
            agenda.begin(now + 100 * SOON);
            agenda.ended(&name("a"), &trigger("1", generation), Memory::default(), now);
            agenda.again(&name("a"), now);
            agenda.next().unwrap() - now
        };
        let waits: Vec<Duration> = (0..9).map(|_| fail(&mut agenda, 1)).collect();
        for (wait, expected) in waits.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
            let expected = Duration::from_secs(expected);
            assert!(expected.mul_f64(0.89) < *wait && *wait < expected.mul_f64(1.11), "{wait:?}");
        }
        agenda.note(&name("a"), trigger("1", 2), now, now);
        assert!(fail(&mut agenda, 2) < 2 * SOON, "counted from one again");
        fail(&mut agenda, 2);
        agenda.settled(&name("a"), now);
        assert!(fail(&mut agenda, 2) < 2 * SOON, "counted from one again");
    }

    #[test]
    fn an_object_that_was_made_anew_knows_nothing_of_the_old_one() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.note(&name("a"), trigger("1", 1), now, now);
        begun(&mut agenda, now);
        agenda.wrote(&name("a"), ModelVersionStatus::default());
        agenda.note(&name("a"), trigger("2", 1), now + SOON, now);
        assert_eq!((agenda.written(&name("a")), agenda.next()), (None, Some(now + SOON)));
        assert!(!agenda.ended(&name("a"), &trigger("1", 1), Memory::default(), now), "the old one's attempt");
        assert_eq!(agenda.next(), Some(now + SOON));
        agenda.forget(&name("a"));
        assert_eq!((agenda.next(), agenda.names().count(), agenda.due.len()), (None, 0, 0));
    }
}
