//! Int-or-percent: a number, or a part of a total that is known only while planning.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A number or a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// So many.
    Count(usize),
    /// So many of a hundred; rounds up.
    Percent(u32),
}

/// A value that is neither a count nor a percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid amount {0:?}: expected a number that is not negative, or 0% to 100%")]
pub(crate) struct ShareError(String);

impl Share {
    /// All of it.
    pub(crate) const ALL: Self = Self::Percent(100);

    /// Reads an int-or-percent.
    pub(crate) fn parse(value: &IntOrString) -> Result<Self, ShareError> {
        match value {
            IntOrString::Int(count) => {
                usize::try_from(*count).map(Self::Count).map_err(|_| ShareError(count.to_string()))
            }
            IntOrString::String(text) => text
                .strip_suffix('%')
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|percent| *percent <= 100)
                .map(Self::Percent)
                .ok_or_else(|| ShareError(text.clone())),
        }
    }

    /// Of a total, at most the total.
    pub(crate) fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count.min(total),
            Self::Percent(percent) => (total * percent as usize).div_ceil(100),
        }
    }

    /// Of a total, at least one and at most the total; none of nothing.
    pub(crate) fn at_least_one_of(self, total: usize) -> usize {
        self.of(total).max(1).min(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_up_and_counts_stop_at_the_total() {
        for (share, total, of, at_least_one) in [
            (Share::Percent(25), 3, 1, 1),
            (Share::Percent(10), 40, 4, 4),
            (Share::Percent(34), 3, 2, 2),
            (Share::Percent(0), 7, 0, 1),
            (Share::Percent(100), 7, 7, 7),
            (Share::Count(9), 7, 7, 7),
            (Share::Count(0), 7, 0, 1),
            (Share::ALL, 0, 0, 0),
        ] {
            assert_eq!(
                (share.of(total), share.at_least_one_of(total)),
                (of, at_least_one),
                "{share:?} of {total}"
            );
        }
    }

    #[test]
    fn texts_are_percentages() {
        assert_eq!(Share::parse(&IntOrString::String("25%".into())), Ok(Share::Percent(25)));
        assert_eq!(Share::parse(&IntOrString::Int(3)), Ok(Share::Count(3)));
        for bad in ["25", "101%", "-1%", "%", "x%", "+1%", ""] {
            assert!(Share::parse(&IntOrString::String(bad.into())).is_err(), "{bad}");
        }
        assert!(Share::parse(&IntOrString::Int(-1)).is_err());
    }
}
