//! One connection's life: hello, then whatever comes first of what the hub says, what the spoke has to say, and time.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use nave_proto::v1::{
    self, hub_message::Message as FromHub, session_client::SessionClient, spoke_message::Message as ToHub,
    standing::State,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use nave_runtime::error_text::chain;

use super::{Contact, Context, error::SessionError, urls::Ask, wire};
use crate::{
    identity::{self, Identity},
    observed::{Observed, difference, write_report},
};

/// A hub that took the call says hello within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);
/// Messages on their way out. Small: they are all short-lived, and a full queue means that the uplink is stuck.
const OUTBOX: usize = 32;
/// A change of phase is told this soon; several in that time are one report.
const COALESCE: Duration = Duration::from_millis(250);
/// Progress alone is told no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// What a hub that does not say gets.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// A beat is sent when this part of its period has passed: one that the link loses is sent again by TCP and still in time.
const BEAT_PART: (u32, u32) = (2, 3);
/// This many heartbeats without a word from the hub, and the connection is given up.
const SILENT_BEATS: u32 = 3;
/// A renewal that failed is asked for again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// Sleeping is cut into pieces of this length where the wall clock decides, since it can be set.
const CLOCK_LOOK: Duration = Duration::from_secs(300);

/// Runs one connection to its end. `Ok` = the agent drains.
pub(super) async fn run(
    context: &mut Context,
    channel: Channel,
    identity: &mut Identity,
    contact: &mut Contact,
) -> Result<(), SessionError> {
    let (outbox, outgoing) = mpsc::channel(OUTBOX);
    let mut observed = context.observed.clone();
    let mut site = context.site.clone();
    let seen = observed.borrow_and_update().clone();
    let report = write_report(&seen, &site.borrow_and_update());
    let hello = v1::SpokeHello {
        min_protocol: nave_proto::PROTOCOL,
        max_protocol: nave_proto::PROTOCOL,
        agent_version: nave_runtime::build::VERSION.to_owned(),
        generation: seen.generation.0,
        held: seen.write_held(),
        report: Some(report.clone()),
    };
    let outbox = Outbox(outbox);
    outbox.send(ToHub::Hello(hello), HELLO_TIMEOUT).await?;
    let mut client = SessionClient::new(channel).max_decoding_message_size(nave_proto::MAX_MESSAGE_BYTES);
    let connect = client.connect(ReceiverStream::new(outgoing));
    let silent = |_| SessionError::Silent(HELLO_TIMEOUT);
    let mut incoming = timeout(HELLO_TIMEOUT, connect)
        .await
        .map_err(silent)?
        .map_err(|status| SessionError::of_status(&status, &context.config.hub))?
        .into_inner();
    let first = timeout(HELLO_TIMEOUT, receive(&mut incoming, context)).await.map_err(silent)??;
    let FromHub::Hello(hello) = first else {
        return Err(SessionError::Unexpected("its first message is no hello".to_owned()));
    };
    if hello.protocol != nave_proto::PROTOCOL {
        return Err(SessionError::Protocol { hub: hello.protocol, ours: nave_proto::PROTOCOL });
    }
    tracing::info!(hub = %context.config.hub, gateway = hello.gateway, cluster = %identity.cluster, "connected");
    contact.made();
    context.metrics.connected.set(1);
    let beat = match hello.heartbeat_seconds {
        0 => DEFAULT_HEARTBEAT,
        seconds => Duration::from_secs(seconds.into()),
    };
    let live = Live {
        outbox,
        beat,
        last_report: report,
        last_seen: seen,
        last_sent: Instant::now(),
        questions: BTreeMap::new(),
        next_id: 1,
        renewal: None,
        renew_at: Instant::now(),
    };
    live.run(context, incoming, identity, hello.standing).await
}

/// The next message that this agent understands.
async fn receive(
    incoming: &mut Streaming<v1::HubMessage>,
    context: &Context,
) -> Result<FromHub, SessionError> {
    loop {
        match incoming.message().await {
            Ok(Some(v1::HubMessage { message: Some(message) })) => return Ok(message),
            Ok(Some(v1::HubMessage { message: None })) => {
                tracing::debug!("the hub sent a message that this agent does not know");
            }
            Ok(None) => return Err(SessionError::Broken("the hub ended the session".to_owned())),
            Err(status) => return Err(SessionError::of_status(&status, &context.config.hub)),
        }
    }
}

