//! One coordination.k8s.io Lease: reading it, taking it, renewing it, giving it up. What to do is decided by the pure
//! [`next_step`]; every write carries the resourceVersion it was decided on, so two who decide at once cannot both win.
//! Used by the election in `leader` and for the Lease that says a gateway is alive.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use tokio::time::Instant;

/// Label of every Lease of ours; its value says what for.
pub const ROLE_LABEL: &str = "nave.dev/lease";

/// What a Lease is about, and who we are.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The Lease's name.
    pub name: String,
    /// Value of [`ROLE_LABEL`].
    pub role: &'static str,
    /// Who holds it when we do.
    pub identity: String,
    /// After this long without a renewal others may take it.
    pub duration: Duration,
}

/// A Lease as we last saw it, and since when it has looked so by our own clock. Clocks of others decide nothing.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object.
    pub lease: Lease,
    /// When this state of it was first seen.
    pub since: Instant,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: create it.
    Create,
    /// Nobody holds it any more: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Another holds it: look again then, if nothing changes before.
    WaitUntil(Instant),
}

/// What to do, given what was seen last.
pub fn next_step(claim: &Claim, seen: Option<&Seen>, now: Instant) -> Step {
    let Some(seen) = seen else { return Step::Create };
    let spec = seen.lease.spec.as_ref();
    let holder = spec.and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
    if holder.is_empty() {
        return Step::Take;
    }
    if holder == claim.identity {
        return Step::Renew;
    }
    let expires = seen.since + holder_duration(&seen.lease).unwrap_or(claim.duration);
    if now >= expires { Step::Take } else { Step::WaitUntil(expires) }
}

