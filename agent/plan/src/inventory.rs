//! What is so on this spoke: what its store holds, what each model's record and folder say, and what is under way. The
//! shell observes it; the planner only reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use nave_names::{Digest, ModelName, Namespace, PolicyName, VersionName};
use serde::{Deserialize, Serialize};

use crate::{
    attempts::Attempts,
    entry::{Entry, Vouch},
    evict::Shelf,
};

/// One version of a model as it is, or was, given to a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    /// The namespace of the policy that asked for it.
    pub namespace: Namespace,
    /// The policy that asked for it.
    pub policy: PolicyName,
    /// The version.
    pub version: VersionName,
    /// Of its manifest.
    pub digest: Digest,
    /// The runtime that serves it.
    pub runtime: String,
    /// True = it stays when nobody asks for it any more. Kept here too, because a ledger can be lost.
    pub keep_on_removal: bool,
}

impl Active {
    /// What `entry` makes of the model.
    pub fn of(entry: &Entry) -> Self {
        Self {
            namespace: entry.key.namespace.clone(),
            policy: entry.key.policy.clone(),
            version: entry.key.version.clone(),
            digest: entry.manifest_digest,
            runtime: entry.runtime.clone(),
            keep_on_removal: entry.keep_on_removal,
        }
    }

    /// Its folder.
    pub fn folder(&self) -> Folder {
        Folder::of(&self.version, &self.digest)
    }

    /// Whether the runtime would notice a change from `self` to `other`; whose it is does not matter to it.
    pub fn same_content(&self, other: &Self) -> bool {
        self.version == other.version && self.digest == other.digest && self.runtime == other.runtime
    }
}

/// The name of a version's folder below its model's: `<version>-<first 12 hex digits of the digest>`, so that one version
/// number with two contents can never be one folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Folder {
    version: VersionName,
    short: String,
}

impl Folder {
    /// The folder of `version` with `digest`.
    pub fn of(version: &VersionName, digest: &Digest) -> Self {
        Self { version: version.clone(), short: digest.to_hex()[..12].to_owned() }
    }

    /// The version in its name.
    pub const fn version(&self) -> &VersionName {
        &self.version
    }

    /// Whether it would be the folder of `digest`.
    pub fn is_of(&self, digest: &Digest) -> bool {
        digest.to_hex().starts_with(&self.short)
    }

    /// Reads a folder's name; `None` for one that Nave did not make.
    pub fn parse(name: &str) -> Option<Self> {
        let (version, short) = name.rsplit_once('-')?;
        let is_short =
            short.len() == 12 && short.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let version = VersionName::new(version).ok()?;
        is_short.then(|| Self { version, short: short.to_owned() })
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.version, self.short)
    }
}

/// Something under way: planned once, and not again while it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Weights on their way into the store.
    Pull(Digest),
    /// A signature being fetched and checked.
    Verify(Vouch),
    /// A step on a model. At most one at a time, so that steps of one model never cross.
    Model(ModelName),
    /// The store is dropping what is no root.
    Collect,
    /// A version on its way from the store's cold tier to its hot one.
    Promote(Digest),
    /// A version on its way from the store's hot tier to its cold one.
    Demote(Digest),
}

/// How many earlier versions of a model are remembered. Only the newest, and the one that an entry names, hold weights.
const REMEMBERED: usize = 8;

/// What was given to the runtime for one model. The shell keeps it on disk, and changes it only by these methods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// What answered its probe last, and is served.
    pub serving: Option<Active>,
    /// What was switched to and has not answered yet. Set before the switch begins and cleared after the answer, on
    /// disk both times: a process killed in between finds it.
    pub switching: Option<Active>,
    /// What was served before, newest first.
    pub previous: Vec<Active>,
}

impl Record {
    /// The switch to `active` is about to begin.
    pub fn begin(&mut self, active: &Active) {
        self.switching = Some(active.clone());
    }

