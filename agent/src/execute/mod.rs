//! Drives the plan: the one task that owns the ledger, the records and the inventory. It plans, starts the steps, and
//! plans again whenever something was told, has ended, or is due. Nothing else changes what is served.

mod begin;
mod collect;
mod imports;
mod look;
mod model_step;
mod publish;
mod pulls;
mod signatures;
mod tiers;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use nave_agent_plan::{
    Attempts, Blocked, Desired, EntryKey, EntryRefusal, Imports, Inventory, Job, Ledger, Plan, Refusal, Step,
    Subject, Vouch, plan, refusals,
};
use nave_names::{Digest, ModelName};
use nave_runtime::drain::Drain;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{self, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use nave_runtime::error_text::chain;

use crate::{
    activate::{Activator, ModelScan},
    metrics::Metrics,
    observed::{Condition, Observed},
    pull::PullError,
    session::UrlDesk,
    state::{StateError, StateFile},
    store::Roots,
};
use collect::{Collected, collect};
use imports::Notice;
use look::Look;
use model_step::ModelDone;
use pulls::Pulls;
use tiers::MoveDone;

pub use begin::Parts;
pub(crate) use imports::News;

/// Progress of pulls is looked at this often while there are any.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// What is served and the store's room are looked at this often.
const HEALTH_EVERY: Duration = Duration::from_secs(30);
/// A step that is under way when the agent is told to end gets this long; a hook may be at work.
const DRAIN_PATIENCE: Duration = Duration::from_secs(8);

/// What the hub told, and what became of it.
struct Told {
    desired: Desired,
    outcome: oneshot::Sender<Result<Vec<(EntryKey, EntryRefusal)>, Refusal>>,
}

/// The executor's front: takes what the hub tells, and what an import brings.
#[derive(Clone, Debug)]
pub struct Spoke {
    told: mpsc::Sender<Told>,
    notify: mpsc::Sender<Notice>,
}

impl Spoke {
    /// Takes a desired set over or refuses it. It is on disk when this returns. `None` = the agent is ending.
    pub async fn tell(&self, desired: Desired) -> Option<Result<Vec<(EntryKey, EntryRefusal)>, Refusal>> {
        let (outcome, answer) = oneshot::channel();
        self.told.send(Told { desired, outcome }).await.ok()?;
        answer.await.ok()
    }
}

/// Time that never jumps: a retry must not wait for a clock that was set back.
#[derive(Clone, Copy, Debug)]
struct Clock {
    wall: Timestamp,
    at: Instant,
}

impl Clock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.at.elapsed()).unwrap_or(SignedDuration::MAX);
        self.wall.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}

/// What ended.
enum Done {
    Pull(Digest, Result<(), PullError>),
    Verify(Vouch, Result<(), PullError>),
    Model(Box<ModelDone>),
    Collect(Collected),
    Move(MoveDone),
    Look(Look),
    Health(Condition),
}

/// The task.
pub struct Executor {
    ledger_file: StateFile,
    serving_file: StateFile,
    ledger: Ledger,
    imports_file: StateFile,
    imports: Imports,
    inventory: Inventory,
    roots: Option<BTreeSet<Digest>>,
    activator: Activator,
    pulls: Pulls,
    desk: UrlDesk,
    tasks: JoinSet<Done>,
    jobs: HashMap<task::Id, Job>,
    serving: Condition,
    storage_trouble: Option<String>,
    room: Condition,
    tiers: String,
    blocked: Option<(Blocked, String)>,
    /// Stops the move between the tiers that is under way.
    move_gives_way: CancellationToken,
    observed: watch::Sender<Arc<Observed>>,
    told: mpsc::Receiver<Told>,
    notices: mpsc::Receiver<Notice>,
    metrics: Metrics,
    clock: Clock,
    drain: Drain,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("generation", &self.ledger.generation()).finish_non_exhaustive()
    }
}