/// How long the holder's claim lasts without a renewal, as it wrote it itself.
pub fn holder_duration(lease: &Lease) -> Option<Duration> {
    let seconds = lease.spec.as_ref()?.lease_duration_seconds?;
    Some(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// Why a Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server's answer.
    #[error("failed to {verb} Lease {name}{hint}")]
    Api {
        /// What was attempted.
        verb: &'static str,
        /// On which Lease.
        name: String,
        /// What to look at.
        hint: &'static str,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer.
    #[error("no answer within {timeout:?} when trying to {verb} Lease {name}")]
    Timeout {
        /// What was attempted.
        verb: &'static str,
        /// On which Lease.
        name: String,
        /// For how long it was waited.
        timeout: Duration,
    },
    /// Someone else wrote it since we looked.
    #[error("Lease {name} was written by another since it was read")]
    Conflict {
        /// Which Lease.
        name: String,
    },
}

/// Reads and writes one Lease.
#[derive(Clone, Debug)]
pub struct LeaseClient {
    api: Api<Lease>,
    claim: Claim,
}

impl LeaseClient {
    /// For the claim's Lease in the Api's namespace.
    pub fn new(api: Api<Lease>, claim: Claim) -> Self {
        Self { api, claim }
    }

    /// What it claims.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The Lease as it is now.
    ///
    /// # Errors
    /// [`LeaseError`] when the API server refuses or does not answer.
    pub async fn read(&self) -> Result<Option<Lease>, LeaseError> {
        self.bounded("read", self.api.get_opt(&self.claim.name)).await
    }

    /// Carries out a step of [`next_step`]; `WaitUntil` does nothing. Returns the Lease as written.
    ///
    /// # Errors
    /// [`LeaseError::Conflict`] when another was faster, else as [`LeaseClient::read`].
    pub async fn write(
        &self,
        step: &Step,
        seen: Option<&Seen>,
        now: jiff::Timestamp,
    ) -> Result<Option<Lease>, LeaseError> {
        let options = PostParams::default();
        let lease = self.desired(step, seen.map(|s| &s.lease), now);
        match step {
            Step::Create => self.bounded("create", self.api.create(&options, &lease)).await.map(Some),
            Step::Take | Step::Renew => {
                let replace = self.api.replace(&self.claim.name, &options, &lease);
                self.bounded("update", replace).await.map(Some)
            }
            Step::WaitUntil(_) => Ok(None),
        }
    }

    /// Says that nobody holds it, so that another need not wait for it to expire.
    ///
    /// # Errors
    /// As [`LeaseClient::write`].
    pub async fn release(&self, held: &Lease) -> Result<(), LeaseError> {
        let mut lease = held.clone();
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = None;
        }
        let options = PostParams::default();
        self.bounded("release", self.api.replace(&self.claim.name, &options, &lease)).await.map(drop)
    }

    /// Removes it, unless another wrote it since.
    ///
    /// # Errors
    /// As [`LeaseClient::write`].
    pub async fn delete(&self, held: &Lease) -> Result<(), LeaseError> {
        let preconditions = Preconditions {
            resource_version: held.metadata.resource_version.clone(),
            uid: held.metadata.uid.clone(),
        };
        let options = DeleteParams::default().preconditions(preconditions);
        self.bounded("delete", self.api.delete(&self.claim.name, &options)).await.map(drop)
    }

    fn desired(&self, step: &Step, seen: Option<&Lease>, now: jiff::Timestamp) -> Lease {
        let now = MicroTime(now);
        let old = seen.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let (acquired, transitions) = match step {
            Step::Renew | Step::WaitUntil(_) => {
                (old.acquire_time.clone(), old.lease_transitions.unwrap_or(0))
            }
            Step::Take => (Some(now.clone()), old.lease_transitions.unwrap_or(0).saturating_add(1)),
            Step::Create => (Some(now.clone()), 0),
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.claim.identity.clone()),
            // Kubernetes counts whole seconds here, at least one.
            lease_duration_seconds: i32::try_from(self.claim.duration.as_secs().max(1)).ok(),
            acquire_time: acquired,
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..old
        };
        let mut metadata = seen
            .map(|lease| lease.metadata.clone())
            .unwrap_or_else(|| ObjectMeta { name: Some(self.claim.name.clone()), ..ObjectMeta::default() });
        metadata.managed_fields = None;
        metadata.labels.get_or_insert_default().insert(ROLE_LABEL.to_owned(), self.claim.role.to_owned());
        Lease { metadata, spec: Some(spec) }
    }

    async fn bounded<T>(
        &self,
        verb: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, LeaseError> {
        let name = self.claim.name.clone();
        // A third of the Lease: a request that hangs leaves time for another before the Lease is lost.
        let timeout = self.claim.duration / 3;
        match tokio::time::timeout(timeout, request).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(LeaseError::Conflict { name }),
            Ok(Err(source)) => {
                let forbidden = matches!(&source, kube::Error::Api(status) if status.code == 403);
                let hint = if forbidden {
                    "; may the ServiceAccount write Leases in its own namespace?"
                } else {
                    ""
                };
                Err(LeaseError::Api { verb, name, hint, source: Box::new(source) })
            }
            Err(_) => Err(LeaseError::Timeout { verb, name, timeout }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            name: "nave-planner".into(),
            role: "planner",
            identity: "hub-0".into(),
            duration: Duration::from_secs(15),
        }
    }

    fn held_by(holder: Option<&str>, since: Instant) -> Seen {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(30),
            ..LeaseSpec::default()
        };
        Seen { lease: Lease { spec: Some(spec), ..Lease::default() }, since }
    }

    #[test]
    fn a_lease_is_taken_only_when_nobody_surely_holds_it() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(next_step(&claim(), None, now), Step::Create);
        assert_eq!(next_step(&claim(), Some(&held_by(None, now)), now), Step::Take);
        assert_eq!(next_step(&claim(), Some(&held_by(Some("hub-0"), now)), now), Step::Renew);
        let other = held_by(Some("hub-1"), now);
        assert_eq!(
            next_step(&claim(), Some(&other), later(29)),
            Step::WaitUntil(later(30)),
            "the holder's own 30 s"
        );
        assert_eq!(next_step(&claim(), Some(&other), later(30)), Step::Take);
    }
}