    /// `active` answered: it is what is served.
    pub fn answered(&mut self, active: &Active) {
        self.switching = None;
        let old = self.serving.replace(active.clone());
        self.previous.retain(|previous| previous.digest != active.digest);
        if let Some(old) = old.filter(|old| old.digest != active.digest) {
            self.previous.retain(|previous| previous.digest != old.digest);
            self.previous.insert(0, old);
            self.previous.truncate(REMEMBERED);
        }
    }

    /// The switch did not work and was undone.
    pub fn reverted(&mut self) {
        self.switching = None;
    }

    /// The same content is now another policy's, or shall stay when it goes.
    pub fn adopt(&mut self, active: &Active) {
        self.serving = Some(active.clone());
    }
}

/// One model on this spoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInventory {
    /// What its record on disk says.
    pub record: Record,
    /// Whether the runtime was given `record.switching` by this very process.
    pub switched: bool,
    /// Where the link `current` points.
    pub linked: Option<Folder>,
    /// Version folders that are there, and whether they hold exactly what their manifest says.
    pub folders: BTreeMap<Folder, bool>,
}

impl ModelInventory {
    /// Whether the folder is there and right.
    pub fn has_folder(&self, folder: &Folder) -> bool {
        self.folders.get(folder).copied().unwrap_or(false)
    }

    /// Whether `active` is what is served, from a folder that is right, under a link that points there.
    pub fn serves(&self, active: &Active) -> bool {
        let folder = active.folder();
        self.record.serving.as_ref().is_some_and(|serving| serving.same_content(active))
            && self.linked.as_ref() == Some(&folder)
            && self.has_folder(&folder)
    }

    /// Whether Nave left anything of this model on the spoke.
    pub fn is_empty(&self) -> bool {
        self.record == Record::default() && self.linked.is_none() && self.folders.is_empty()
    }
}

/// Everything that a plan needs to know of the spoke.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Versions that are complete and verified in the store.
    pub held: BTreeSet<Digest>,
    /// Versions that the store has parts of.
    pub partial: BTreeSet<Digest>,
    /// Versions that were brought here without a network, and that the hub has not asked for yet.
    pub imported: BTreeSet<Digest>,
    /// Versions that are being brought: not to be pulled meanwhile.
    pub importing: BTreeSet<Digest>,
    /// Versions whose signature this process has checked, and what with. Not kept on disk: a start checks again.
    pub signed: BTreeSet<Vouch>,
    /// What the store takes and may take.
    pub shelf: Shelf,
    /// By model.
    pub models: BTreeMap<ModelName, ModelInventory>,
    /// Runtimes that this agent was configured with.
    pub runtimes: BTreeSet<String>,
    /// What failed, and when it is tried again.
    pub attempts: Attempts,
    /// What is under way.
    pub running: BTreeSet<Job>,
}

impl Inventory {
    /// Whether a version can be laid out now: it is in the store, on the hot tier as a whole, and not under way from it.
    pub fn is_at_hand(&self, digest: &Digest) -> bool {
        self.held.contains(digest)
            && !self.shelf.is_cold(digest)
            && !self.running.contains(&Job::Promote(*digest))
            && !self.running.contains(&Job::Demote(*digest))
    }

    /// Whether the entry asks for no signature, or for one that was checked.
    pub fn is_vouched(&self, entry: &Entry) -> bool {
        entry.vouch().is_none_or(|vouch| self.signed.contains(&vouch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_name_reads_back_and_strangers_do_not() {
        let folder = Folder::of(&VersionName::new("1.2.0-a12").unwrap(), &Digest::of(b"x"));
        assert_eq!(Folder::parse(&folder.to_string()), Some(folder));
        for stranger in
            ["current", "lost+found", "1.0-XYZ", "1.0-0123456789aG", ".-0123456789ab", "-0123456789ab"]
        {
            assert_eq!(Folder::parse(stranger), None, "{stranger}");
        }
    }
}
