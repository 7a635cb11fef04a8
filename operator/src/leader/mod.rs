//! Which replica plans: an election by Lease, after the rules of client-go's leaderelection, and a fence.
//!
//! A leader counts as one only while its Lease is surely held: until two thirds of the Lease's duration after the
//! start of the last renewal that succeeded, by the monotonic clock. Others take over after the whole duration, so a
//! leader that cannot renew has stopped well before. `app` starts it; planner, resolver and sweep ask
//! [`Leadership::held`] before each write.

pub mod gateway;
pub mod lease;
pub mod sweep;

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use lease::{Claim, LeaseClient, LeaseError, Seen, Step, next_step};
use nave_runtime::error_text::chain;

/// Name of the Lease that the planning replica holds.
pub const PLANNER_LEASE: &str = "nave-planner";

/// Whether this replica leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
}

impl Leadership {
    /// One that is held for so long without a Lease.
    #[cfg(test)]
    pub(crate) fn held_for(duration: Duration) -> Self {
        Self { until: watch::channel(Some(Instant::now() + duration)).1 }
    }

    /// Whether the Lease is surely held at this moment.
    pub fn held(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until it is held. False = the election ended: the process stops.
    pub async fn acquired(&mut self) -> bool {
        while !self.held() {
            if self.until.changed().await.is_err() {
                return false;
            }
        }
        true
    }

    /// Waits until it is no longer surely held.
    pub async fn lost(&mut self) {
        loop {
            let Some(until) = *self.until.borrow_and_update() else { return };
            if Instant::now() >= until {
                return;
            }
            tokio::select! {
                changed = self.until.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

/// Starts the election; it ends, and gives the Lease up, when `stop` is cancelled. Await the handle before exiting,
/// or another replica waits for the Lease to expire.
pub fn start(
    client: &Client,
    namespace: &str,
    identity: &str,
    duration: Duration,
    stop: CancellationToken,
) -> (Leadership, tokio::task::JoinHandle<()>) {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let claim =
        Claim { name: PLANNER_LEASE.to_owned(), role: "planner", identity: identity.to_owned(), duration };
    let (until, receiver) = watch::channel(None);
    let election = Election { leases: LeaseClient::new(api.clone(), claim), api, until, seen: None };
    (Leadership { until: receiver }, tokio::spawn(election.run(stop)))
}

struct Election {
    leases: LeaseClient,
    api: Api<Lease>,
    until: watch::Sender<Option<Instant>>,
    seen: Option<Seen>,
}

impl Election {
    async fn run(mut self, stop: CancellationToken) {
        let only_ours = watcher::Config::default().fields(&format!("metadata.name={PLANNER_LEASE}"));
        let events = watcher::watcher(self.api.clone(), only_ours).default_backoff();
        let mut events = std::pin::pin!(events);
        self.look().await;
        loop {
            let next = self.act().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next) => {}
                event = events.next() => self.observe(event),
            }
        }
        self.resign().await;
    }

    /// Does what is due and says when to look again, if nothing happens before.
    async fn act(&mut self) -> Instant {
        let now = Instant::now();
        let step = next_step(self.leases.claim(), self.seen.as_ref(), now);
        match &step {
            Step::WaitUntil(at) => {
                self.set(None);
                return *at;
            }
            Step::Renew => match self.renewal_due() {
                Some(due) if now < due => return due,
                Some(_) | None => {}
            },
            Step::Create | Step::Take => {}
        }
        match self.leases.write(&step, self.seen.as_ref(), jiff::Timestamp::now()).await {
            Ok(Some(lease)) => {
                self.saw(Some(lease), now);
                self.set(Some(now + self.sure_for()));
                now + self.renew_every()
            }
            Ok(None) => now + self.renew_every(),
            Err(error) => {
                self.failed(&error).await;
                // Often enough to succeed before the Lease is lost, rarely enough for a struggling API server.
                Instant::now() + self.leases.claim().duration / 10
            }
        }
    }

    async fn failed(&mut self, error: &LeaseError) {
        match error {
            LeaseError::Conflict { .. } => tracing::debug!("another replica wrote the planner's Lease"),
            LeaseError::Api { .. } | LeaseError::Timeout { .. } => {
                tracing::warn!(error = %chain(error), "cannot write the planner's Lease");
            }
        }
        self.look().await;
    }

    async fn look(&mut self) {
        match self.leases.read().await {
            Ok(lease) => self.saw(lease, Instant::now()),
            Err(error) => tracing::warn!(error = %chain(&error), "cannot read the planner's Lease"),
        }
    }

    fn observe(&mut self, event: Option<Result<watcher::Event<Lease>, watcher::Error>>) {
        match event {
            Some(Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease))) => {
                self.saw(Some(lease), Instant::now());
            }
            Some(Ok(watcher::Event::Delete(_))) => self.saw(None, Instant::now()),
            Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) | None => {}
            Some(Err(error)) => tracing::debug!(%error, "watch of the planner's Lease interrupted"),
        }
    }

