//! Dropping from the store what nothing needs: carried out as planned, and what the store holds after it.

use std::collections::BTreeSet;

use nave_agent_plan::Subject;
use nave_names::Digest;
use nave_runtime::error_text::chain;

use super::{
    Executor, blocking,
    look::{Look, look},
};
use crate::store::{GcReport, Store, StoreError};

/// What a collection came to, and what the store holds after it: complete versions, parts of others, and the room.
pub(super) type Collected = Result<(GcReport, Vec<Digest>, Vec<Digest>, Look), StoreError>;

impl Executor {
    pub(super) fn collect_done(&mut self, outcome: Collected) {
        match outcome {
            Ok((report, held, unfinished, look)) => {
                self.metrics.step("collect", true);
                if !report.versions.is_empty() {
                    tracing::info!(versions = report.versions.len(), bytes = report.bytes, "collected");
                }
                self.inventory.held = held.into_iter().collect();
                self.inventory.partial = unfinished.into_iter().collect();
                self.inventory.attempts.forget(&Subject::Collect);
                self.looked(look);
            }
            Err(error) => {
                self.metrics.step("collect", false);
                self.failed(Subject::Collect, error.reason(), &chain(&error));
            }
        }
    }
}

pub(super) async fn collect(store: Store, versions: BTreeSet<Digest>) -> Collected {
    let collect = move || {
        let report = store.evict(&versions)?;
        Ok((report, store.held()?, store.unfinished()?, look(&store)))
    };
    blocking(collect)
        .await
        .unwrap_or(Err(StoreError::Damaged { what: "the collection broke off: something".to_owned() }))
}