impl Executor {
    /// Runs until the agent drains.
    pub async fn run(mut self) {
        let mut progress = interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = interval(HEALTH_EVERY);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let drain = self.drain.clone();
        while !drain.is_started() {
            let plan = plan(&self.ledger, &self.inventory, self.clock.now());
            self.protect(&plan).await;
            self.forget_moot_moves(&plan);
            if plan.gives_way {
                self.move_gives_way.cancel();
            }
            for step in plan.steps.clone() {
                self.start(step).await;
            }
            // What was just started shows in the rows too.
            let plan = nave_agent_plan::plan(&self.ledger, &self.inventory, self.clock.now());
            self.publish(&plan);
            let until_due = self.until_due(&plan);
            tokio::select! {
                () = drain.started() => {}
                Some(told) = self.told.recv() => self.take(told).await,
                Some(notice) = self.notices.recv() => self.take_notice(notice).await,
                Some(done) = self.tasks.join_next_with_id() => self.take_done(done).await,
                _ = progress.tick(), if !self.pulls.is_empty() => {}
                _ = health.tick() => {
                    self.start_health_check();
                    self.start_look();
                    self.retry_writing().await;
                }
                () = self.desk.opened() => self.inventory.attempts.retry_transient(self.clock.now()),
                () = sleep(until_due) => {}
            }
        }
        self.finish().await;
    }

    fn until_due(&self, plan: &Plan) -> Duration {
        // With steps left over, something could not be started: soon again, but not at once.
        let Some(at) = plan.recheck_at else { return Duration::from_secs(3600) };
        let wait = Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default();
        wait + Duration::from_millis(10)
    }

    /// Writes down what must stay in the store before anything relies on it.
    async fn protect(&mut self, plan: &Plan) {
        // Without having been told anything, all stays where it is.
        let hot = self.ledger.is_told().then(|| plan.hot.clone());
        self.activator.store().keep_hot(hot);
        if self.roots.as_ref() == Some(&plan.roots) {
            return;
        }
        let asked: BTreeSet<Digest> =
            self.ledger.entries().iter().map(|entry| entry.manifest_digest).collect();
        let why = |digest: &Digest| match digest {
            digest if asked.contains(digest) => "desired",
            digest if self.inventory.imported.contains(digest) => "imported",
            digest if self.inventory.importing.contains(digest) => "being imported",
            _ => "to go back to",
        };
        let roots = Roots(plan.roots.iter().map(|digest| (*digest, why(digest).to_owned())).collect());
        let store = self.activator.store().clone();
        match blocking(move || store.set_roots(&roots)).await {
            Some(Ok(())) => {
                self.roots = Some(plan.roots.clone());
                self.storage_trouble = None;
            }
            Some(Err(error)) => self.trouble(&error),
            None => {}
        }
    }

    fn trouble(&mut self, error: &dyn std::error::Error) {
        let text = chain(error);
        tracing::warn!(error = text, "cannot write the agent's state");
        self.storage_trouble = Some(text);
    }

    async fn take(&mut self, Told { desired, outcome }: Told) {
        let generation = desired.generation;
        let result = match self.ledger.accept(&desired) {
            Err(refusal) => Err(refusal),
            Ok(next) => {
                let saved = self.save_ledger(&next).await;
                if let Some(problem) = saved.err() {
                    // Not durable means not accepted: the hub tells it again with the next connection.
                    Err(Refusal::Malformed(format!("this spoke cannot write its ledger: {problem}")))
                } else {
                    self.told_anew(&next, &desired);
                    self.ledger = next;
                    self.settle_imports().await;
                    tracing::info!(%generation, entries = self.ledger.entries().len(), "told");
                    Ok(refusals(&self.ledger, &self.inventory).into_iter().collect())
                }
            }
        };
        if outcome.send(result).is_err() {
            tracing::debug!(%generation, "the session that told this has ended");
        }
    }

    async fn save_ledger(&mut self, next: &Ledger) -> Result<(), String> {
        if *next == self.ledger {
            return Ok(());
        }
        self.write_ledger(next.clone()).await
    }

    /// What could not be written may be by now.
    async fn retry_writing(&mut self) {
        if self.storage_trouble.is_some() {
            // What comes of it is in the condition.
            drop(self.write_ledger(self.ledger.clone()).await);
        }
    }

    async fn write_ledger(&mut self, content: Ledger) -> Result<(), String> {
        let (file, store) = (self.ledger_file.clone(), self.activator.store().clone());
        let save = move || store.with_spare(StateError::reason, || file.save(&content));
        match blocking(save).await {
            Some(Ok(())) => {
                self.storage_trouble = None;
                Ok(())
            }
            Some(Err(error)) => {
                self.trouble(&error);
                Err(chain(&error))
            }
            None => Err("the agent is ending".to_owned()),
        }
    }

