//! One simulated spoke: its sessions, one after the other, and what it says in them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use nave_proto::v1::{
    Desired, DesiredAck, DesiredEntry, EntryReport, EntryReports, HeldEntry, Report, SpokeHello,
    desired_entry::Action, entry_report::Phase, hub_message, spoke_message::Message,
};
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    Behaviour, Credentials, Told,
    wire::{self, Wire},
};

/// (namespace, policy, model, version): the wire's entry key as something to sort by.
type Key = (String, String, String, String);

pub(super) struct Spoke {
    pub(super) cluster: String,
    pub(super) told: Arc<Told>,
    pub(super) behaviour: Behaviour,
    pub(super) leave: CancellationToken,
    /// Model -> (namespace, version, digest) that runs.
    pub(super) served: BTreeMap<String, (String, String, String)>,
    pub(super) held: BTreeMap<Key, DesiredEntry>,
    pub(super) generation: u64,
}

impl Spoke {
    /// Connects, says hello, and hands back the rest of its life.
    pub(super) async fn open(
        mut self,
        hub: String,
        credentials: Credentials,
    ) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
        let wire = self.connect(&hub, &credentials).await?;
        Ok(async move {
            self.session(wire).await;
            self.return_ever_again(&hub, &credentials).await;
        })
    }

    async fn connect(&mut self, hub: &str, credentials: &Credentials) -> anyhow::Result<Wire> {
        let hello = self.hello();
        let opened = Wire::open(hub, credentials, hello).await;
        opened.with_context(|| format!("simulated spoke {}", self.cluster))
    }

    /// As an agent does: back off, with jitter, until the hub is there again.
    async fn return_ever_again(mut self, hub: &str, credentials: &Credentials) {
        while !self.leave.is_cancelled() {
            let wait = Duration::from_millis(rand::rng().random_range(100..1_000));
            tokio::select! {
                () = self.leave.clone().cancelled_owned() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match self.connect(hub, credentials).await {
                Ok(wire) => self.session(wire).await,
                Err(error) => tracing::debug!(error = format!("{error:#}"), "not yet back"),
            }
        }
    }

    async fn session(&mut self, mut wire: Wire) {
        let leave = self.leave.clone();
        loop {
            let received = tokio::select! {
                () = leave.cancelled() => return,
                received = wire.next() => received,
            };
            let answers = match received {
                Ok(Some(hub_message::Message::Desired(desired))) => self.take_over(desired),
                Ok(Some(_)) => Vec::new(),
                Ok(None) | Err(_) => return,
            };
            for message in answers {
                if wire.say(message).await.is_err() {
                    return;
                }
            }
        }
    }

    fn hello(&mut self) -> SpokeHello {
        let held = self.held.values().map(|entry| HeldEntry {
            key: entry.key.clone(),
            manifest_digest: entry.manifest_digest.clone(),
        });
        let held = held.collect();
        let mut hello = SpokeHello { generation: self.generation, held, ..wire::hello() };
        if let Some(report) = &mut hello.report {
            report.entries = self.report().entries;
        }
        hello
    }

    fn take_over(&mut self, desired: Desired) -> Vec<Message> {
        if desired.base_generation == 0 {
            self.held.clear();
        }
        for key in desired.removed {
            self.held.remove(&(key.namespace, key.policy, key.model, key.version));
        }
        for entry in desired.entries {
            let Some(key) = entry.key.clone() else { continue };
            self.held.insert((key.namespace, key.policy, key.model, key.version), entry);
        }
        self.generation = desired.generation;
        let ack = DesiredAck { generation: desired.generation, accepted: true, ..DesiredAck::default() };
        vec![Message::DesiredAck(ack), Message::Report(self.report())]
    }

    fn report(&mut self) -> Report {
        let mut rows = Vec::new();
        for ((namespace, policy, model, version), entry) in &self.held {
            let serve = entry.action == i32::from(Action::Serve);
            if serve {
                self.told.record(&self.cluster, version);
                self.told.record(&self.cluster, policy);
            }
            let failure = self.behaviour.reason(&self.cluster, version);
            let phase = match (&failure, serve) {
                (Some(_), _) => Phase::Failed,
                (None, true) => Phase::Serving,
                (None, false) => Phase::Staged,
            };
            if phase == Phase::Serving {
                let now = (namespace.clone(), version.clone(), entry.manifest_digest.clone());
                self.served.insert(model.clone(), now);
            }
            rows.push(row(namespace, model, version, &entry.manifest_digest, phase, failure.as_deref()));
        }
        let wanted: Vec<_> = self.held.keys().map(|(_, _, model, _)| model.clone()).collect();
        self.served.retain(|model, _| wanted.contains(model));
        // What ran before a failed switch goes on running.
        for (model, (namespace, version, digest)) in &self.served {
            if !rows.iter().any(|r| r.model == *model && r.version == *version) {
                rows.push(row(namespace, model, version, digest, Phase::Serving, None));
            }
        }
        let entries = EntryReports { rows, generation: self.generation };
        Report { entries: Some(entries), ..Report::default() }
    }
}

fn row(
    namespace: &str,
    model: &str,
    version: &str,
    digest: &str,
    phase: Phase,
    failure: Option<&str>,
) -> EntryReport {
    EntryReport {
        namespace: namespace.to_owned(),
        model: model.to_owned(),
        version: version.to_owned(),
        phase: phase.into(),
        digest: digest.to_owned(),
        reason: failure.unwrap_or_default().to_owned(),
        ..EntryReport::default()
    }
}
