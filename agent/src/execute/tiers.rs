//! Moves between the tiers of the store: started for the plan, stopped when the agent ends, and what came of them.

use nave_agent_plan::{Blocked, Plan, Step, Subject};
use nave_names::Digest;
use nave_runtime::error_text::chain;
use tokio_util::sync::CancellationToken;

use super::{Done, Executor, blocking};
use crate::store::{COLD_TIER_FULL, Moved, StoreError};

const HOT: &str = "hot";
const COLD: &str = "cold";

/// A move that ended.
pub(super) struct MoveDone {
    step: Step,
    outcome: Result<Moved, StoreError>,
}

impl Executor {
    pub(super) fn start_move(&mut self, step: Step) {
        let (store, drain) = (self.activator.store().clone(), self.drain.clone());
        let gives_way = CancellationToken::new();
        self.move_gives_way = gives_way.clone();
        self.spawn(step.job(), async move {
            let planned = step.clone();
            let work = move || {
                let stop = || drain.is_started() || gives_way.is_cancelled();
                match planned {
                    Step::Promote { digest } => store.promote(&digest, &stop),
                    Step::Demote { digest } => store.demote(&digest, &stop),
                    Step::Pull { .. }
                    | Step::Verify { .. }
                    | Step::CancelPull { .. }
                    | Step::Stage { .. }
                    | Step::Activate { .. }
                    | Step::Probe { .. }
                    | Step::Revert { .. }
                    | Step::Adopt { .. }
                    | Step::Retire { .. }
                    | Step::Remove { .. }
                    | Step::Collect { .. } => Ok(Moved::default()),
                }
            };
            let outcome = blocking(work).await.unwrap_or(Err(StoreError::Stopped));
            Done::Move(MoveDone { step, outcome })
        });
    }

    pub(super) async fn move_done(&mut self, MoveDone { step, outcome }: MoveDone) {
        let subject = step.subject();
        let Some((digest, to)) = moving(&subject) else { return };
        let word = if to == HOT { "promote" } else { "demote" };
        match outcome {
            Ok(moved) => {
                self.metrics.step(word, true);
                self.inventory.attempts.forget(&subject);
                tracing::info!(%digest, to, files = moved.files, bytes = moved.bytes, "moved to another tier");
            }
            Err(StoreError::Stopped) => tracing::debug!(%digest, step = word, "stopped"),
            // It went while it waited for its turn.
            Err(StoreError::NotHeld(digest)) => {
                self.inventory.held.remove(&digest);
            }
            Err(error) => {
                self.metrics.step(word, false);
                let text = chain(&error);
                tracing::warn!(%digest, step = word, reason = error.reason(), error = text, "failed");
                self.failed(subject, error.reason(), &text);
            }
        }
        // A damaged file took its versions out of the store, and room may have been made.
        let store = self.activator.store().clone();
        self.inventory.held.retain(|held| store.has(held));
        self.look_now().await;
    }

    /// What failed and is not to be done any more says nothing.
    pub(super) fn forget_moot_moves(&mut self, plan: &Plan) {
        let held = &self.inventory.held;
        self.inventory.attempts.retain(|subject| {
            let is_moot = |(digest, to)| !held.contains(&digest) || plan.hot.contains(&digest) != (to == HOT);
            !moving(subject).is_some_and(is_moot)
        });
    }

    /// The words for what does not fit on the cold tier, with the numbers of when it came to that: what is free on a disk
    /// changes all the time, and this may stand for weeks.
    pub(super) fn say_blocked(&mut self, blocked: &Blocked) -> String {
        if let Some((said, words)) = &self.blocked
            && (&said.versions, said.bytes) == (&blocked.versions, blocked.bytes)
        {
            return words.clone();
        }
        let words = format!(
            "{COLD_TIER_FULL}: {} bytes of {} versions that are kept and not served do not fit on the cold tier; {}",
            blocked.bytes,
            blocked.versions.len(),
            self.tiers
        );
        self.blocked = Some((blocked.clone(), words.clone()));
        words
    }
}

/// The version that moves, and to which tier.
fn moving(subject: &Subject) -> Option<(Digest, &'static str)> {
    match subject {
        Subject::Promote(digest) => Some((*digest, HOT)),
        Subject::Demote(digest) => Some((*digest, COLD)),
        Subject::Pull(_)
        | Subject::Verify(_)
        | Subject::Switch(..)
        | Subject::Revert(_)
        | Subject::Tidy(_)
        | Subject::Remove(_)
        | Subject::Collect => None,
    }
}
