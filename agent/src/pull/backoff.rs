//! How long to wait before the next attempt: twice as long each time, with jitter, so that a fleet that lost its
//! server at one moment does not come back at one moment.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
/// The longest wait: a link that came back is noticed within half a minute.
const LONGEST: Duration = Duration::from_secs(30);

/// The wait before attempt `attempt` (from 0); `random` is uniform in 0..1 and takes away up to half.
pub(super) fn delay(attempt: u32, random: f64) -> Duration {
    let whole = FIRST.saturating_mul(2u32.saturating_pow(attempt.min(16))).min(LONGEST);
    whole.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_limit() {
        assert_eq!(delay(0, 0.0), FIRST);
        assert_eq!(delay(3, 0.0), FIRST * 8);
        assert_eq!(delay(3, 1.0), FIRST * 4);
        assert_eq!(delay(u32::MAX, 0.0), LONGEST);
    }
}
