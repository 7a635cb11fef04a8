//! Scores: what each prioritizer says of each candidate, -100 to 100, in exact fixed-point numbers, so that the same
//! candidates rank alike on every machine.

use std::sync::Arc;

use nave_crds::{Prioritizer, PrioritizerKind};

use super::Member;

/// One point, in units of a score: 18 decimal places, enough to tell two exabytes apart that differ by a byte.
pub(crate) const POINT: i128 = 1_000_000_000_000_000_000;
const BEST: i128 = 100 * POINT;
const WORST: i128 = -BEST;

/// One prioritizer's scores, in the candidates' order.
#[derive(Debug)]
pub(crate) struct Scores {
    pub(crate) name: Arc<str>,
    pub(crate) weight: i128,
    pub(crate) of: Vec<i128>,
}

/// What every prioritizer says of every candidate.
pub(crate) fn score(prioritizers: &[Prioritizer], candidates: &[&Member]) -> Vec<Scores> {
    prioritizers
        .iter()
        .map(|prioritizer| Scores {
            name: name(prioritizer),
            weight: i128::from(prioritizer.weight),
            of: score_by(prioritizer, candidates),
        })
        .collect()
}

/// What Steady adds to the total of a cluster once it is chosen.
pub(crate) fn steady_gain(prioritizers: &[Prioritizer]) -> i128 {
    let steady = prioritizers.iter().filter(|prioritizer| prioritizer.by == PrioritizerKind::Steady);
    steady.map(|prioritizer| i128::from(prioritizer.weight) * BEST).sum()
}

fn name(prioritizer: &Prioritizer) -> Arc<str> {
    match prioritizer.by {
        PrioritizerKind::Steady => "Steady".into(),
        PrioritizerKind::Balance => "Balance".into(),
        PrioritizerKind::AcceleratorMemory => "AcceleratorMemory".into(),
        PrioritizerKind::StorageAvailable => "StorageAvailable".into(),
        PrioritizerKind::Label => format!("Label/{}", prioritizer.key.as_deref().unwrap_or_default()).into(),
    }
}

fn score_by(prioritizer: &Prioritizer, candidates: &[&Member]) -> Vec<i128> {
    let values = candidates.iter().map(|member| value(prioritizer, member)).collect::<Vec<_>>();
    let scale = Scale::of(prioritizer, values.iter().copied());
    values.into_iter().map(|value| scale.score(value)).collect()
}

/// How one prioritizer's values count, given those of all candidates.
#[derive(Debug)]
pub(crate) struct Scoring {
    pub(crate) weight: i128,
    pub(crate) scale: Scale,
}

/// What is scaled: more is better. Nothing where it is unknown.
pub(crate) fn value(prioritizer: &Prioritizer, member: &Member) -> Option<i128> {
    let cluster = &member.spoke.cluster;
    match prioritizer.by {
        PrioritizerKind::Steady => Some(i128::from(member.chosen)),
        PrioritizerKind::Balance => {
            let others = member.spoke.assignment.serve_entries().saturating_sub(member.serve_entries);
            Some(-i128::from(others))
        }
        PrioritizerKind::AcceleratorMemory => Some(cluster.accelerator_memory),
        PrioritizerKind::StorageAvailable => cluster.available_bytes().map(i128::from),
        PrioritizerKind::Label => {
            let key = prioritizer.key.as_deref().unwrap_or_default();
            cluster.labels().get(key).and_then(|text| number(text))
        }
    }
}

/// What one prioritizer's scores are measured by: everything about the candidates that the score of one depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// The least and the most of the known values.
    ends: Option<(i128, i128)>,
    all_known: bool,
    negative: bool,
    /// The most counts, and the least says nothing.
    steady: bool,
}

