//! Steps on models: what is written down before, what is done, and what is written down after.

use std::time::Duration;

use nave_agent_plan::{Class, Failed, Job, ModelInventory, Record, Step, Subject};
use nave_names::ModelName;

use nave_runtime::error_text::chain;

use super::{Done, Executor, blocking};
use crate::{
    activate::{ActivateError, Activator, ModelScan},
    observed::Condition,
    state::{Records, StateError},
    store::{COLD_TIER_FULL, DISK_FULL, StoreError},
};

/// A step that ended, and how the model's folder looks after it.
pub(super) struct ModelDone {
    step: Step,
    model: ModelName,
    outcome: Result<(), ActivateError>,
    scan: Result<ModelScan, ActivateError>,
}

impl Executor {
    pub(super) async fn start_model_step(&mut self, job: Job, step: Step) {
        let Job::Model(model) = &job else { return };
        let model = model.clone();
        if let Step::Activate { active, .. } = &step {
            // On disk before the link moves: a process killed in between finds out that it was switching.
            let begun = self.change_record(&model, step.subject(), |record| record.begin(active)).await;
            if !begun {
                return;
            }
        }
        let record = self.inventory.models.get(&model).map(|state| state.record.clone()).unwrap_or_default();
        let activator = self.activator.clone();
        let drain = self.drain.clone();
        self.spawn(job, async move {
            let outcome = tokio::select! {
                outcome = take(&activator, &model, &step, &record) => outcome,
                // Everything else is short or must end; a probe may take minutes, and asks again after the start.
                () = drain.started(), if matches!(step, Step::Probe { .. }) => Err(ActivateError::Aborted),
            };
            let scan = activator.scan(&model).await;
            Done::Model(Box::new(ModelDone { step, model, outcome, scan }))
        });
    }

    pub(super) async fn model_done(&mut self, done: ModelDone) {
        let ModelDone { step, model, outcome, scan } = done;
        let subject = step.subject();
        let word = word(&step);
        match outcome {
            Ok(()) => {
                self.metrics.step(word, true);
                self.write_down(&step, &model).await;
            }
            // It made place for a pull in the moment in which it was asked for again; the plan has it pulled.
            Err(ActivateError::Store(StoreError::NotHeld(digest))) => {
                self.inventory.held.remove(&digest);
            }
            // A file was moved since somebody looked; the plan has it brought back first.
            Err(ActivateError::Store(StoreError::OnColdTier(digest))) => {
                tracing::debug!(%model, %digest, "it is on the cold tier");
                self.look_now().await;
            }
            Err(ActivateError::Aborted) => tracing::debug!(%model, step = word, "stopped"),
            Err(error) => {
                self.metrics.step(word, false);
                if matches!(step, Step::Activate { .. } | Step::Probe { .. }) {
                    self.model(&model).switched = false;
                }
                let text = chain(&error);
                tracing::warn!(%model, step = word, reason = error.reason(), error = text, "failed");
                self.failed(subject, error.reason(), &text);
            }
        }
        match scan {
            Ok(scan) => self.scanned(&model, scan),
            Err(error) => tracing::warn!(%model, error = chain(&error), "cannot look at the model's folder"),
        }
    }

    async fn write_down(&mut self, step: &Step, model: &ModelName) {
        match step {
            Step::Stage { active, .. } => {
                tracing::info!(%model, version = %active.version, "staged");
            }
            Step::Activate { .. } => self.model(model).switched = true,
            Step::Probe { active, .. } => {
                if self.change_record(model, step.subject(), |record| record.answered(active)).await {
                    self.model(model).switched = false;
                    self.inventory.attempts.forget(&step.subject());
                    tracing::info!(%model, version = %active.version, digest = %active.digest, "serving");
                    self.start_health_check();
                }
            }
            Step::Revert { .. } => {
                if self.change_record(model, step.subject(), Record::reverted).await {
                    self.inventory.attempts.forget(&step.subject());
                    let back =
                        self.model(model).record.serving.as_ref().map(|active| active.version.to_string());
                    tracing::info!(%model, version = back.as_deref().unwrap_or("none"), "back to what was served");
                }
            }
            Step::Retire { folder, .. } => {
                self.inventory.attempts.forget(&step.subject());
                tracing::info!(%model, %folder, "retired");
            }
            Step::Remove { .. } => {
                if self.change_record(model, step.subject(), |record| *record = Record::default()).await {
                    self.inventory.attempts.forget(&step.subject());
                    tracing::info!(%model, "removed");
                }
            }
            Step::Pull { .. }
            | Step::Verify { .. }
            | Step::CancelPull { .. }
            | Step::Adopt { .. }
            | Step::Collect { .. }
            | Step::Promote { .. }
            | Step::Demote { .. } => {}
        }
    }

