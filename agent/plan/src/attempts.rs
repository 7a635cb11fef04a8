//! What failed and when it is tried again. In memory only: a restart tries everything anew, once.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use nave_names::{Digest, ModelName};

use crate::entry::Vouch;

/// First wait after a failed pull. The puller itself retries single requests; this is a whole pull that gave up.
const PULL_FIRST: SignedDuration = SignedDuration::from_secs(2);
/// Longest wait between pulls: a bucket that comes back is noticed within this time.
const PULL_LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// First wait after a failed switch. Every try disturbs what is served, so it is longer than a pull's.
const SWITCH_FIRST: SignedDuration = SignedDuration::from_secs(15);
/// Longest wait between switches.
const SWITCH_LONGEST: SignedDuration = SignedDuration::from_mins(10);
/// Longest wait for room on the disk. Looking whether there is some costs next to nothing, and nobody tells when there is.
const ROOM_LONGEST: SignedDuration = SignedDuration::from_secs(30);
/// A version that did not come up this many times is tried again only when the hub tells something new: by then
/// a runtime has been disturbed for nothing often enough.
pub const SWITCH_TRIES: u32 = 6;

/// What was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Getting a version's weights.
    Pull(Digest),
    /// Getting a version's signature and checking it.
    Verify(Vouch),
    /// Staging or switching to a version of a model.
    Switch(ModelName, Digest),
    /// Going back to what was served before.
    Revert(ModelName),
    /// Tidying up after a switch, or writing down whose the model is.
    Tidy(ModelName),
    /// Taking a model away.
    Remove(ModelName),
    /// Dropping from the store what nothing needs.
    Collect,
    /// Bringing a version to the hot tier.
    Promote(Digest),
    /// Taking a version to the cold tier.
    Demote(Digest),
}

/// Whom a failure tells about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The way to the weights: it says nothing about the version. Not reported as Failed.
    Transient,
    /// The version, or this spoke.
    Failed,
    /// The disk of this spoke, which is full. Reported as Failed, and tried again for as long as it lasts.
    Room,
}

/// The last of some failures in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Whom it tells about.
    pub class: Class,
    /// How many in a row.
    pub count: u32,
    /// When to try again; `None` = when something new is told.
    pub retry_at: Option<Timestamp>,
}

/// All failures since the last success or change, by what was tried.
#[derive(Clone, Debug, Default)]
pub struct Attempts(BTreeMap<Subject, Failure>);

impl Attempts {
    /// The failure that stands, if any.
    pub fn get(&self, subject: &Subject) -> Option<&Failure> {
        self.0.get(subject)
    }

    /// Something that waits for room where what is asked for has to be.
    pub fn for_room(&self) -> Option<&Failure> {
        self.waiting_for_room(false)
    }

    /// Something that waits for room on the cold tier: nothing that is asked for goes there.
    pub fn for_cold_room(&self) -> Option<&Failure> {
        self.waiting_for_room(true)
    }

    fn waiting_for_room(&self, cold: bool) -> Option<&Failure> {
        let is_so = |subject: &Subject| matches!(subject, Subject::Demote(_)) == cold;
        let mut failures = self.0.iter().filter(|(_, failure)| failure.class == Class::Room);
        failures.find(|(subject, _)| is_so(subject)).map(|(_, failure)| failure)
    }

    /// Whether `subject` may be tried now.
    pub fn is_due(&self, subject: &Subject, now: Timestamp) -> bool {
        self.0.get(subject).is_none_or(|failure| failure.retry_at.is_some_and(|at| at <= now))
    }

    /// The earliest retry after `now`.
    pub fn next_retry(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.values().filter_map(|failure| failure.retry_at).filter(|at| *at > now).min()
    }

