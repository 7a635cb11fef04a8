//! From plan and progress to what the session and the metrics show.

use std::sync::Arc;

use nave_agent_plan::{Phase, Plan, Row};
use nave_names::Digest;

use super::Executor;
use crate::{
    observed::{Condition, Observed, Reported},
    pull::{Progress, Stage},
    store::COLD_TIER_FULL,
};

/// Every phase, so that one that nothing is in any more goes to 0.
const PHASES: [(Phase, &str); 9] = [
    (Phase::Pending, "pending"),
    (Phase::Pulling, "pulling"),
    (Phase::Verifying, "verifying"),
    (Phase::Staged, "staged"),
    (Phase::Activating, "activating"),
    (Phase::Serving, "serving"),
    (Phase::Failed, "failed"),
    (Phase::Rejected, "rejected"),
    (Phase::Removing, "removing"),
];

/// Every state of the store, likewise.
const STATES: [&str; 4] = ["unknown", "healthy", "notice", "unhealthy"];

fn state(condition: &Condition) -> &'static str {
    match condition {
        Condition::Unknown => "unknown",
        Condition::Healthy => "healthy",
        Condition::Notice(_) => "notice",
        Condition::Unhealthy(_) => "unhealthy",
    }
}

impl Executor {
    pub(super) fn publish(&mut self, plan: &Plan) {
        self.pulls.count(&self.metrics);
        self.metrics.generation.set(self.ledger.generation().0.cast_signed());
        let rows: Vec<Reported> = plan.rows.iter().map(|row| self.with_progress(row)).collect();
        self.metrics.versions(PHASES.iter().map(|(phase, word)| {
            let count = rows.iter().filter(|reported| reported.row.phase == *phase).count();
            (*word, i64::try_from(count).unwrap_or(i64::MAX))
        }));
        let storage = self.storage(plan);
        self.metrics.storage(STATES.iter().map(|word| (*word, *word == state(&storage))));
        let held = self.ledger.entries().iter().map(|entry| (entry.key.clone(), entry.manifest_digest));
        let next = Observed {
            generation: self.ledger.generation(),
            held: held.collect(),
            rows,
            storage,
            serving: self.serving.clone(),
        };
        self.observed.send_if_modified(|current| {
            let changed = **current != next;
            if changed {
                *current = Arc::new(next);
            }
            changed
        });
    }

    fn with_progress(&self, row: &Row) -> Reported {
        let mut reported = Reported { row: row.clone(), bytes_done: 0, bytes_total: 0 };
        let Some(progress) = self.desired_digest(row).and_then(|digest| self.pulls.progress(&digest)) else {
            return reported;
        };
        reported.bytes_done = progress.bytes_done;
        reported.bytes_total = progress.bytes_total;
        if row.phase == Phase::Pulling {
            overlay(&mut reported.row, &progress);
        }
        reported
    }

    fn desired_digest(&self, row: &Row) -> Option<Digest> {
        let entry = self.ledger.entries().iter().find(|entry| {
            entry.key.namespace == row.namespace
                && entry.key.model == row.model
                && entry.key.version == row.version
        })?;
        Some(entry.manifest_digest)
    }

    fn storage(&mut self, plan: &Plan) -> Condition {
        if let Some(trouble) = &self.storage_trouble {
            return Condition::Unhealthy(trouble.clone());
        }
        // A version that is asked for and does not fit; its words have the numbers.
        if let Some(failure) = self.inventory.attempts.for_room() {
            return Condition::Unhealthy(failure.message.clone());
        }
        if self.room != Condition::Healthy {
            return self.room.clone();
        }
        // A version that finds no place on the cold tier keeps nothing from coming, as long as the hot one has room.
        if let Some(blocked) = &plan.blocked {
            return Condition::Notice(self.say_blocked(blocked));
        }
        self.blocked = None;
        match self.inventory.attempts.for_cold_room() {
            Some(failure) => Condition::Notice(format!("{COLD_TIER_FULL}: {}", failure.message)),
            None => Condition::Healthy,
        }
    }
}

fn overlay(row: &mut Row, progress: &Progress) {
    match progress.stage {
        Stage::Manifest | Stage::Checking | Stage::Fetching => {}
        Stage::WaitingForWindow => {
            row.phase = Phase::Pending;
            row.reason = "Window".to_owned();
            row.message = "waits for its transfer window".to_owned();
        }
        Stage::Verifying | Stage::Publishing | Stage::Complete => row.phase = Phase::Verifying,
    }
}
