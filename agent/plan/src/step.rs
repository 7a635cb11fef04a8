//! The things that a plan can ask the shell to do. Each is one atomic change on disk or one question to a runtime.

use std::collections::BTreeSet;

use nave_names::{Digest, ModelName};

use crate::{
    attempts::Subject,
    entry::{Action, EntryKey, Transfer, Vouch},
    inventory::{Active, Folder, Job},
};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Get the weights into the store, verified.
    Pull {
        /// The entry to ask URLs for.
        key: EntryKey,
        /// Of the manifest.
        digest: Digest,
        /// A Serve goes before a Prefetch.
        action: Action,
        /// Limits of the site.
        transfer: Transfer,
    },
    /// Get the version's signature and check it against its manifest, before any of its weights are touched.
    Verify {
        /// The entry to ask URLs for.
        key: EntryKey,
        /// Which version, and whose signature.
        vouch: Vouch,
        /// What to check it with: PEM of a public key or of authorities.
        trust: String,
        /// Limits of the site.
        transfer: Transfer,
    },
    /// Stop pulling: nobody asks for it now.
    CancelPull {
        /// Of the manifest.
        digest: Digest,
    },
    /// Lay a version's folder out from the store.
    Stage {
        /// Which model.
        model: ModelName,
        /// What to lay out.
        active: Active,
    },
    /// Write down that the switch begins, switch the link, tell the runtime.
    Activate {
        /// Which model.
        model: ModelName,
        /// What to switch to.
        active: Active,
        /// How long the runtime may take.
        timeout_seconds: u32,
    },
    /// Ask the new version whether it works. If so it is what is served from now on.
    Probe {
        /// Which model.
        model: ModelName,
        /// What was switched to.
        active: Active,
        /// How long it may take to answer.
        timeout_seconds: u32,
    },
    /// Back to what is served according to the record; away with the link where nothing was.
    Revert {
        /// Which model.
        model: ModelName,
    },
    /// The same content for another policy, or another wish for its removal: only the record changes.
    Adopt {
        /// Which model.
        model: ModelName,
        /// The record.
        active: Active,
    },
    /// Drop a version's folder that nothing serves.
    Retire {
        /// Which model.
        model: ModelName,
        /// Which folder.
        folder: Folder,
    },
    /// Take the model away from its runtime, with all its folders.
    Remove {
        /// Which model.
        model: ModelName,
    },
    /// Drop versions from the store, and what is left of pulls that nobody asks for.
    Collect {
        /// What must stay.
        roots: BTreeSet<Digest>,
        /// Which versions go.
        versions: BTreeSet<Digest>,
    },
    /// Bring a version's files from the cold tier to the hot one, before anything is laid out from them.
    Promote {
        /// Of the manifest.
        digest: Digest,
    },
    /// Take a version's files from the hot tier to the cold one, but for those that a version that stays hot has too.
    Demote {
        /// Of the manifest.
        digest: Digest,
    },
}

impl Step {
    /// What is under way while the step runs.
    pub fn job(&self) -> Job {
        match self {
            Self::Pull { digest, .. } | Self::CancelPull { digest } => Job::Pull(*digest),
            Self::Verify { vouch, .. } => Job::Verify(*vouch),
            Self::Stage { model, .. }
            | Self::Activate { model, .. }
            | Self::Probe { model, .. }
            | Self::Revert { model }
            | Self::Adopt { model, .. }
            | Self::Retire { model, .. }
            | Self::Remove { model } => Job::Model(model.clone()),
            Self::Collect { .. } => Job::Collect,
            Self::Promote { digest } => Job::Promote(*digest),
            Self::Demote { digest } => Job::Demote(*digest),
        }
    }

    /// Whose failures it counts among.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Pull { digest, .. } | Self::CancelPull { digest } => Subject::Pull(*digest),
            Self::Verify { vouch, .. } => Subject::Verify(*vouch),
            Self::Stage { model, active }
            | Self::Activate { model, active, .. }
            | Self::Probe { model, active, .. } => Subject::Switch(model.clone(), active.digest),
            Self::Revert { model } => Subject::Revert(model.clone()),
            Self::Adopt { model, .. } | Self::Retire { model, .. } => Subject::Tidy(model.clone()),
            Self::Remove { model } => Subject::Remove(model.clone()),
            Self::Collect { .. } => Subject::Collect,
            Self::Promote { digest } => Subject::Promote(*digest),
            Self::Demote { digest } => Subject::Demote(*digest),
        }
    }
}
