//! Pulls under way: started for the plan, asked for progress, stopped when nobody wants them or their limits changed.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use nave_agent_plan::{Action, Class, EntryKey, Failed, Ledger, Subject, Transfer};
use nave_names::Digest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use nave_runtime::error_text::chain;

use super::Executor;
use crate::{
    metrics::Metrics,
    pull::{Limits, Priority, Progress, PullError, PullRequest, Puller, Window},
    session::UrlDesk,
    store::StoreError,
};

/// A pull that gets no byte for so long says so and is begun anew, which asks for new URLs and new connections.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Running {
    cancel: CancellationToken,
    progress: watch::Receiver<Progress>,
    transfer: Transfer,
    counted: Counted,
}

/// What metrics count of pulls.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    fetched: u64,
    rebuilt: u64,
    delta_refusals: u64,
}

#[derive(Debug)]
pub(super) struct Pulls {
    pub(super) puller: Arc<Puller>,
    running: BTreeMap<Digest, Running>,
}

impl Pulls {
    pub(super) const fn new(puller: Arc<Puller>) -> Self {
        Self { puller, running: BTreeMap::new() }
    }

    pub(super) fn begin(
        &mut self,
        desk: &UrlDesk,
        key: EntryKey,
        digest: Digest,
        action: Action,
        transfer: &Transfer,
    ) -> impl Future<Output = Result<(), PullError>> + Send + 'static {
        tracing::info!(model = %key.model, version = %key.version, %digest, "pulling");
        let (sender, progress) = watch::channel(Progress::default());
        let cancel = CancellationToken::new();
        let request = PullRequest {
            manifest_digest: digest,
            source: Arc::new(desk.source(key, digest)),
            limits: limits(transfer),
            priority: match action {
                Action::Serve => Priority::Serve,
                Action::Prefetch | Action::Unknown(_) => Priority::Prefetch,
            },
            patience: PATIENCE,
            progress: sender,
            cancel: cancel.clone(),
        };
        let running = Running { cancel, progress, transfer: transfer.clone(), counted: Counted::default() };
        self.running.insert(digest, running);
        let puller = Arc::clone(&self.puller);
        async move { puller.pull(request).await.map(drop) }
    }

    pub(super) fn cancel(&self, digest: &Digest) {
        if let Some(running) = self.running.get(digest) {
            running.cancel.cancel();
        }
    }

    pub(super) fn cancel_all(&self) {
        self.running.values().for_each(|running| running.cancel.cancel());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn progress(&self, digest: &Digest) -> Option<Progress> {
        Some(self.running.get(digest)?.progress.borrow().clone())
    }

    /// A pull whose limits were changed is stopped; the next plan begins it again with the new ones, where it stopped.
    pub(super) fn restart_changed(&self, next: &Ledger) {
        for (digest, running) in &self.running {
            let same = next
                .entries()
                .iter()
                .any(|entry| entry.manifest_digest == *digest && entry.transfer == running.transfer);
            if !same {
                running.cancel.cancel();
            }
        }
    }

    /// Counts what pulls did since the last call.
    pub(super) fn count(&mut self, metrics: &Metrics) {
        for running in self.running.values_mut() {
            let now = Counted::of(&running.progress.borrow());
            let before = std::mem::replace(&mut running.counted, now);
            metrics.pulled_bytes.inc_by(now.fetched.saturating_sub(before.fetched));
            metrics.rebuilt_bytes.inc_by(now.rebuilt.saturating_sub(before.rebuilt));
            metrics.delta_refusals.inc_by(now.delta_refusals.saturating_sub(before.delta_refusals));
        }
    }
}

impl Counted {
    const fn of(progress: &Progress) -> Self {
        Self {
            fetched: progress.bytes_fetched,
            rebuilt: progress.bytes_rebuilt,
            delta_refusals: progress.delta_refusals,
        }
    }
}

pub(super) fn limits(transfer: &Transfer) -> Limits {
    // Windows that could not be read were refused with the whole desired set.
    let window = |window: &nave_agent_plan::Window| {
        Window::parse(&window.days, &window.start, &window.end, &window.time_zone).ok()
    };
    Limits {
        max_bytes_per_second: (transfer.max_bytes_per_second > 0).then_some(transfer.max_bytes_per_second),
        windows: transfer.windows.iter().filter_map(window).collect(),
    }
}

impl Executor {
    pub(super) fn pull_done(&mut self, digest: Digest, outcome: Result<(), PullError>) {
        self.pulls.count(&self.metrics);
        self.pulls.running.remove(&digest);
        let subject = Subject::Pull(digest);
        self.inventory.partial.insert(digest);
        // Versions that nothing needed may have made place for it.
        let store = self.activator.store().clone();
        self.inventory.held.retain(|held| store.has(held));
        match outcome {
            Ok(()) => {
                self.metrics.step("pull", true);
                tracing::info!(%digest, "verified");
                self.inventory.partial.remove(&digest);
                self.inventory.held.insert(digest);
                self.inventory.attempts.forget(&subject);
                self.start_look();
            }
            Err(PullError::Cancelled) => tracing::debug!(%digest, "pull stopped"),
            Err(error) => {
                self.metrics.step("pull", false);
                let message = chain(&error);
                let class = classify(&error);
                tracing::warn!(%digest, reason = error.reason(), error = message, "failed to pull");
                let what = Failed { reason: error.reason(), message: &message, class };
                self.inventory.attempts.failed(subject, what, self.clock.now(), rand::random());
            }
        }
    }
}

/// Trouble on the way says nothing about the version.
pub(super) const fn classify(error: &PullError) -> Class {
    match error {
        PullError::Cancelled | PullError::SourceUnavailable { .. } => Class::Transient,
        PullError::Store(StoreError::DiskFull { .. } | StoreError::Full { .. }) => Class::Room,
        PullError::UrlsRefused { .. }
        | PullError::VersionBroken { .. }
        | PullError::Missing { .. }
        | PullError::Untrusted { .. }
        | PullError::AccessDenied { .. }
        | PullError::DigestMismatch { .. }
        | PullError::FileDigestMismatch { .. }
        | PullError::ManifestMismatch { .. }
        | PullError::ManifestRefused { .. }
        | PullError::SignatureMissing { .. }
        | PullError::SignatureRefused(_)
        | PullError::Store(_)
        | PullError::Client(_) => Class::Failed,
    }
}
