//! Durations as Go writes them: `90s`, `1h30m`, `1.5h`, `0`. Never negative.

use jiff::SignedDuration;

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {0:?}: expected a number with a unit, such as 90s, 10m or 1h30m")]
pub(crate) struct DurationError(String);

/// Reads a duration.
pub(crate) fn parse_duration(text: &str) -> Result<SignedDuration, DurationError> {
    let fail = || DurationError(text.to_owned());
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let mut rest = text;
    let mut nanos: i128 = 0;
    if rest.is_empty() {
        return Err(fail());
    }
    while !rest.is_empty() {
        let (amount, after) = read_part(rest).ok_or_else(fail)?;
        nanos = nanos.checked_add(amount).ok_or_else(fail)?;
        rest = after;
    }
    let seconds = i64::try_from(nanos / NANOS_PER_SECOND).map_err(|_| fail())?;
    if seconds > LONGEST_SECONDS {
        return Err(fail());
    }
    let fraction = i32::try_from(nanos % NANOS_PER_SECOND).map_err(|_| fail())?;
    Ok(SignedDuration::new(seconds, fraction))
}

const NANOS_PER_SECOND: i128 = 1_000_000_000;
/// A hundred years: any longer one is a mistake, and this much can be added to a time without leaving its range.
const LONGEST_SECONDS: i64 = 100 * 366 * 24 * 3600;

/// One number with its unit, in nanoseconds, and what follows it.
fn read_part(text: &str) -> Option<(i128, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return None,
    };
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        nanos = nanos.checked_add(place * i128::from(digit.to_digit(10)?))?;
    }
    Some((nanos, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("90s", 90, 0),
            ("1h30m", 5400, 0),
            ("1.5h", 5400, 0),
            ("10m", 600, 0),
            ("1h0m1.25s", 3601, 250_000_000),
            ("250ms", 0, 250_000_000),
            ("3us", 0, 3_000),
            (".5s", 0, 500_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(SignedDuration::new(seconds, nanos)), "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in ["", "5", "-5m", "5 m", "m", "1d", "1.s.", "5m3", ".m", "999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
