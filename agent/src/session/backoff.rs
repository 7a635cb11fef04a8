//! How long to wait before the next try. Pure: the random number is an argument.

use std::time::Duration;

use super::error::Class;

/// First and longest wait. A lost session is tried soon, since another gateway may answer; a hub that is away is not
/// hammered by a whole fleet; what a person has to mend is looked at often enough that nobody waits for long after it.
const fn bounds(class: Class) -> (Duration, Duration) {
    match class {
        Class::Lost => (Duration::from_millis(400), Duration::from_secs(20)),
        Class::Away => (Duration::from_secs(1), Duration::from_secs(30)),
        Class::Denied => (Duration::from_secs(8), Duration::from_secs(120)),
    }
}

/// Counts tries that failed in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The wait after one more failure: doubles from the class's first to its longest, and is cut by up to half by
    /// `jitter` (0 to 1), so that a fleet that lost its hub together does not come back together.
    pub(super) fn next(&mut self, class: Class, jitter: f64) -> Duration {
        let (first, longest) = bounds(class);
        let wait = first.saturating_mul(1 << self.tries.min(16)).min(longest);
        self.tries = self.tries.saturating_add(1);
        wait.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_its_class_and_starts_anew_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.next(Class::Away, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.next(Class::Denied, 1.0).as_secs(), 60);
        backoff.reset();
        assert_eq!(backoff.next(Class::Lost, 1.0).as_millis(), 200);
    }
}