    /// Remembers the Lease; `since` moves only when it really changed. What is older than what was seen (a watch
    /// lags behind our own writes) is ignored.
    fn saw(&mut self, lease: Option<Lease>, at: Instant) {
        let Some(lease) = lease else {
            self.seen = None;
            self.set(None);
            return;
        };
        let version =
            |lease: &Lease| lease.metadata.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
        match &self.seen {
            Some(seen)
                if seen.lease.metadata.uid == lease.metadata.uid
                    && version(&lease) <= version(&seen.lease) => {}
            Some(_) | None => self.seen = Some(Seen { lease, since: at }),
        }
    }

    fn set(&self, until: Option<Instant>) {
        let was = self.until.send_replace(until);
        if was.is_some() != until.is_some() {
            let identity = &self.leases.claim().identity;
            match until {
                Some(_) => tracing::info!(identity, "this replica plans"),
                None => tracing::info!(identity, "this replica does not plan"),
            }
        }
    }

    async fn resign(&mut self) {
        let led = self.until.borrow().is_some();
        self.set(None);
        let Some(seen) = self.seen.as_ref().filter(|_| led) else { return };
        if let Err(error) = self.leases.release(&seen.lease).await {
            tracing::info!(error = %chain(&error), "the planner's Lease was not given up; it will expire");
        }
    }

    fn renewal_due(&self) -> Option<Instant> {
        let until = *self.until.borrow();
        until.and_then(|until| until.checked_sub(self.sure_for())).map(|renewed| renewed + self.renew_every())
    }

    fn renew_every(&self) -> Duration {
        self.leases.claim().duration / 3
    }

    /// How long a renewal counts for ourselves; others wait a third longer.
    fn sure_for(&self) -> Duration {
        self.leases.claim().duration * 2 / 3
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    use super::*;
    use crate::watch::testing;

    #[tokio::test]
    async fn a_leader_stops_before_another_may_begin() {
        let claim = |identity: &str| Claim {
            name: PLANNER_LEASE.into(),
            role: "planner",
            identity: identity.into(),
            duration: Duration::from_secs(15),
        };
        let api: Api<Lease> = Api::namespaced(testing::client(), "nave-system");
        let election = Election {
            leases: LeaseClient::new(api.clone(), claim("a")),
            api,
            until: watch::channel(None).0,
            seen: None,
        };
        let renewed = Instant::now();
        let spec = LeaseSpec {
            holder_identity: Some("a".into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        let lease = Lease { spec: Some(spec), ..Lease::default() };
        let seen = Seen { lease, since: renewed };
        let (renews, stops) = (renewed + election.renew_every(), renewed + election.sure_for());
        assert!(renews < stops, "a leader that can renew stays one");
        let other = next_step(&claim("b"), Some(&seen), stops);
        assert!(matches!(other, Step::WaitUntil(at) if at > stops), "{other:?}");
    }
}
