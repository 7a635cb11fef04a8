//! Which entries of an accepted ledger this spoke will not follow. They stay in the ledger: a refused Serve entry is no
//! reason to take away what is served for the model now.

use std::collections::BTreeMap;

use nave_names::ModelName;

use crate::{
    attempts::{Class, Subject},
    entry::{Action, Entry, EntryKey},
    inventory::{Active, Inventory},
    ledger::Ledger,
};

/// An entry that this spoke will not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRefusal {
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What is refused of `ledger`, by key.
pub fn refusals(ledger: &Ledger, inventory: &Inventory) -> BTreeMap<EntryKey, EntryRefusal> {
    let mut refused = BTreeMap::new();
    let winners = serve_entries(ledger, inventory);
    for entry in ledger.entries() {
        let reason = refuse(entry, inventory).or_else(|| {
            let winner = winners.get(&entry.key.model).filter(|_| entry.action == Action::Serve)?;
            (winner.key != entry.key).then(|| EntryRefusal {
                reason: "ModelTaken".to_owned(),
                message: format!("model {} is served for {}", entry.key.model, winner.key),
            })
        });
        if let Some(reason) = reason {
            refused.insert(entry.key.clone(), reason);
        }
    }
    refused
}

/// Why an entry cannot be followed, its signature included.
pub(crate) fn refuse(entry: &Entry, inventory: &Inventory) -> Option<EntryRefusal> {
    refuse_unread(entry, inventory).or_else(|| {
        let failure = inventory.attempts.get(&Subject::Verify(entry.vouch()?))?;
        let (reason, message) = (failure.reason.clone(), failure.message.clone());
        (failure.class == Class::Failed).then_some(EntryRefusal { reason, message })
    })
}

/// Why an entry cannot be followed, whatever its version is: there is no use in fetching anything of it.
pub(crate) fn refuse_unread(entry: &Entry, inventory: &Inventory) -> Option<EntryRefusal> {
    if let Action::Unknown(number) = entry.action {
        let message = format!("this agent does not know action {number}: it is older than its hub");
        return Some(EntryRefusal { reason: "ActionUnknown".to_owned(), message });
    }
    if entry.action == Action::Serve && !inventory.runtimes.contains(&entry.runtime) {
        let known: Vec<&str> = inventory.runtimes.iter().map(String::as_str).collect();
        let message = format!(
            "runtime {:?} is not configured on this spoke; it has: {}",
            entry.runtime,
            known.join(", ")
        );
        return Some(EntryRefusal { reason: "RuntimeUnknown".to_owned(), message });
    }
    None
}

/// Which Serve entry has each model: of two, the one that is served now, else the first by key.
pub(crate) fn serve_entries<'a>(ledger: &'a Ledger, inventory: &Inventory) -> BTreeMap<ModelName, &'a Entry> {
    let mut winners: BTreeMap<ModelName, &Entry> = BTreeMap::new();
    for entry in ledger.entries() {
        if entry.action != Action::Serve || refuse(entry, inventory).is_some() {
            continue;
        }
        let serving = inventory.models.get(&entry.key.model).and_then(|model| model.record.serving.as_ref());
        let is_served =
            |entry: &Entry| serving.is_some_and(|serving| serving.same_content(&Active::of(entry)));
        match winners.get(&entry.key.model) {
            Some(first) if is_served(first) || !is_served(entry) => {}
            Some(_) | None => {
                winners.insert(entry.key.model.clone(), entry);
            }
        }
    }
    winners
}
