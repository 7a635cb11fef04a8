//! What was brought to this spoke without a network: which bundle of each source was the last, and which of its versions
//! stay until the hub has asked for them. From then on the ordinary rules count.

use std::collections::{BTreeMap, BTreeSet};

use nave_names::{Digest, Generation};
use serde::{Deserialize, Serialize};

/// The last bundle of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Brought {
    /// Its number: none that is lower is taken any more.
    pub generation: Generation,
    /// SHA-256 of its `bundle.json`.
    pub bundle: Digest,
    /// What it held.
    pub versions: BTreeSet<Digest>,
}

/// All that was brought. The shell keeps it on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Imports {
    sources: BTreeMap<String, Brought>,
    waiting: BTreeSet<Digest>,
}

/// Why a bundle is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportRefusal {
    /// Older than what was imported last.
    #[error("generation {brought} of {source_name} is older than {held}, which was imported here already")]
    OlderGeneration {
        /// The source.
        source_name: String,
        /// Of the bundle.
        brought: Generation,
        /// Of the last one.
        held: Generation,
    },
    /// The number of the last one, and other content.
    #[error("generation {generation} of {source_name} was imported here already, with other content")]
    ConflictingGeneration {
        /// The source.
        source_name: String,
        /// Of both.
        generation: Generation,
    },
}

impl ImportRefusal {
    /// The reason in one CamelCase word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OlderGeneration { .. } => "OlderGeneration",
            Self::ConflictingGeneration { .. } => "ConflictingGeneration",
        }
    }
}

impl Imports {
    /// Whether a bundle of this source may be taken. The last one may be taken again.
    ///
    /// # Errors
    /// [`ImportRefusal`], by name.
    pub fn judge(&self, source: &str, brought: Generation, bundle: &Digest) -> Result<(), ImportRefusal> {
        let Some(last) = self.sources.get(source) else { return Ok(()) };
        let source_name = source.to_owned();
        if brought < last.generation {
            return Err(ImportRefusal::OlderGeneration { source_name, brought, held: last.generation });
        }
        if brought == last.generation && *bundle != last.bundle {
            return Err(ImportRefusal::ConflictingGeneration { source_name, generation: brought });
        }
        Ok(())
    }

    /// A version is in the store; others of its bundle may follow.
    pub fn arrived(&mut self, version: Digest) {
        self.waiting.insert(version);
    }

    /// All of a bundle is in the store. What the bundle before it held, and no other bundle does, need not wait any more.
    pub fn complete(&mut self, source: &str, brought: Brought) {
        self.waiting.extend(&brought.versions);
        let Some(before) = self.sources.insert(source.to_owned(), brought) else { return };
        for digest in before.versions {
            if !self.sources.values().any(|last| last.versions.contains(&digest)) {
                self.waiting.remove(&digest);
            }
        }
    }

    /// The hub asks for these; false = none of them was waited for.
    pub fn asked(&mut self, digests: impl IntoIterator<Item = Digest>) -> bool {
        let before = self.waiting.len();
        for digest in digests {
            self.waiting.remove(&digest);
        }
        self.waiting.len() < before
    }

    /// Versions that stay until the hub asks for them.
    pub const fn waiting(&self) -> &BTreeSet<Digest> {
        &self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "policy default/bridges";

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn brought(generation: u64, versions: &[&str]) -> Brought {
        let bundle = digest(&format!("bundle {generation}"));
        let versions = versions.iter().map(|version| digest(version)).collect();
        Brought { generation: Generation(generation), bundle, versions }
    }

    #[test]
    fn of_one_source_nothing_older_is_taken_and_the_same_may_come_again() {
        let mut imports = Imports::default();
        let judge = |imports: &Imports, generation: u64, bundle: &str| {
            imports.judge(SOURCE, Generation(generation), &digest(bundle)).map_err(|refusal| refusal.name())
        };
        assert_eq!(judge(&imports, 1, "anything"), Ok(()));
        imports.complete(SOURCE, brought(5, &["1"]));
        assert_eq!(judge(&imports, 4, "bundle 4"), Err("OlderGeneration"));
        assert_eq!(judge(&imports, 5, "bundle 5"), Ok(()));
        assert_eq!(judge(&imports, 5, "another"), Err("ConflictingGeneration"));
        assert_eq!(judge(&imports, 6, "bundle 6"), Ok(()));
        assert_eq!(imports.judge("model default/other", Generation(1), &digest("x")), Ok(()));
    }

    #[test]
    fn what_was_brought_waits_until_it_is_asked_for_or_a_newer_bundle_lacks_it() {
        let mut imports = Imports::default();
        imports.arrived(digest("1"));
        imports.complete(SOURCE, brought(1, &["1", "2"]));
        assert_eq!(*imports.waiting(), BTreeSet::from([digest("1"), digest("2")]));
        imports.complete("model default/other", brought(1, &["1"]));
        imports.complete(SOURCE, brought(2, &["3"]));
        assert_eq!(
            *imports.waiting(),
            BTreeSet::from([digest("1"), digest("3")]),
            "another bundle has 1 too"
        );
        assert!(imports.asked([digest("3"), digest("9")]));
        assert!(!imports.asked([digest("3")]));
        assert_eq!(*imports.waiting(), BTreeSet::from([digest("1")]));
    }
}