    /// Writes a failure down. `jitter` between 0 and 1 spreads spokes that failed together: it is a random number of
    /// the shell's, and makes the wait at most a quarter longer.
    pub fn failed(&mut self, subject: Subject, what: Failed<'_>, now: Timestamp, jitter: f64) {
        let count = self.0.get(&subject).map_or(0, |failure| failure.count).saturating_add(1);
        let (first, longest) = match &subject {
            Subject::Pull(_) | Subject::Verify(_) | Subject::Promote(_) => (PULL_FIRST, PULL_LONGEST),
            Subject::Switch(..)
            | Subject::Tidy(_)
            | Subject::Remove(_)
            | Subject::Collect
            | Subject::Demote(_) => (SWITCH_FIRST, SWITCH_LONGEST),
            // What was served is not served until this works.
            Subject::Revert(_) => (PULL_FIRST, SWITCH_FIRST),
        };
        let for_room = what.class == Class::Room;
        let longest = if for_room { longest.min(ROOM_LONGEST) } else { longest };
        let given_up = matches!(subject, Subject::Switch(..)) && count >= SWITCH_TRIES && !for_room;
        let wait = first.saturating_mul(1 << (count - 1).min(16)).min(longest);
        let wait = wait.mul_f64(1.0 + 0.25 * jitter.clamp(0.0, 1.0));
        let retry_at = (!given_up).then(|| now.checked_add(wait).unwrap_or(Timestamp::MAX));
        let failure = Failure {
            reason: what.reason.to_owned(),
            message: what.message.to_owned(),
            class: what.class,
            count,
            retry_at,
        };
        self.0.insert(subject, failure);
    }

    /// It worked, or something new was told about it.
    pub fn forget(&mut self, subject: &Subject) {
        self.0.remove(subject);
    }

    /// Forgets everything that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&Subject) -> bool) {
        self.0.retain(|subject, _| keep(subject));
    }

    /// Transient failures are tried again at once: the hub is back.
    pub fn retry_transient(&mut self, now: Timestamp) {
        for failure in self.0.values_mut().filter(|failure| failure.class == Class::Transient) {
            failure.retry_at = failure.retry_at.map(|at| at.min(now));
        }
    }
}

/// What [`Attempts::failed`] is told.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// A CamelCase word.
    pub reason: &'a str,
    /// A sentence.
    pub message: &'a str,
    /// Whom it tells about.
    pub class: Class,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: Failed<'_> = Failed { reason: "ProbeFailed", message: "no answer", class: Class::Failed };

    #[test]
    fn waits_double_and_end() {
        let subject = Subject::Switch(ModelName::new("m").unwrap(), Digest::of(b"x"));
        let mut attempts = Attempts::default();
        let now = Timestamp::UNIX_EPOCH;
        let mut waits = Vec::new();
        for _ in 0..SWITCH_TRIES {
            attempts.failed(subject.clone(), WHAT, now, 0.0);
            waits.push(attempts.get(&subject).unwrap().retry_at.map(|at| at.as_second()));
        }
        assert_eq!(waits, [Some(15), Some(30), Some(60), Some(120), Some(240), None]);
    }

    #[test]
    fn pulls_go_on_for_ever_but_not_often() {
        let subject = Subject::Pull(Digest::of(b"x"));
        let mut attempts = Attempts::default();
        for _ in 0..100 {
            attempts.failed(subject.clone(), WHAT, Timestamp::UNIX_EPOCH, 1.0);
        }
        let at = attempts.get(&subject).unwrap().retry_at.unwrap();
        assert_eq!(at.as_second(), 375);
    }

    #[test]
    fn room_is_looked_for_soon_and_for_ever() {
        let subject = Subject::Switch(ModelName::new("m").unwrap(), Digest::of(b"x"));
        let mut attempts = Attempts::default();
        for _ in 0..100 {
            let what = Failed { class: Class::Room, ..WHAT };
            attempts.failed(subject.clone(), what, Timestamp::UNIX_EPOCH, 0.0);
        }
        assert_eq!(attempts.get(&subject).unwrap().retry_at.unwrap().as_second(), 30);
    }
}
