//! The ModelVersion controller: gives each version its identity. It runs on the leader, looks at a version when it is
//! new or its spec or annotations change, at intervals later, and with backoff while something is wrong.
//!
//! This file executes; `agenda` says which version is next, `manifest` reads or computes, `signature` verifies, `source`
//! opens S3, `status` decides.

mod agenda;
pub mod error;
pub mod manifest;
pub mod signature;
pub mod source;
pub mod status;

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use nave_crds::{ModelVersion, ModelVersionStatus, view::conditions};
use object_store::path::Path;
use tokio::{
    sync::{Semaphore, broadcast},
    task::{self, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use nave_runtime::error_text::chain;

use self::{
    agenda::{Agenda, ObjectName, Trigger},
    error::ResolveError,
    manifest::{Memory, Prefix},
    source::SourceError,
    status::{Outcome, Signed, status_after},
};
use crate::{
    leader::Leadership,
    metrics::{self, Metrics, ResolveLabels},
    watch::{Change, Kind, World},
};

/// Who writes a ModelVersion's conditions and digest.
const FIELD_MANAGER: &str = "nave-resolver";
/// Versions worked on at once. Each hashes two objects at most, so this bounds the processor time that is taken away
/// from the sessions.
const AT_ONCE: usize = 4;

/// Resolves versions while this replica leads; ends with `stop`.
pub async fn run(
    world: World,
    leadership: Leadership,
    recheck: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut changes = world.changes.subscribe();
    if stop.run_until_cancelled(world.synced(Kind::Version)).await.is_none_or(|synced| synced.is_err()) {
        return;
    }
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut resolver = Resolver {
        world,
        leadership,
        recheck,
        metrics,
        slots,
        agenda: Agenda::default(),
        attempts: JoinSet::new(),
        running: HashMap::new(),
    };
    resolver.look_at_all(Instant::now());
    loop {
        let now = Instant::now();
        resolver.start_due(now);
        let next = resolver.agenda.next().unwrap_or(now + recheck);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(next) => {}
            Some(attempt) = resolver.attempts.join_next_with_id() => match attempt {
                Ok((task, attempt)) => {
                    resolver.running.remove(&task);
                    resolver.finish(attempt).await;
                }
                Err(error) => resolver.give_up(&error),
            },
            change = changes.recv() => match change {
                Ok(Change::Object(key) | Change::Deleted(key, _)) if key.kind == Kind::Version => {
                    resolver.look_at(&(key.namespace.to_string(), key.name.to_string()), Instant::now());
                }
                Ok(Change::Relisted(Kind::Version)) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    resolver.look_at_all(Instant::now());
                }
                Ok(Change::Object(_) | Change::Deleted(..) | Change::Relisted(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

struct Attempt {
    name: ObjectName,
    trigger: Trigger,
    outcome: Outcome,
    memory: Memory,
}

struct Resolver {
    world: World,
    leadership: Leadership,
    recheck: Duration,
    metrics: Metrics,
    slots: Arc<Semaphore>,
    agenda: Agenda,
    attempts: JoinSet<Attempt>,
    /// What each of them is of.
    running: HashMap<task::Id, (ObjectName, Trigger)>,
}

impl Resolver {
    /// Takes in all that the store has, and what it no longer has.
    fn look_at_all(&mut self, now: Instant) {
        let versions = self.world.versions.state();
        let there =
            versions.iter().map(|version| (version.namespace().unwrap_or_default(), version.name_any()));
        let names: Vec<ObjectName> = there.chain(self.agenda.names()).collect();
        names.into_iter().for_each(|name| self.take_in(&name, now));
    }

    /// Takes in one that is new, changed or gone, and what that changes for those that claim to be the same version.
    fn look_at(&mut self, name: &ObjectName, now: Instant) {
        let before = self.agenda.trigger(name).map(|trigger| trigger.claim.clone());
        self.take_in(name, now);
        let after = self.agenda.trigger(name).map(|trigger| trigger.claim.clone());
        for (model, version) in before.into_iter().chain(after) {
            for other in self.world.claimants(&name.0, &model, &version) {
                if other != name.1 {
                    self.take_in(&(name.0.clone(), other), now);
                }
            }
        }
    }

    fn take_in(&mut self, name: &ObjectName, now: Instant) {
        let Some(version) = self.world.version(&name.0, &name.1) else {
            return self.agenda.forget(name);
        };
        let claim = (version.spec.model.clone(), version.spec.version.clone());
        let winner = self.world.version_of(&name.0, &claim.0, &claim.1).map(|winner| winner.name_any());
        let trigger = Trigger {
            uid: version.uid(),
            generation: version.metadata.generation,
            annotations: version.annotations().clone(),
            refused_for: winner.filter(|winner| *winner != name.1),
            claim,
        };
        let first_look = first_look(self.recheck, &version, &trigger);
        self.agenda.note(name, trigger, now + first_look, now);
    }

    fn start_due(&mut self, now: Instant) {
        for (name, trigger, mut memory) in self.agenda.begin(now) {
            let Some(version) = self.world.version(&name.0, &name.1) else {
                self.agenda.forget(&name);
                continue;
            };
            let (world, slots) = (self.world.clone(), Arc::clone(&self.slots));
            let of = (name.clone(), trigger.clone());
            let started = self.attempts.spawn(async move {
                let outcome = match trigger.refused_for.clone() {
                    Some(winner) => Err(duplicate(&version, winner)),
                    None => {
                        let _slot = slots.acquire().await;
                        attempt(&world, &version, &mut memory).await
                    }
                };
                Attempt { name, trigger, outcome, memory }
            });
            self.running.insert(started.id(), of);
        }
    }

    /// An attempt panicked. The next one may not.
    fn give_up(&mut self, error: &task::JoinError) {
        let Some((name, trigger)) = self.running.remove(&error.id()) else { return };
        tracing::error!(namespace = name.0, version = name.1, %error, "an attempt to resolve a version panicked");
        let now = Instant::now();
        if self.agenda.ended(&name, &trigger, Memory::default(), now) {
            self.agenda.again(&name, now);
        }
    }

    async fn finish(&mut self, Attempt { name, trigger, outcome, memory }: Attempt) {
        let now = Instant::now();
        let outcome_label =
            outcome.as_ref().map_or_else(|error| metrics::known_reason(error.reason()), |_| "Resolved");
        self.metrics.resolves.get_or_create(&ResolveLabels { outcome: outcome_label }).inc();
        if !self.agenda.ended(&name, &trigger, memory, now) {
            return;
        }
        match &outcome {
            // A key or a signature may come any moment.
            Ok((_, Signed::Unverified { reason, .. })) => {
                self.agenda.again(&name, now);
                tracing::debug!(namespace = name.0, version = name.1, reason, "signature not verified");
            }
            Ok((_, Signed::NotAsked | Signed::Verified(_))) => self.agenda.settled(&name, now + self.recheck),
            Err(error) => {
                self.agenda.again(&name, now);
                tracing::debug!(namespace = name.0, version = name.1, error = %chain(error), "not resolved");
            }
        }
        let Some(version) = self.world.version(&name.0, &name.1) else { return };
        if let Some(status) = self.write(&version, self.agenda.written(&name).cloned(), &outcome).await {
            self.agenda.wrote(&name, status);
        }
    }

    /// Writes the status where it says something new, and returns it.
    async fn write(
        &self,
        version: &ModelVersion,
        written: Option<ModelVersionStatus>,
        outcome: &Outcome,
    ) -> Option<ModelVersionStatus> {
        let mut seen = version.clone();
        // The store may not show yet what was written here a moment ago.
        if let Some(written) = written {
            let clusters = seen.status.take().and_then(|status| status.clusters);
            seen.status = Some(ModelVersionStatus { clusters, ..written });
        }
        let status = status_after(&seen, outcome, jiff::Timestamp::now());
        if seen.status.as_ref() == Some(&status) || !self.leadership.held() {
            return None;
        }
        let (namespace, name) = (version.namespace().unwrap_or_default(), version.name_any());
        let api: Api<ModelVersion> = Api::namespaced(self.world.client.clone(), &namespace);
        // The counts of clusters are the planner's.
        let ours = ModelVersionStatus { clusters: None, ..status.clone() };
        let patch = Patch::Merge(serde_json::json!({ "status": ours }));
        let options = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_status(&name, &options, &patch).await {
            Ok(_) => {
                log(&namespace, &name, outcome);
                Some(status)
            }
            Err(kube::Error::Api(answer)) if answer.code == 404 => None,
            Err(error) => {
                tracing::warn!(namespace, version = name, error = %chain(&error), "cannot write the version's status");
                None
            }
        }
    }
}

/// A new leader looks at once at what is not Ready, and at the rest in the course of a period.
fn first_look(recheck: Duration, version: &ModelVersion, trigger: &Trigger) -> Duration {
    let is_ready = version.status.as_ref().is_some_and(|status| {
        status.observed_generation == trigger.generation
            && conditions::is_true(&status.conditions, conditions::READY)
    });
    if is_ready && trigger.refused_for.is_none() {
        recheck.mul_f64(rand::random::<f64>())
    } else {
        Duration::ZERO
    }
}

fn log(namespace: &str, name: &str, outcome: &Outcome) {
    match outcome {
        Ok((resolved, _)) => tracing::info!(
            namespace,
            version = name,
            digest = %resolved.digest,
            files = resolved.files,
            bytes = resolved.size,
            "version resolved"
        ),
        Err(error) => {
            tracing::warn!(namespace, version = name, error = %chain(error), "version not resolved")
        }
    }
}

fn duplicate(version: &ModelVersion, winner: String) -> ResolveError {
    let (model, version) = (version.spec.model.clone(), version.spec.version.clone());
    ResolveError::DuplicateVersion { model, version, winner }
}

/// One attempt: opens the source, reads or computes the manifest, compares it to what is pinned, and checks the signature
/// where one is asked for.
async fn attempt(world: &World, version: &ModelVersion, memory: &mut Memory) -> Outcome {
    let namespace = version.namespace().unwrap_or_default();
    let source = &version.spec.source.s3;
    let store = source::open(&world.client, &namespace, source).await?;
    let prefix = Path::parse(source.prefix.trim_matches('/'))
        .map_err(|error| SourceError::Invalid(format!("prefix {:?}: {error}", source.prefix)))?;
    let prefix = Prefix { store: &store, bucket: &source.bucket, prefix };
    let (resolved, manifest) = prefix.resolve(memory).await?;
    let found = resolved.digest;
    if let Some(pinned) = version.spec.manifest_digest.as_ref().filter(|pinned| **pinned != found.to_string())
    {
        return Err(ResolveError::DigestMismatch { pinned: pinned.clone(), found });
    }
    let before = version.status.as_ref().and_then(|status| status.manifest_digest.as_ref());
    if let Some(before) = before.filter(|before| **before != found.to_string()) {
        return Err(ResolveError::ManifestChanged { resolved: before.clone(), found });
    }
    let signed = match &version.spec.signature {
        None => Signed::NotAsked,
        Some(asked) => {
            let reference = &asked.public_key_secret;
            signature::check(&world.client, &namespace, reference, &prefix, &manifest).await?
        }
    };
    Ok((resolved, signed))
}
