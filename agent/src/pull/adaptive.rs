//! How many ranges at once: more while more helps, fewer when the server asks for mercy. Pure: bytes and time come in.

use std::time::Duration;

/// How long one rate is measured before the number may change. Long enough to see several ranges on a fast link,
/// short enough that a pull of some seconds finds its number.
const PERIOD: Duration = Duration::from_millis(500);
/// What one more step has to bring to be kept.
const GAIN: f64 = 1.05;
/// Periods to stay where it is after a step that brought nothing, or after the server was overloaded.
const HOLD: u32 = 20;
/// Where a pull begins: what the best of the measured peers use throughout.
const START: u32 = 8;

/// The number of ranges that may be in flight, by what it has brought so far.
#[derive(Debug)]
pub(super) struct Adaptive {
    allowed: u32,
    max: u32,
    bytes: u64,
    elapsed: Duration,
    /// The rate before the last step up, and that step's size.
    step: Option<(f64, u32)>,
    hold: u32,
}

impl Adaptive {
    pub(super) fn new(max: u32) -> Self {
        let max = max.max(1);
        Self { allowed: START.min(max), max, bytes: 0, elapsed: Duration::ZERO, step: None, hold: 2 }
    }

    pub(super) const fn allowed(&self) -> u32 {
        self.allowed
    }

    /// Bytes that came in `elapsed` since the last call; `busy` = every allowed range was in flight.
    pub(super) fn observe(&mut self, bytes: u64, elapsed: Duration, busy: bool) {
        self.bytes += bytes;
        self.elapsed += elapsed;
        if self.elapsed < PERIOD {
            return;
        }
        let rate = self.bytes as f64 / self.elapsed.as_secs_f64();
        self.bytes = 0;
        self.elapsed = Duration::ZERO;
        if let Some((before, added)) = self.step.take()
            && rate < before * GAIN
        {
            self.allowed = self.allowed.saturating_sub(added).max(1);
            self.hold = HOLD;
            return;
        }
        if self.hold > 0 {
            self.hold -= 1;
        } else if busy && self.allowed < self.max {
            let added = (self.allowed / 2).clamp(1, self.max - self.allowed);
            self.allowed += added;
            self.step = Some((rate, added));
        }
    }

    /// The server said that it is overloaded.
    pub(super) fn throttled(&mut self) {
        if self.hold < HOLD {
            self.allowed = (self.allowed / 2).max(1);
        }
        self.hold = HOLD;
        self.step = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays periods against a link that carries `per_range` bytes a second for each range, up to `link`.
    fn play(adaptive: &mut Adaptive, periods: u32, per_range: u64, link: u64) {
        for _ in 0..periods {
            let rate = (per_range * u64::from(adaptive.allowed())).min(link);
            adaptive.observe(rate / 2, PERIOD, true);
        }
    }

    #[test]
    fn grows_while_it_helps_and_steps_back_when_it_does_not() {
        let mut long_fat = Adaptive::new(64);
        play(&mut long_fat, 40, 1_000_000, u64::MAX);
        assert_eq!(long_fat.allowed(), 64);
        let mut thin = Adaptive::new(64);
        play(&mut thin, 10, 1_000_000, 8_000_000);
        assert_eq!(thin.allowed(), 8);
    }

    #[test]
    fn an_overloaded_server_is_spared_once_a_while_not_down_to_nothing_at_once() {
        let mut adaptive = Adaptive::new(16);
        adaptive.throttled();
        adaptive.throttled();
        assert_eq!(adaptive.allowed(), 4);
        play(&mut adaptive, 30, 1_000_000, u64::MAX);
        assert!(adaptive.allowed() > 4);
    }

    #[test]
    fn idle_ranges_are_no_reason_to_allow_more() {
        let mut adaptive = Adaptive::new(16);
        for _ in 0..50 {
            adaptive.observe(1_000, PERIOD, false);
        }
        assert_eq!(adaptive.allowed(), 8);
    }
}
