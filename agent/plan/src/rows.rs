//! What the spoke says of each version. A row speaks of facts, not of intentions: Serving is what answered its probe,
//! Staged is what the store holds verified.

use std::collections::BTreeMap;

use nave_names::{Digest, ModelName, Namespace, VersionName};

use crate::{
    attempts::{Class, Subject},
    entry::{Action, Entry, EntryKey},
    inventory::{Active, Inventory, Job, ModelInventory},
    ledger::Ledger,
    refuse::EntryRefusal,
};

/// Where a version is, in the wire's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Phase {
    Pending,
    Pulling,
    Verifying,
    Staged,
    Activating,
    Serving,
    Failed,
    Rejected,
    Removing,
}

/// One row of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The policy's.
    pub namespace: Namespace,
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: VersionName,
    /// Where it is.
    pub phase: Phase,
    /// What was verified; `None` = not yet.
    pub digest: Option<Digest>,
    /// A CamelCase word; empty = nothing needs saying.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

type Key = (Namespace, ModelName, VersionName);

struct Said {
    phase: Phase,
    digest: Option<Digest>,
    reason: String,
    message: String,
}

impl Said {
    fn plain(phase: Phase, digest: Option<Digest>) -> Self {
        Self { phase, digest, reason: String::new(), message: String::new() }
    }

    fn because(phase: Phase, digest: Option<Digest>, reason: &str, message: &str) -> Self {
        Self { phase, digest, reason: reason.to_owned(), message: message.to_owned() }
    }
}

pub(crate) fn plan_rows(
    ledger: &Ledger,
    inventory: &Inventory,
    refused: &BTreeMap<EntryKey, EntryRefusal>,
) -> Vec<Row> {
    let mut rows: BTreeMap<Key, Said> = BTreeMap::new();
    let mut entries: Vec<&Entry> = ledger.entries().iter().collect();
    // Of two entries for one version the Serve entry's row counts, and one that is followed before one that is refused.
    entries.sort_by_key(|entry| (refused.contains_key(&entry.key), entry.action != Action::Serve));
    for entry in entries {
        let key = (entry.key.namespace.clone(), entry.key.model.clone(), entry.key.version.clone());
        rows.entry(key).or_insert_with(|| match refused.get(&entry.key) {
            Some(refusal) => Said::because(Phase::Rejected, None, &refusal.reason, &refusal.message),
            None => say_entry(entry, inventory),
        });
    }
    for (model, state) in &inventory.models {
        if let Some(serving) = &state.record.serving {
            let asked = ledger
                .entries()
                .iter()
                .any(|entry| entry.key.model == *model && entry.action != Action::Prefetch);
            let going = ledger.is_told() && !asked && !serving.keep_on_removal;
            let said = || say_served(model, state, serving, going, inventory);
            rows.entry(key_of(model, serving)).or_insert_with(said);
        }
        for active in state.record.previous.iter().filter(|active| inventory.held.contains(&active.digest)) {
            let said = || Said::plain(Phase::Staged, Some(active.digest));
            rows.entry(key_of(model, active)).or_insert_with(said);
        }
    }
    rows.into_iter()
        .map(|((namespace, model, version), said)| Row {
            namespace,
            model,
            version,
            phase: said.phase,
            digest: said.digest,
            reason: said.reason,
            message: said.message,
        })
        .collect()
}

fn key_of(model: &ModelName, active: &Active) -> Key {
    (active.namespace.clone(), model.clone(), active.version.clone())
}

fn say_entry(entry: &Entry, inventory: &Inventory) -> Said {
    let digest = entry.manifest_digest;
    let wanted = Active::of(entry);
    let empty = ModelInventory::default();
    let state = inventory.models.get(&entry.key.model).unwrap_or(&empty);
    let is_prefetch = entry.action == Action::Prefetch;
    let is_served = match &state.record.serving {
        Some(serving) if is_prefetch => serving.digest == digest && state.serves(serving),
        Some(_) => state.serves(&wanted),
        None => false,
    };
    if is_served {
        return Said::plain(Phase::Serving, Some(digest));
    }
    if !inventory.is_vouched(entry) {
        let failure = entry.vouch().and_then(|vouch| inventory.attempts.get(&Subject::Verify(vouch)));
        let said = failure.map(|failure| (failure.reason.as_str(), failure.message.as_str()));
        let (reason, message) = said.unwrap_or_default();
        return Said::because(Phase::Verifying, None, reason, message);
    }
    let held = inventory.held.contains(&digest);
    let verified = held.then_some(digest);
    let switch = Subject::Switch(entry.key.model.clone(), digest);
    let failure = inventory.attempts.get(&switch).filter(|_| !is_prefetch);
    let pull = inventory.attempts.get(&Subject::Pull(digest)).filter(|_| !held);
    let promotion = inventory.attempts.get(&Subject::Promote(digest)).filter(|_| held);
    let failure = failure.or(promotion);
    if let Some(failure) = failure.or(pull.filter(|failure| failure.class != Class::Transient)) {
        return Said::because(Phase::Failed, verified, &failure.reason, &failure.message);
    }
    if state.record.switching.as_ref().is_some_and(|switching| switching.same_content(&wanted)) {
        return Said::plain(Phase::Activating, verified);
    }
    if held {
        return Said::plain(Phase::Staged, verified);
    }
    let pulling = inventory.running.contains(&Job::Pull(digest));
    let phase = if pulling || inventory.partial.contains(&digest) { Phase::Pulling } else { Phase::Pending };
    if let Some(failure) = pull {
        return Said::because(phase, None, &failure.reason, &failure.message);
    }
    Said::plain(phase, None)
}

/// A version that is served and not in the ledger's rows: an older one during a rollout, one that stays, one that goes.
fn say_served(
    model: &ModelName,
    state: &ModelInventory,
    serving: &Active,
    going: bool,
    inventory: &Inventory,
) -> Said {
    if going {
        let failure = inventory.attempts.get(&Subject::Remove(model.clone()));
        let (reason, message) =
            failure.map_or(("", ""), |failure| (failure.reason.as_str(), failure.message.as_str()));
        return Said::because(Phase::Removing, Some(serving.digest), reason, message);
    }
    if !state.serves(serving) && state.record.switching.is_none() {
        let message = "its files are not what its manifest says, or its link is gone";
        return Said::because(Phase::Failed, None, "Damaged", message);
    }
    Said::plain(Phase::Serving, Some(serving.digest))
}
