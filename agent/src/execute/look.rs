//! Looking at the store's room: at the start, every half minute, and after what changes it.

use nave_agent_plan::Shelf;
use nave_names::Digest;
use nave_runtime::error_text::chain;

use super::{Done, Executor, blocking};
use crate::{observed::Condition, store::Store};

/// What was seen.
pub(super) struct Look {
    /// For the planner; `None` = it could not be found out.
    shelf: Option<Shelf>,
    /// Whether there is enough for another model; with a notice, if the cold tier is not where it should be.
    room: Condition,
    /// What is free on both tiers, in words.
    tiers: String,
    /// What is held, where the cold tier has come or gone.
    held: Option<Vec<Digest>>,
}

/// Looks; blocking.
pub(super) fn look(store: &Store) -> Look {
    if let Err(error) = store.keep_spare() {
        tracing::debug!(error = chain(&error), "no room is set aside for small files");
    }
    let held = match store.look_for_cold() {
        Ok(true) => {
            store.held().inspect_err(|error| tracing::warn!(%error, "cannot look through the store")).ok()
        }
        Ok(false) => None,
        Err(error) => {
            tracing::warn!(error = chain(&error), "cannot look for the cold tier");
            None
        }
    };
    let shelf =
        store.shelf().inspect_err(|error| tracing::warn!(%error, "cannot look through the store")).ok();
    let room = match store.shortage() {
        Ok(None) => match store.cold_away() {
            None => Condition::Healthy,
            // What comes next goes to the hot tier, and that has room.
            Some(away) => Condition::Notice(format!("{}: {away}", away.reason())),
        },
        Ok(Some(shortage)) => Condition::Unhealthy(shortage.to_string()),
        Err(error) => Condition::Unhealthy(chain(&error)),
    };
    // Counting what is taken has its cost.
    let has_two = shelf.as_ref().is_some_and(|shelf| shelf.cold.is_some());
    let tiers = if has_two { store.tiers_in_words() } else { String::new() };
    Look { shelf, room, tiers, held }
}

impl Executor {
    pub(super) fn start_look(&mut self) {
        let store = self.activator.store().clone();
        self.tasks.spawn(async move { Done::Look(look_at(store).await) });
    }

    /// Before anything else is planned.
    pub(super) async fn look_now(&mut self) {
        let look = look_at(self.activator.store().clone()).await;
        self.looked(look);
    }

    pub(super) fn looked(&mut self, look: Look) {
        if let Some(shelf) = look.shelf {
            self.inventory.shelf = shelf;
        }
        self.room = look.room;
        self.tiers = look.tiers;
        if let Some(held) = look.held {
            self.inventory.held = held.into_iter().collect();
        }
    }
}

async fn look_at(store: Store) -> Look {
    let unknown = Look { shelf: None, room: Condition::Unknown, tiers: String::new(), held: None };
    blocking(move || look(&store)).await.unwrap_or(unknown)
}
