//! Signatures being checked: started for the plan, and what came of them written down for the next one.

use std::{future::Future, sync::Arc};

use nave_agent_plan::{EntryKey, Failed, Subject, Transfer, Vouch};
use nave_runtime::error_text::chain;
use nave_signature::Trust;
use tokio::sync::watch;

use super::{
    Executor,
    pulls::{PATIENCE, classify, limits},
};
use crate::pull::{Priority, Progress, PullError, PullRequest};

impl Executor {
    /// Gets the signature, checks it, and gives what came of it.
    pub(super) fn begin_verify(
        &self,
        key: EntryKey,
        vouch: Vouch,
        trust: &str,
        transfer: &Transfer,
    ) -> impl Future<Output = Result<(), PullError>> + Send + 'static {
        let (progress, _) = watch::channel(Progress::default());
        let request = PullRequest {
            manifest_digest: vouch.manifest,
            source: Arc::new(self.desk.source(key, vouch.manifest)),
            limits: limits(transfer),
            // It is small, and nothing of its version can begin before it.
            priority: Priority::Serve,
            patience: PATIENCE,
            progress,
            cancel: self.drain.token().clone(),
        };
        let (puller, trust) = (Arc::clone(&self.pulls.puller), Trust::from_pem(trust.as_bytes()));
        async move { puller.verify_signature(request, trust?).await }
    }

    pub(super) fn verify_done(&mut self, vouch: Vouch, outcome: Result<(), PullError>) {
        let subject = Subject::Verify(vouch);
        let digest = vouch.manifest;
        if !self.inventory.held.contains(&digest) {
            self.inventory.partial.insert(digest);
        }
        match outcome {
            Ok(()) => {
                self.metrics.step("verify", true);
                tracing::info!(%digest, "signature verified");
                self.inventory.signed.insert(vouch);
                self.inventory.attempts.forget(&subject);
            }
            Err(PullError::Cancelled) => tracing::debug!(%digest, "check of a signature stopped"),
            Err(error) => {
                self.metrics.step("verify", false);
                let (message, class) = (chain(&error), classify(&error));
                tracing::warn!(%digest, reason = error.reason(), error = message, "signature not verified");
                let what = Failed { reason: error.reason(), message: &message, class };
                self.inventory.attempts.failed(subject, what, self.clock.now(), rand::random());
            }
        }
    }
}
