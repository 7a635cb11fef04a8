//! The last accepted desired set, and which further ones it accepts. A refusal has a name, and leaves the ledger as it
//! was: what the spoke serves never hangs on a message that arrived late, twice or broken.

use std::collections::BTreeMap;

use nave_names::Generation;
use serde::{Deserialize, Serialize};

use crate::entry::{Entry, EntryKey};

/// What the hub told last. Entries are sorted by key, and a key is there once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    generation: Generation,
    entries: Vec<Entry>,
}

/// A message of the hub: the whole set, or how it differs from `base`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Of the set that this message leads to.
    pub generation: Generation,
    /// `None` = `entries` is the whole set.
    pub base: Option<Generation>,
    /// Upserts by key.
    pub entries: Vec<Entry>,
    /// Keys that go; empty in a snapshot.
    pub removed: Vec<EntryKey>,
}

/// Why a desired set was not taken over. [`Refusal::reason`] is the word on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Older than what is held.
    #[error("generation {told} is older than {held}, which this spoke holds")]
    StaleGeneration {
        /// Of the message.
        told: Generation,
        /// Of the ledger.
        held: Generation,
    },
    /// The generation that is held, with other content.
    #[error("generation {generation} was told before with other content")]
    ConflictingContent {
        /// Of both.
        generation: Generation,
    },
    /// A delta against a set that is not held.
    #[error("a delta against generation {base} does not fit: this spoke holds {held}")]
    WrongBase {
        /// Of the delta.
        base: Generation,
        /// Of the ledger.
        held: Generation,
    },
    /// Something in it breaks the rules of the wire.
    #[error("{0}")]
    Malformed(String),
}

impl Refusal {
    /// The CamelCase word for the hub.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::StaleGeneration { .. } => "StaleGeneration",
            Self::ConflictingContent { .. } => "ConflictingContent",
            Self::WrongBase { .. } => "WrongBase",
            Self::Malformed(_) => "Malformed",
        }
    }
}

impl Ledger {
    /// The generation that was accepted last; 0 = nothing was ever told.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// All entries, sorted by key.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether the hub ever said what it wants. An empty ledger with a generation is a wish; one without is not.
    pub const fn is_told(&self) -> bool {
        self.generation.0 > 0
    }

    /// The ledger after `desired`.
    ///
    /// # Errors
    /// [`Refusal`], by name; `self` stays what is in force.
    pub fn accept(&self, desired: &Desired) -> Result<Self, Refusal> {
        if desired.generation.0 == 0 {
            return Err(Refusal::Malformed("generation 0 says that nothing was ever told".to_owned()));
        }
        if desired.generation < self.generation {
            return Err(Refusal::StaleGeneration { told: desired.generation, held: self.generation });
        }
        let next = match desired.base {
            None => Self { generation: desired.generation, entries: unique(&desired.entries)? },
            Some(base) => self.with_delta(base, desired)?,
        };
        if next.generation == self.generation && next.entries != self.entries {
            return Err(Refusal::ConflictingContent { generation: self.generation });
        }
        Ok(next)
    }

    fn with_delta(&self, base: Generation, desired: &Desired) -> Result<Self, Refusal> {
        if base != self.generation {
            return Err(Refusal::WrongBase { base, held: self.generation });
        }
        let mut entries: BTreeMap<EntryKey, Entry> =
            self.entries.iter().map(|entry| (entry.key.clone(), entry.clone())).collect();
        for key in &desired.removed {
            entries.remove(key);
        }
        for entry in unique(&desired.entries)? {
            if desired.removed.contains(&entry.key) {
                return Err(Refusal::Malformed(format!("{} is both told and removed", entry.key)));
            }
            entries.insert(entry.key.clone(), entry);
        }
        Ok(Self { generation: desired.generation, entries: entries.into_values().collect() })
    }
}

fn unique(entries: &[Entry]) -> Result<Vec<Entry>, Refusal> {
    let mut sorted = entries.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    match sorted.windows(2).find(|pair| pair[0].key == pair[1].key) {
        None => Ok(sorted),
        Some(pair) => Err(Refusal::Malformed(format!("{} is told twice", pair[0].key))),
    }
}