    /// Changes a record, on disk first. False = it could not be written, and nothing changed.
    pub(super) async fn change_record(
        &mut self,
        model: &ModelName,
        subject: Subject,
        change: impl FnOnce(&mut Record),
    ) -> bool {
        let mut record = self.model(model).record.clone();
        change(&mut record);
        let mut records: Records = self
            .inventory
            .models
            .iter()
            .filter(|(_, state)| state.record != Record::default())
            .map(|(name, state)| (name.clone(), state.record.clone()))
            .collect();
        if record == Record::default() {
            records.remove(model);
        } else {
            records.insert(model.clone(), record.clone());
        }
        let file = self.serving_file.clone();
        let store = self.activator.store().clone();
        let save = move || store.with_spare(StateError::reason, || file.save(&records));
        match blocking(save).await {
            Some(Ok(())) => {
                self.model(model).record = record;
                self.storage_trouble = None;
                true
            }
            Some(Err(error)) => {
                self.trouble(&error);
                self.failed(subject, error.reason(), &chain(&error));
                false
            }
            None => false,
        }
    }

    pub(super) fn failed(&mut self, subject: Subject, reason: &str, message: &str) {
        let class = if [DISK_FULL, COLD_TIER_FULL].contains(&reason) { Class::Room } else { Class::Failed };
        let what = Failed { reason, message, class };
        self.inventory.attempts.failed(subject, what, self.clock.now(), rand::random());
    }

    fn model(&mut self, model: &ModelName) -> &mut ModelInventory {
        self.inventory.models.entry(model.clone()).or_default()
    }

    /// Asks everything that is served whether it still works.
    pub(super) fn start_health_check(&mut self) {
        let activator = self.activator.clone();
        let served: Vec<_> = self
            .inventory
            .models
            .iter()
            .filter_map(|(model, state)| Some((model.clone(), state.record.serving.clone()?)))
            .collect();
        let damaged: Vec<String> = self
            .inventory
            .models
            .iter()
            .filter(|(_, state)| state.record.switching.is_none())
            .filter(|(_, state)| state.record.serving.as_ref().is_some_and(|serving| !state.serves(serving)))
            .map(|(model, _)| format!("{model} is damaged"))
            .collect();
        self.tasks.spawn(async move {
            let mut problems = damaged;
            for (model, serving) in &served {
                if let Err(error) = activator.check_health(model, serving).await {
                    problems.push(format!("{model} {}: {error}", serving.version));
                }
            }
            // A spoke that was looked at and has nothing to serve lacks nothing.
            Done::Health(match problems.is_empty() {
                true => Condition::Healthy,
                false => Condition::Unhealthy(problems.join("; ")),
            })
        });
    }
}

async fn take(
    activator: &Activator,
    model: &ModelName,
    step: &Step,
    record: &Record,
) -> Result<(), ActivateError> {
    let serving = record.serving.as_ref();
    match step {
        Step::Stage { active, .. } => activator.stage(model, active).await,
        Step::Activate { active, .. } => activator.activate(model, active).await,
        Step::Probe { active, timeout_seconds, .. } => {
            let patience = Duration::from_secs((*timeout_seconds).into());
            activator.probe(model, active, serving, patience).await
        }
        Step::Revert { .. } => activator.revert(model, record.switching.as_ref(), serving).await,
        Step::Retire { folder, .. } => activator.retire(model, folder).await,
        Step::Remove { .. } => activator.remove(model, serving).await,
        Step::Pull { .. }
        | Step::Verify { .. }
        | Step::CancelPull { .. }
        | Step::Adopt { .. }
        | Step::Collect { .. }
        | Step::Promote { .. }
        | Step::Demote { .. } => Ok(()),
    }
}

const fn word(step: &Step) -> &'static str {
    match step {
        Step::Pull { .. } => "pull",
        Step::Verify { .. } => "verify",
        Step::CancelPull { .. } => "cancel",
        Step::Stage { .. } => "stage",
        Step::Activate { .. } => "activate",
        Step::Probe { .. } => "probe",
        Step::Revert { .. } => "revert",
        Step::Adopt { .. } => "adopt",
        Step::Retire { .. } => "retire",
        Step::Remove { .. } => "remove",
        Step::Collect { .. } => "collect",
        Step::Promote { .. } => "promote",
        Step::Demote { .. } => "demote",
    }
}
