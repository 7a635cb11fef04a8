//! Transitions of policies as Kubernetes Events, for `kubectl describe`. The plan says what changed; this file only
//! publishes. Repetitions of the same words within minutes are counted in one Event.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{
    Client, Resource as _,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use nave_crds::PlacementPolicy;
use nave_operator_plan::{PlanEvent, Severity};
use nave_runtime::error_text::chain;

const CONTROLLER: &str = "nave.dev/planner";
/// The API server takes notes of at most 1 KiB.
const LONGEST_NOTE: usize = 1000;

/// For how long a recorder counts repetitions.
const COUNTED: Duration = Duration::from_secs(360);

/// Publishes the planner's Events.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    recorders: Arc<Mutex<Recorders>>,
}

/// By note, with when each was used last: a recorder counts what has the same reason in one Event, whose note stays that of the
/// first. The start of another version's rollout is no repetition.
type Recorders = BTreeMap<String, (Instant, Recorder)>;

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// A publisher that names this replica in each Event.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(instance.to_owned()) };
        Self { client, reporter, recorders: Arc::default() }
    }

    fn recorder(&self, note: &str, now: Instant) -> Recorder {
        let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        recorders.retain(|_, (used, _)| now.duration_since(*used) < COUNTED);
        let new = || (now, Recorder::new(self.client.clone(), self.reporter.clone()));
        let (used, recorder) = recorders.entry(note.to_owned()).or_insert_with(new);
        *used = now;
        recorder.clone()
    }

    /// Publishes one; a failure is logged and costs nothing else.
    pub async fn publish(&self, policy: &PlacementPolicy, event: &PlanEvent) {
        let published = Event {
            type_: match event.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: event.reason.to_owned(),
            note: Some(shortened(&event.note)),
            action: "Planning".to_owned(),
            secondary: None,
        };
        let recorder = self.recorder(&event.note, Instant::now());
        if let Err(error) = recorder.publish(&published, &policy.object_ref(&())).await {
            tracing::warn!(policy = %event.policy, reason = event.reason, error = %chain(&error), "cannot publish an Event");
        }
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= LONGEST_NOTE {
        return note.to_owned();
    }
    let mut end = LONGEST_NOTE;
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_between_characters() {
        let note = "é".repeat(600);
        let short = shortened(&note);
        assert!(short.len() < 1024 && short.ends_with('…'));
        assert_eq!(shortened("short"), "short");
    }
}
