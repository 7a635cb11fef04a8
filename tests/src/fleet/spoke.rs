//! One simulated spoke's session.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use nave_proto::{
    PROTOCOL,
    v1::{
        Capacity, Desired, DesiredAck, DesiredEntry, EntryReport, EntryReports, Facts, Health, Heartbeat,
        HubMessage, Report, SpokeHello, SpokeMessage, desired_entry::Action, entry_report::Phase,
        health::State, hub_message, session_client::SessionClient, spoke_message::Message,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{Behaviour, Credentials, Told};

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
    /// Connects, says hello, and hands back the rest of the session.
    pub(super) async fn open(
        self,
        hub: SocketAddr,
        credentials: &Credentials,
    ) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
        let channel =
            dial(hub, credentials).await.with_context(|| format!("simulated spoke {}", self.cluster))?;
        let (send, outbound) = mpsc::channel(16);
        send.send(SpokeMessage { message: Some(Message::Hello(self.hello())) }).await?;
        let mut inbound =
            SessionClient::new(channel).connect(ReceiverStream::new(outbound)).await?.into_inner();
        let heartbeat = match inbound.message().await?.and_then(|m| m.message) {
            Some(hub_message::Message::Hello(hello)) => {
                Duration::from_secs(hello.heartbeat_seconds.max(1).into())
            }
            other => {
                anyhow::bail!("simulated spoke {}: expected the hub's hello, got {other:?}", self.cluster)
            }
        };
        Ok(self.run(send, inbound, heartbeat))
    }

    fn hello(&self) -> SpokeHello {
        SpokeHello {
            min_protocol: PROTOCOL,
            max_protocol: PROTOCOL,
            agent_version: "simulated".into(),
            generation: self.generation,
            held: Vec::new(),
            report: Some(Report {
                capacity: Some(Capacity {
                    architecture: "amd64".into(),
                    cpu: 4,
                    memory_bytes: 8 << 30,
                    storage_total_bytes: 100 << 30,
                    storage_available_bytes: 50 << 30,
                    ..Capacity::default()
                }),
                facts: Some(Facts::default()),
                entries: Some(EntryReports::default()),
                health: Some(Health {
                    storage: State::Healthy.into(),
                    serving: State::Healthy.into(),
                    ..Health::default()
                }),
            }),
        }
    }

    async fn run(
        mut self,
        send: mpsc::Sender<SpokeMessage>,
        mut inbound: Streaming<HubMessage>,
        heartbeat: Duration,
    ) {
        let mut beat = tokio::time::interval(heartbeat);
        let mut sequence = 0;
        loop {
            let answers = tokio::select! {
                () = self.leave.cancelled() => return,
                _ = beat.tick() => {
                    sequence += 1;
                    vec![Message::Heartbeat(Heartbeat { sequence })]
                }
                received = inbound.message() => match received {
                    Ok(Some(HubMessage { message: Some(hub_message::Message::Desired(desired)) })) => {
                        self.take_over(desired)
                    }
                    Ok(Some(_)) => Vec::new(),
                    Ok(None) | Err(_) => return,
                },
            };
            for message in answers {
                if send.send(SpokeMessage { message: Some(message) }).await.is_err() {
                    return;
                }
            }
        }
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
        for ((namespace, _, model, version), entry) in &self.held {
            let serve = entry.action == i32::from(Action::Serve);
            if serve {
                self.told.record(&self.cluster, version);
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

async fn dial(hub: SocketAddr, credentials: &Credentials) -> anyhow::Result<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&credentials.ca))
        .identity(Identity::from_pem(&credentials.certificate, &credentials.key))
        .domain_name("localhost");
    Ok(Endpoint::from_shared(format!("https://{hub}"))?.tls_config(tls)?.connect().await?)
}
