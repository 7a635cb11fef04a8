//! The Lease that says this gateway is alive: one for each replica, and the only thing a quiet hub writes. The leader
//! counts a replica's sessions as lost when its Lease is not renewed (see `sweep`). Removed on a graceful end, so
//! that replicas that come and go leave nothing behind.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use nave_runtime::error_text::chain;

use super::lease::{Claim, LeaseClient, LeaseError, Seen, Step};

/// Value of the role label on a gateway's Lease.
pub const ROLE: &str = "gateway";
const PREFIX: &str = "nave-gateway-";

/// Name of the Lease of the gateway of that name.
pub fn lease_name(gateway: &str) -> String {
    format!("{PREFIX}{gateway}")
}

/// The gateway that a Lease speaks of.
pub fn gateway_of(lease: &Lease) -> Option<&str> {
    lease.metadata.name.as_deref()?.strip_prefix(PREFIX)
}

/// Keeps the gateway's Lease until `stop` is cancelled, then removes it. `identity` differs between two processes of
/// one name, so that a mistake in the configuration is noticed.
pub async fn keep(
    client: Client,
    namespace: String,
    gateway: String,
    identity: String,
    duration: Duration,
    stop: CancellationToken,
) {
    let claim = Claim { name: lease_name(&gateway), role: ROLE, identity, duration };
    let mut keeper =
        Keeper { leases: LeaseClient::new(Api::namespaced(client, &namespace), claim), held: None };
    loop {
        let wait = if keeper.renew().await { duration / 3 } else { duration / 10 };
        let stopped = stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none();
        if stopped {
            break;
        }
    }
    keeper.remove().await;
}

struct Keeper {
    leases: LeaseClient,
    held: Option<Seen>,
}

impl Keeper {
    /// True = the Lease was renewed.
    async fn renew(&mut self) -> bool {
        // The name is ours: a Lease that a former process of this name left is taken over at once, which moves its
        // acquireTime, and so tells the leader that sessions from before are gone.
        let step = if self.held.is_some() { Step::Renew } else { self.first_step().await };
        match self.leases.write(&step, self.held.as_ref(), jiff::Timestamp::now()).await {
            Ok(lease) => {
                self.held = lease.map(|lease| Seen { lease, since: Instant::now() });
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    async fn first_step(&mut self) -> Step {
        match self.leases.read().await {
            Ok(Some(lease)) => {
                let ours = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref())
                    == Some(&*self.leases.claim().identity);
                self.held = Some(Seen { lease, since: Instant::now() });
                if ours { Step::Renew } else { Step::Take }
            }
            Ok(None) => Step::Create,
            Err(error) => {
                self.failed(&error);
                Step::Create
            }
        }
    }

    fn failed(&mut self, error: &LeaseError) {
        self.held = None;
        let lease = &self.leases.claim().name;
        match error {
            LeaseError::Conflict { .. } => {
                tracing::warn!(
                    lease,
                    "another wrote this gateway's Lease; does another process have its name?"
                );
            }
            LeaseError::Api { .. } | LeaseError::Timeout { .. } => {
                tracing::warn!(lease, error = %chain(error), "cannot renew this gateway's Lease");
            }
        }
    }

    async fn remove(&self) {
        let Some(held) = &self.held else { return };
        if let Err(error) = self.leases.delete(&held.lease).await {
            tracing::info!(error = %chain(&error), "this gateway's Lease stays until it is swept");
        }
    }
}
