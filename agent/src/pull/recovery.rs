//! What every request of one pull shares, and what is done when one fails: wait, get a new URL, or give up.

use std::{sync::Arc, time::Duration};

use nave_names::RelativePath;
use reqwest::Client;

use super::{
    PullError, Stage,
    client::Clients,
    fetch::Fetcher,
    limiter::{Limiter, Rank},
    meter::Meter,
    trouble::{Failure, Streak, Trouble},
    urls::Urls,
};

/// The means of one pull.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) clients: Clients,
    pub(super) limiter: Arc<Limiter>,
    pub(super) urls: Urls,
    pub(super) meter: Meter,
    pub(super) rank: Rank,
    pub(super) patience: Duration,
    /// Without a byte for this long, a connection is given up.
    pub(super) stall: Duration,
}

impl Recovery {
    pub(super) fn fetcher(&self) -> Fetcher<'_> {
        let (urls, limiter, meter) = (&self.urls, &self.limiter, &self.meter);
        Fetcher { urls, limiter, meter, rank: self.rank, stall: self.stall }
    }

    pub(super) fn client(&self, fresh: bool) -> Result<&Client, PullError> {
        self.clients.get(fresh)
    }

    /// Waits until weights may flow.
    pub(super) async fn wait_for_window(&self) {
        if self.limiter.is_open() {
            return;
        }
        self.meter.stage(Stage::WaitingForWindow);
        self.limiter.open().await;
        self.meter.stage(Stage::Fetching);
        self.meter.moved();
    }

    /// Waits as the trouble asks, or says why there is no use in waiting.
    pub(super) async fn recover(
        &self,
        object: &RelativePath,
        failure: Failure,
        streak: &mut Streak,
    ) -> Result<(), PullError> {
        let trouble = match failure {
            Failure::Stop(error) => return Err(error),
            Failure::Retry(trouble) => trouble,
        };
        let wait = streak.next(object.as_str(), &trouble, rand::random())?;
        match &trouble {
            Trouble::WindowClosed => return Ok(()),
            Trouble::Refused { .. } => self.urls.forget(object),
            Trouble::Throttled { .. } => self.limiter.throttled(),
            Trouble::Stalled(_) => self.meter.change(|progress| progress.stalls += 1),
            Trouble::Connection(_)
            | Trouble::Untrusted(_)
            | Trouble::Short { .. }
            | Trouble::Server(_)
            | Trouble::Wrong(_)
            | Trouble::NoUrl(_)
            | Trouble::Corrupt => {}
        }
        let cause = trouble;
        let trouble = format!("{object}: {cause}");
        tracing::debug!(%trouble, wait = ?wait, "fetching again");
        self.meter.change(|progress| {
            progress.retries += 1;
            progress.trouble.clone_from(&trouble);
        });
        let quiet = self.meter.quiet_for();
        if quiet > self.patience {
            if let Trouble::Refused { message, .. } = cause {
                return Err(PullError::AccessDenied { object: object.to_string(), message });
            }
            return Err(PullError::SourceUnavailable { waited_seconds: quiet.as_secs(), trouble });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
pub(super) mod tests;
