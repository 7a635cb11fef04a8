//! Looking at the store's room: at the start, every half minute, and after what changes it.

use nave_agent_plan::Shelf;
use nave_runtime::error_text::chain;

use super::{Done, Executor, blocking};
use crate::{observed::Condition, store::Store};

/// What was seen.
pub(super) struct Look {
    /// For the planner; `None` = it could not be found out.
    shelf: Option<Shelf>,
    /// Whether there is enough for another model.
    room: Condition,
}

/// Looks; blocking.
pub(super) fn look(store: &Store) -> Look {
    if let Err(error) = store.keep_spare() {
        tracing::debug!(error = chain(&error), "no room is set aside for small files");
    }
    let shelf =
        store.shelf().inspect_err(|error| tracing::warn!(%error, "cannot look through the store")).ok();
    let room = match store.shortage() {
        Ok(None) => Condition::Healthy,
        Ok(Some(shortage)) => Condition::Unhealthy(shortage.to_string()),
        Err(error) => Condition::Unhealthy(chain(&error)),
    };
    Look { shelf, room }
}

impl Executor {
    pub(super) fn start_look(&mut self) {
        let store = self.activator.store().clone();
        self.tasks.spawn(async move {
            let unknown = Look { shelf: None, room: Condition::Unknown };
            Done::Look(blocking(move || look(&store)).await.unwrap_or(unknown))
        });
    }

    pub(super) fn looked(&mut self, look: Look) {
        if let Some(shelf) = look.shelf {
            self.inventory.shelf = shelf;
        }
        self.room = look.room;
    }
}
