//! A bound on guessing: failed attempts to join, for each address. Joins that succeed cost nothing, so a thousand spokes
//! behind one NAT get in.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

/// Failures that an address may make at once.
const BURST: f64 = 20.0;
/// One more is forgiven each second.
const FORGIVEN_PER_SECOND: f64 = 1.0;
/// Addresses that are remembered; past it, the quiet ones are forgotten first.
const REMEMBERED: usize = 10_000;

/// Failures by address.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: BTreeMap<IpAddr, (f64, Instant)>,
}

impl Attempts {
    /// How long the address has to wait before it is listened to; None = not at all.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let excess = self.level(address, now) - BURST;
        (excess >= 0.0).then(|| Duration::from_secs_f64((excess + 1.0) / FORGIVEN_PER_SECOND))
    }

    /// The address failed.
    pub(super) fn failed(&mut self, address: IpAddr, now: Instant) {
        let level = self.level(address, now) + 1.0;
        if self.failures.len() >= REMEMBERED {
            self.failures.retain(|_, (level, at)| remaining(*level, *at, now) > 0.0);
        }
        if self.failures.len() < REMEMBERED || self.failures.contains_key(&address) {
            self.failures.insert(address, (level, now));
        }
    }

    fn level(&self, address: IpAddr, now: Instant) -> f64 {
        self.failures.get(&address).map_or(0.0, |(level, at)| remaining(*level, *at, now))
    }
}

fn remaining(level: f64, at: Instant, now: Instant) -> f64 {
    (level - now.duration_since(at).as_secs_f64() * FORGIVEN_PER_SECOND).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_is_slowed_down_by_address_and_forgiven_with_time() {
        let mut attempts = Attempts::default();
        let start = Instant::now();
        let (guesser, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for _ in 0..20 {
            assert_eq!(attempts.wait(guesser, start), None);
            attempts.failed(guesser, start);
        }
        assert_eq!(attempts.wait(guesser, start), Some(Duration::from_secs(1)));
        assert_eq!(attempts.wait(other, start), None);
        assert_eq!(attempts.wait(guesser, start + Duration::from_secs(2)), None);
    }
}