struct Outbox(mpsc::Sender<v1::SpokeMessage>);

impl Outbox {
    /// An uplink that takes nothing for `patience` is a broken one.
    async fn send(&self, message: ToHub, patience: Duration) -> Result<(), SessionError> {
        let message = v1::SpokeMessage { message: Some(message) };
        match timeout(patience, self.0.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SessionError::Broken("the hub ended the session".to_owned())),
            Err(_) => Err(SessionError::Silent(patience)),
        }
    }
}

/// A session after its hellos.
struct Live {
    outbox: Outbox,
    beat: Duration,
    last_report: v1::Report,
    last_seen: std::sync::Arc<Observed>,
    last_sent: Instant,
    questions: BTreeMap<u64, oneshot::Sender<v1::UrlResponse>>,
    next_id: u64,
    /// The id of the certificate request that is under way.
    renewal: Option<u64>,
    renew_at: Instant,
}

impl Live {
    async fn run(
        mut self,
        context: &mut Context,
        mut incoming: Streaming<v1::HubMessage>,
        identity: &mut Identity,
        standing: Option<v1::Standing>,
    ) -> Result<(), SessionError> {
        take_standing(standing.unwrap_or_default())?;
        let mut asks = context.desk.open();
        let every = self.beat * BEAT_PART.0 / BEAT_PART.1;
        let mut beats = interval_at(Instant::now() + every, every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sequence = 0;
        let mut heard = Instant::now();
        let mut observed = context.observed.clone();
        let mut site = context.site.clone();
        observed.mark_changed();
        let mut report_at: Option<Instant> = None;
        let drain = context.drain.clone();
        self.renew_at = renewal_due(identity);
        loop {
            let report_due = report_at.unwrap_or_else(far);
            tokio::select! {
                // In this order: what the hub says and the heartbeat go before what the spoke has to tell.
                biased;
                () = drain.started() => return Ok(()),
                message = receive(&mut incoming, context) => {
                    heard = Instant::now();
                    self.take(message?, context, identity).await?;
                }
                _ = beats.tick() => {
                    if heard.elapsed() > self.beat * SILENT_BEATS {
                        return Err(SessionError::Silent(heard.elapsed()));
                    }
                    sequence += 1;
                    self.send(ToHub::Heartbeat(v1::Heartbeat { sequence })).await?;
                }
                () = sleep_until(report_due) => report_at = self.report(context).await?,
                changed = observed.changed() => {
                    changed.map_err(|_| SessionError::Ending)?;
                    report_at = Some(self.report_time(&observed.borrow_and_update(), report_at));
                }
                changed = site.changed() => {
                    changed.map_err(|_| SessionError::Ending)?;
                    report_at = report_at.or(Some(Instant::now() + COALESCE));
                }
                Some(ask) = asks.recv() => self.ask(ask).await?,
                () = sleep_until(self.renew_at) => self.renew(identity).await?,
            }
        }
    }

    async fn send(&self, message: ToHub) -> Result<(), SessionError> {
        self.outbox.send(message, self.beat * SILENT_BEATS).await
    }

    async fn take(
        &mut self,
        message: FromHub,
        context: &Context,
        identity: &mut Identity,
    ) -> Result<(), SessionError> {
        match message {
            FromHub::Hello(_) => Err(SessionError::Unexpected("it said hello twice".to_owned())),
            FromHub::Heartbeat(_) => Ok(()),
            FromHub::Standing(standing) => take_standing(standing),
            FromHub::Desired(desired) => {
                let generation = desired.generation;
                let outcome = match wire::read_desired(desired) {
                    Ok(desired) => context.spoke.tell(desired).await.ok_or(SessionError::Ending)?,
                    Err(refusal) => Err(refusal),
                };
                if let Err(refusal) = &outcome {
                    tracing::warn!(generation, reason = refusal.reason(), %refusal, "refused what the hub told");
                }
                self.send(ToHub::DesiredAck(wire::write_ack(generation, outcome))).await
            }
            FromHub::UrlResponse(response) => {
                // A question whose asker has gone needs no answer.
                let asker = self.questions.remove(&response.request_id);
                if let Some(unwanted) = asker.and_then(|asker| asker.send(response).err()) {
                    tracing::debug!(id = unwanted.request_id, "an answer came too late");
                }
                Ok(())
            }
            FromHub::CertificateResponse(response) => {
                self.keep_certificate(&response, context, identity);
                Ok(())
            }
            FromHub::Peers(peers) => {
                if let Some(neighbourhood) = &context.neighbourhood {
                    neighbourhood.name(peers);
                }
                Ok(())
            }
        }
    }

    async fn ask(&mut self, ask: Ask) -> Result<(), SessionError> {
        self.questions.retain(|_, asker| !asker.is_closed());
        let request_id = self.new_id();
        self.questions.insert(request_id, ask.answer);
        self.send(ToHub::UrlRequest(v1::UrlRequest { request_id, ..ask.request })).await
    }

    fn new_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// When to tell of `seen`, if something else is due at `due` already.
    fn report_time(&self, seen: &Observed, due: Option<Instant>) -> Instant {
        let after = if seen.same_but_progress(&self.last_seen) { PROGRESS_EVERY } else { COALESCE };
        let at = Instant::now().max(self.last_sent + after);
        due.map_or(at, |due| due.min(at))
    }

    async fn report(&mut self, context: &Context) -> Result<Option<Instant>, SessionError> {
        let seen = context.observed.borrow().clone();
        let next = write_report(&seen, &context.site.borrow());
        if let Some(report) = difference(&self.last_report, &next) {
            self.send(ToHub::Report(report)).await?;
            self.last_sent = Instant::now();
        }
        self.last_report = next;
        self.last_seen = seen;
        Ok(None)
    }

    /// Asks for the next certificate when it is time. The stream goes on with the old one, which stays good.
    async fn renew(&mut self, identity: &Identity) -> Result<(), SessionError> {
        if Timestamp::now() < identity.renew_at() {
            self.renew_at = renewal_due(identity);
            return Ok(());
        }
        self.renew_at = Instant::now() + RENEW_AGAIN;
        let certificate_request = identity::request(&identity.key, Some(&identity.cluster))?;
        let request_id = self.new_id();
        self.renewal = Some(request_id);
        self.send(ToHub::CertificateRequest(v1::CertificateRequest { request_id, certificate_request })).await
    }

    fn keep_certificate(
        &mut self,
        response: &v1::CertificateResponse,
        context: &Context,
        identity: &mut Identity,
    ) {
        if self.renewal.take_if(|id| *id == response.request_id).is_none() {
            return;
        }
        if !response.error.is_empty() {
            tracing::warn!(error = response.error, "the hub did not renew the certificate");
            return;
        }
        match context.identities.keep(&response.certificate_chain, &response.ca_bundle) {
            Ok(renewed) if renewed.cluster == identity.cluster => {
                tracing::info!(until = %renewed.not_after, "renewed the certificate");
                *identity = renewed;
                // By a clock that is wrong the new certificate may be as old as the last: no reason to ask all the time.
                let due = renewal_due(identity);
                self.renew_at = if due > Instant::now() { due } else { Instant::now() + RENEW_AGAIN };
                if let Some(neighbourhood) = &context.neighbourhood {
                    neighbourhood.use_identity(identity);
                }
            }
            Ok(renewed) => {
                tracing::warn!(cluster = %renewed.cluster, "the hub sent a certificate for another cluster");
            }
            Err(error) => tracing::warn!(error = chain(&error), "cannot keep the new certificate"),
        }
    }
}

fn far() -> Instant {
    Instant::now() + CLOCK_LOOK
}

fn renewal_due(identity: &Identity) -> Instant {
    let wait = identity.renew_at().duration_since(Timestamp::now());
    let wait = Duration::try_from(wait).unwrap_or_default();
    Instant::now() + wait.min(CLOCK_LOOK)
}

fn take_standing(standing: v1::Standing) -> Result<(), SessionError> {
    match standing.state() {
        State::Accepted => {
            tracing::info!("accepted by the hub");
            Ok(())
        }
        State::NotAccepted | State::Unspecified => {
            tracing::warn!(
                message = standing.message,
                "connected, but not accepted: the platform team accepts this cluster with kubectl nave accept"
            );
            Ok(())
        }
        State::Revoked => Err(SessionError::Revoked(standing.message)),
    }
}
