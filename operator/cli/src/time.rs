//! Times for people: ages as kubectl shows them, and durations as users write them.

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

/// Now in whole seconds, which is what stored times have: a plan at a fraction of one would not be a plan's of what it stored.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// `45s`, `12m`, `5h`, `3d`: the largest unit that is at least two, or one of the smallest.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration from a flag, such as `90s` or `24h`; more than nothing.
pub(crate) fn parse_duration(text: &str) -> anyhow::Result<SignedDuration> {
    let duration: SignedDuration =
        text.parse().with_context(|| format!("{text:?} is not a duration such as 90s, 30m or 24h"))?;
    if duration <= SignedDuration::ZERO {
        anyhow::bail!("{text:?} is not above zero");
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let start = Timestamp::UNIX_EPOCH;
        for (seconds, expected) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")]
        {
            let now = start + SignedDuration::from_secs(seconds);
            assert_eq!(age(start, now), expected);
        }
        assert_eq!(age(start + SignedDuration::from_secs(5), start), "0s");
    }

    #[test]
    fn durations_are_written_as_in_go() {
        assert_eq!(parse_duration("1h30m").unwrap(), SignedDuration::from_mins(90));
        for bad in ["", "soon", "-5m", "0s", "5"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