    /// What failed is forgotten for entries that changed or were told again: the hub wants another try.
    fn told_anew(&mut self, next: &Ledger, desired: &Desired) {
        let attempts: &mut Attempts = &mut self.inventory.attempts;
        let known = self.ledger.entries();
        for entry in &desired.entries {
            if desired.base.is_some() || !known.contains(entry) {
                attempts.forget(&Subject::Pull(entry.manifest_digest));
                attempts.forget(&Subject::Promote(entry.manifest_digest));
                entry.vouch().into_iter().for_each(|vouch| attempts.forget(&Subject::Verify(vouch)));
                attempts.forget(&Subject::Switch(entry.key.model.clone(), entry.manifest_digest));
            }
        }
        attempts.retain(|subject| match subject {
            Subject::Pull(digest) => next.entries().iter().any(|entry| entry.manifest_digest == *digest),
            Subject::Verify(vouch) => next.entries().iter().any(|entry| entry.vouch() == Some(*vouch)),
            Subject::Switch(model, digest) => next
                .entries()
                .iter()
                .any(|entry| entry.key.model == *model && entry.manifest_digest == *digest),
            Subject::Revert(_)
            | Subject::Tidy(_)
            | Subject::Remove(_)
            | Subject::Collect
            | Subject::Promote(_)
            | Subject::Demote(_) => true,
        });
        self.pulls.restart_changed(next);
    }

    async fn start(&mut self, step: Step) {
        let job = step.job();
        match step {
            Step::Pull { key, digest, action, transfer } => {
                let pull = self.pulls.begin(&self.desk, key, digest, action, &transfer);
                self.spawn(job, async move { Done::Pull(digest, pull.await) });
            }
            Step::Verify { key, vouch, trust, transfer } => {
                let verify = self.begin_verify(key, vouch, &trust, &transfer);
                self.spawn(job, async move { Done::Verify(vouch, verify.await) });
            }
            Step::CancelPull { digest } => self.pulls.cancel(&digest),
            // What the store collects by is on its disk: until that is this plan's, nothing is collected.
            Step::Collect { roots, .. } if self.roots.as_ref() != Some(&roots) => {}
            Step::Collect { versions, .. } => {
                let collect = collect(self.activator.store().clone(), versions);
                self.spawn(job, async move { Done::Collect(collect.await) });
            }
            step @ (Step::Promote { .. } | Step::Demote { .. }) => self.start_move(step),
            Step::Adopt { model, active } => {
                let subject = Subject::Tidy(model.clone());
                self.change_record(&model, subject, |record| record.adopt(&active)).await;
            }
            step @ (Step::Stage { .. }
            | Step::Activate { .. }
            | Step::Probe { .. }
            | Step::Revert { .. }
            | Step::Retire { .. }
            | Step::Remove { .. }) => self.start_model_step(job, step).await,
        }
    }

    fn spawn(&mut self, job: Job, work: impl Future<Output = Done> + Send + 'static) {
        let id = self.tasks.spawn(work).id();
        self.jobs.insert(id, job.clone());
        self.inventory.running.insert(job);
    }

    async fn take_done(&mut self, done: Result<(task::Id, Done), JoinError>) {
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        if let Some(job) = self.jobs.remove(&id) {
            self.inventory.running.remove(&job);
        }
        match done.map(|(_, done)| done) {
            Ok(Done::Pull(digest, outcome)) => self.pull_done(digest, outcome),
            Ok(Done::Verify(vouch, outcome)) => self.verify_done(vouch, outcome),
            Ok(Done::Model(done)) => self.model_done(*done).await,
            Ok(Done::Collect(outcome)) => self.collect_done(outcome),
            Ok(Done::Move(done)) => self.move_done(done).await,
            Ok(Done::Look(look)) => self.looked(look),
            Ok(Done::Health(condition)) => self.serving = condition,
            // The plan starts it again from what is on disk.
            Err(error) => tracing::error!(%error, "a step broke off"),
        }
    }

    fn scanned(&mut self, model: &ModelName, scan: ModelScan) {
        let state = self.inventory.models.entry(model.clone()).or_default();
        state.folders = scan.folders;
        state.linked = scan.linked;
        if state.is_empty() {
            self.inventory.models.remove(model);
        }
    }

    /// What is under way ends or is told to: pulls keep what they have, a step on a model is finished.
    async fn finish(mut self) {
        self.pulls.cancel_all();
        let all = async {
            while let Some(done) = self.tasks.join_next_with_id().await {
                self.take_done(done).await;
            }
        };
        if timeout(DRAIN_PATIENCE, all).await.is_err() {
            tracing::warn!("a step did not end in time; the next start goes on with it");
        }
        tracing::info!("drained");
    }
}

/// Blocking work; `None` = it broke off.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    task::spawn_blocking(work).await.ok()
}
