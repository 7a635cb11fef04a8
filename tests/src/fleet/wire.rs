//! One conversation with the hub in the wire's own messages, for tests that say what no agent would.

use std::time::Duration;

use anyhow::Context as _;
use nave_proto::{
    PROTOCOL,
    v1::{
        Capacity, Desired, EnrollRequest, EnrollResponse, EntryReports, Facts, Health, Heartbeat, HubHello,
        HubMessage, Report, SpokeHello, SpokeMessage, enrollment_client::EnrollmentClient, health::State,
        hub_message, session_client::SessionClient, spoke_message,
    },
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{sync::mpsc, task::AbortHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::Credentials;

/// For a message that will come, on a machine that is busy with others.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session whose hello was answered. Heartbeats flow by themselves as long as it is there.
#[derive(Debug)]
pub struct Wire {
    /// The hub's hello.
    pub hello: HubHello,
    send: mpsc::Sender<SpokeMessage>,
    inbound: Streaming<HubMessage>,
    beats: AbortHandle,
}

impl Wire {
    /// Connects and says hello.
    ///
    /// # Errors
    /// No connection, or the hub's status: `error.downcast_ref::<tonic::Status>()`.
    pub async fn open(hub: &str, credentials: &Credentials, hello: SpokeHello) -> anyhow::Result<Self> {
        let channel = dial(hub, &credentials.ca, Some(credentials)).await?;
        let (send, outbound) = mpsc::channel(16);
        send.send(SpokeMessage { message: Some(spoke_message::Message::Hello(hello)) }).await?;
        let mut inbound =
            SessionClient::new(channel).connect(ReceiverStream::new(outbound)).await?.into_inner();
        let first =
            tokio::time::timeout(PATIENCE, inbound.message()).await.context("no hello of the hub")??;
        let Some(HubMessage { message: Some(hub_message::Message::Hello(hello)) }) = first else {
            anyhow::bail!("expected the hub's hello, got {first:?}");
        };
        let beats = tokio::spawn(beat(send.clone(), hello.heartbeat_seconds)).abort_handle();
        Ok(Self { hello, send, inbound, beats })
    }

    /// Says something.
    ///
    /// # Errors
    /// The session is over.
    pub async fn say(&self, message: spoke_message::Message) -> anyhow::Result<()> {
        self.send.send(SpokeMessage { message: Some(message) }).await.context("the session is over")
    }

    /// The next message that is not a heartbeat; None = the hub ended the stream without a word.
    ///
    /// # Errors
    /// The hub's status, as it is.
    pub async fn next(&mut self) -> Result<Option<hub_message::Message>, Status> {
        loop {
            match self.inbound.message().await? {
                None => return Ok(None),
                Some(HubMessage { message: None | Some(hub_message::Message::Heartbeat(_)) }) => {}
                Some(HubMessage { message: Some(message) }) => return Ok(Some(message)),
            }
        }
    }

    /// Passes over messages until one is the wanted.
    ///
    /// # Errors
    /// The session ended, or nothing of it came for a minute.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        pick: impl Fn(hub_message::Message) -> Option<T>,
    ) -> anyhow::Result<T> {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let next = self.next().await?.with_context(|| format!("waiting for {what}: stream ended"))?;
                if let Some(found) = pick(next) {
                    return anyhow::Ok(found);
                }
            }
        });
        waited.await.with_context(|| format!("{what} did not come"))?
    }

    /// Waits for a desired set with something in it: a cluster's assignment begins empty.
    ///
    /// # Errors
    /// As `wait_for`.
    pub async fn desired(&mut self) -> anyhow::Result<Desired> {
        self.wait_for("a desired set", |message| {
            let hub_message::Message::Desired(desired) = message else { return None };
            (!desired.entries.is_empty()).then_some(desired)
        })
        .await
    }

    /// Waits for the end of the stream; the status that it ended with, and what was said before.
    ///
    /// # Errors
    /// It did not end.
    pub async fn ended(&mut self) -> anyhow::Result<(Status, Vec<hub_message::Message>)> {
        let mut said = Vec::new();
        let end = async {
            loop {
                match self.next().await {
                    Ok(Some(message)) => said.push(message),
                    Ok(None) => return Status::ok("ended"),
                    Err(status) => return status,
                }
            }
        };
        let status = tokio::time::timeout(PATIENCE, end).await.context("the stream did not end")?;
        Ok((status, said))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

async fn beat(send: mpsc::Sender<SpokeMessage>, seconds: u32) {
    let mut interval = tokio::time::interval(Duration::from_secs(seconds.max(1).into()));
    let mut sequence = 0;
    loop {
        interval.tick().await;
        sequence += 1;
        let beat = spoke_message::Message::Heartbeat(Heartbeat { sequence });
        if send.send(SpokeMessage { message: Some(beat) }).await.is_err() {
            return;
        }
    }
}

/// The hello of a healthy spoke with an empty ledger.
pub fn hello() -> SpokeHello {
    SpokeHello {
        min_protocol: PROTOCOL,
        max_protocol: PROTOCOL,
        agent_version: "simulated".into(),
        generation: 0,
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
            peer: None,
        }),
    }
}

/// A PKCS #10 request for the key, DER. The hub gives it the name that it decides itself.
///
/// # Errors
/// It cannot be made.
pub fn certificate_request(key: &KeyPair) -> anyhow::Result<Vec<u8>> {
    Ok(CertificateParams::default().serialize_request(key)?.der().to_vec())
}

/// The unary call by which a spoke joins, over TLS that trusts `ca`.
///
/// # Errors
/// The hub's status, or none if it could not be reached.
pub async fn enroll(hub: &str, ca: &str, request: EnrollRequest) -> Result<EnrollResponse, Status> {
    let channel = dial(hub, ca, None).await.map_err(|error| Status::unknown(format!("{error:#}")))?;
    Ok(EnrollmentClient::new(channel).enroll(request).await?.into_inner())
}

/// A connection to the hub, without a word said yet; as a spoke where there are credentials.
///
/// # Errors
/// It cannot be reached, or the certificates are not PEM.
pub async fn dial(hub: &str, ca: &str, credentials: Option<&Credentials>) -> anyhow::Result<Channel> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
    if let Some(credentials) = credentials {
        tls = tls.identity(Identity::from_pem(&credentials.certificate, &credentials.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{hub}"))?.tls_config(tls)?;
    endpoint.connect().await.with_context(|| format!("connecting to the hub at {hub}"))
}
