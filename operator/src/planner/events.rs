//! Transitions of policies as Kubernetes Events, for `kubectl describe`. The plan says what changed; this file only
//! publishes. Repetitions within minutes are counted in one Event by the recorder.

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

/// Publishes the planner's Events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// A publisher that names this replica in each Event.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
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
        if let Err(error) = self.recorder.publish(&published, &policy.object_ref(&())).await {
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
