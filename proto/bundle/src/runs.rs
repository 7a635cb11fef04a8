//! Numbers of chunks as people write them: `0-39,41,44-50`. Ascending, and neighbours are always one run, so that the
//! same chunks have one form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Chunks of one file, never none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Runs(Vec<(u32, u32)>);

impl Runs {
    /// The runs that these numbers make, which have to ascend; `None` if there are none.
    pub fn of(chunks: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for chunk in chunks {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(chunk) => *last = chunk,
                Some(_) | None => runs.push((chunk, chunk)),
            }
        }
        (!runs.is_empty()).then_some(Self(runs))
    }

    /// First and last chunk of each run.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().copied()
    }

    /// Whether this chunk is one of them.
    pub fn contains(&self, chunk: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= chunk);
        self.0[..after].last().is_some_and(|(_, last)| chunk <= *last)
    }

    /// The highest number.
    pub fn last(&self) -> u32 {
        self.0.last().map_or(0, |(_, last)| *last)
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

impl FromStr for Runs {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} are no numbers of chunks such as 0-39,41");
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for run in text.split(',') {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let number = |digits: &str| digits.parse::<u32>().map_err(|_| bad());
            let (first, last) = (number(first)?, number(last)?);
            // One between two runs is missing at least, or they were one.
            let follows = runs.last().is_none_or(|(_, before)| u64::from(*before) + 1 < u64::from(first));
            if first > last || !follows {
                return Err(bad());
            }
            runs.push((first, last));
        }
        let runs = Self(runs);
        if runs.to_string() == text { Ok(runs) } else { Err(bad()) }
    }
}

impl TryFrom<String> for Runs {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Runs> for String {
    fn from(runs: Runs) -> Self {
        runs.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_form_only() {
        assert_eq!(Runs::of([0, 1, 2, 4]).unwrap().to_string(), "0-2,4");
        assert!(Runs::of([]).is_none());
        for bad in ["", "1-0", "0,1", "0-1,1-2", "3,1", "0-0", "01", "+1", " 1", "1,", "-", "4294967296"] {
            assert!(bad.parse::<Runs>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(chunks in prop::collection::btree_set(0u32..200, 1..100)) {
            let runs = Runs::of(chunks.iter().copied()).unwrap();
            prop_assert_eq!(runs.to_string().parse::<Runs>().unwrap(), runs.clone());
            let back: Vec<u32> = runs.iter().flat_map(|(first, last)| first..=last).collect();
            prop_assert!((0..201).all(|chunk| runs.contains(chunk) == chunks.contains(&chunk)));
            prop_assert_eq!(back, chunks.into_iter().collect::<Vec<_>>());
        }
    }
}