impl Scale {
    /// The scale of these values; they may come in any order, and repeated ones once.
    pub(crate) fn of(prioritizer: &Prioritizer, values: impl Iterator<Item = Option<i128>>) -> Self {
        let steady = prioritizer.by == PrioritizerKind::Steady;
        let mut scale = Self { ends: None, all_known: true, negative: prioritizer.weight < 0, steady };
        for value in values {
            match (value, scale.ends) {
                (None, _) => scale.all_known = false,
                (Some(value), None) => scale.ends = Some((value, value)),
                (Some(value), Some((least, most))) => scale.ends = Some((least.min(value), most.max(value))),
            }
        }
        scale
    }

    /// Whether different values are sure to have different scores.
    pub(crate) fn tells_all_apart(&self) -> bool {
        self.ends.is_none_or(|(least, most)| most - least <= 200 * POINT)
    }

    /// The smallest -100, the largest 100. An unknown value gets the worse end for the weight's sign; where all known ones
    /// are equal, those get the better end then. All alike: 0.
    pub(crate) fn score(&self, value: Option<i128>) -> i128 {
        let Some((least, most)) = self.ends else { return 0 };
        if least == most && self.all_known {
            return 0;
        }
        if self.steady {
            return if value == Some(most) { BEST } else { 0 };
        }
        let (better, worse) = if self.negative { (WORST, BEST) } else { (BEST, WORST) };
        match value {
            None => worse,
            Some(_) if least == most => better,
            Some(value) => scale(value - least, most - least),
        }
    }
}

/// `200 x part / whole - 100` points, rounded down. Divides digit by digit, so that nothing overflows.
fn scale(part: i128, whole: i128) -> i128 {
    const HALF: i128 = 1_000_000_000;
    let points = 200 * part;
    let first = (points % whole) * HALF;
    let second = (first % whole) * HALF;
    (points / whole) * POINT + (first / whole) * HALF + second / whole - BEST
}

/// A label's value as a number of billionths; anything beyond a quintillion is not taken for a number.
fn number(text: &str) -> Option<i128> {
    const PLACES: usize = 9;
    const LONGEST_WHOLE: usize = 18;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let decimal = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !decimal(whole) || !decimal(fraction) {
        return None;
    }
    if whole.len() > LONGEST_WHOLE {
        return None;
    }
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(PLACES).collect();
    let value: i128 = format!("0{whole}{fraction}").parse().ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(values: &[Option<i128>], weight: i32) -> Vec<i128> {
        let by = Prioritizer { by: PrioritizerKind::Label, key: None, weight };
        let scale = Scale::of(&by, values.iter().copied());
        values.iter().map(|value| scale.score(*value)).collect()
    }

    #[test]
    fn scaling_is_linear_and_exact_at_the_ends() {
        assert_eq!(linear(&[Some(0), Some(50), Some(100)], 1), [WORST, 0, BEST]);
        assert_eq!(linear(&[Some(7), Some(7)], 1), [0, 0]);
        assert_eq!(linear(&[Some(7), None, Some(7)], 1), [BEST, WORST, BEST]);
        assert_eq!(linear(&[Some(7), None], -1), [WORST, BEST]);
        assert_eq!(linear(&[Some(1), None, Some(3)], -2), [WORST, BEST, BEST]);
        assert_eq!(linear(&[None, None], 1), [0, 0]);
        let exabyte = 1_i128 << 60;
        let scores = linear(&[0, exabyte - 2, exabyte - 1, exabyte].map(Some), 1);
        assert!(scores.is_sorted_by(|a, b| a < b), "a byte in an exabyte counts: {scores:?}");
    }

    #[test]
    fn numbers_in_labels() {
        for (text, value) in [
            ("0", Some(0)),
            ("12", Some(12_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("-3", Some(-3_000_000_000)),
            (".25", Some(250_000_000)),
            ("0.1234567891", Some(123_456_789)),
            ("", None),
            ("a", None),
            ("1.2.3", None),
            ("inf", None),
            ("1234567890123456789", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }
}
