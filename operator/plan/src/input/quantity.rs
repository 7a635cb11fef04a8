//! Kubernetes quantities (`8Gi`, `500m`, `1e3`) as exact numbers of billionths.

/// How many billionths there are in one.
pub(crate) const BILLION: i128 = 1_000_000_000;

/// A text that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid quantity {0:?}: expected a number such as 8Gi, 500M or 1e3")]
pub(crate) struct QuantityError(String);

/// Reads a quantity, in billionths, rounded up as Kubernetes does.
pub(crate) fn parse_quantity(text: &str) -> Result<i128, QuantityError> {
    let fail = || QuantityError(text.to_owned());
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return Err(fail());
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().map_err(|_| fail())?;
    let (multiplier, power) = factor(suffix).ok_or_else(fail)?;
    let fraction_digits = i32::try_from(fraction.len()).map_err(|_| fail())?;
    let exponent = power + 9 - fraction_digits;
    let scaled = digits.checked_mul(multiplier).ok_or_else(fail)?;
    let value = shift(scaled, exponent).ok_or_else(fail)?;
    Ok(if negative { -value } else { value })
}

/// Reads a quantity as a whole number, rounded up; None where it is malformed or negative. For amounts that the gateway
/// hands on to a spoke, such as bytes per second.
pub fn whole_amount(text: &str) -> Option<u64> {
    let billionths = parse_quantity(text).ok()?;
    u64::try_from(shift(billionths, -9)?).ok()
}

/// A suffix as (factor, power of ten).
fn factor(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            ((-18..=18).contains(&exponent)).then_some((1, exponent))?
        }
    })
}

/// `value` times ten to the power of `exponent`, rounded up.
fn shift(value: i128, exponent: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 {
        return value.checked_mul(power);
    }
    Some(value / power + i128::from(value % power != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        for (text, value) in [
            ("0", 0),
            ("8Gi", 8 * (1 << 30) * BILLION),
            ("1.5Ki", 1536 * BILLION),
            ("500m", BILLION / 2),
            ("20M", 20_000_000 * BILLION),
            ("1e3", 1000 * BILLION),
            ("1E-3", BILLION / 1000),
            ("2E", 2 * 10_i128.pow(18) * BILLION),
            ("+3", 3 * BILLION),
            ("-1k", -1000 * BILLION),
            ("1n", 1),
        ] {
            assert_eq!(parse_quantity(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn whole_amounts_are_rounded_up_and_never_negative() {
        for (text, amount) in [("20Mi", Some(20 << 20)), ("1500m", Some(2)), ("-1", None), ("fast", None)] {
            assert_eq!(whole_amount(text), amount, "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in
            ["", "Gi", "8gi", "1.2.3", "eight", "1e99", "--1", "8 Gi", "99999999999999999999999999999999"]
        {
            assert!(parse_quantity(text).is_err(), "{text}");
        }
    }
}
