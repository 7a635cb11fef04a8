//! One spoke's session: what it says goes to the table, what its cluster is to hold goes to it. The session's certificate
//! alone says which cluster that is.

use std::time::Duration;

use jiff::Timestamp;
use nave_proto::{
    PROTOCOL,
    v1::{
        CertificateRequest, CertificateResponse, HubHello, HubMessage, Peers, Report, SpokeHello,
        SpokeMessage, Standing, hub_message, spoke_message::Message, standing::State,
    },
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tonic::{Code, Status, Streaming};

use nave_runtime::error_text::chain;

use super::{
    desired::{self, Told},
    metrics::SessionEnd,
    observed::Opening,
    outbox::{Next, Outbox},
    sessions::Seat,
    shared::Shared,
    standing,
};
use crate::{
    pki::{Peer, check_request},
    progress::EntryProgress,
};

/// The first message has to come within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);
/// Heartbeats that may be missed.
const MISSED: u32 = 3;
/// Requests for URLs that are worked on at once for one spoke. An agent asks for the next when it has used the last.
const ASKED_AT_ONCE: usize = 4;

/// What goes to the spoke.
pub(super) type Outbound = mpsc::Sender<Result<HubMessage, Status>>;

/// A session that is past its hello.
pub(super) struct Session {
    shared: Shared,
    peer: Peer,
    seat: Seat,
    outbox: Outbox,
    told: Told,
    standing: Standing,
    /// The last that the spoke was named.
    named: Peers,
    answers: (mpsc::Sender<hub_message::Message>, mpsc::Receiver<hub_message::Message>),
    asked: std::sync::Arc<tokio::sync::Semaphore>,
    last_heard: Instant,
    last_beat: Instant,
}

/// Serves the session until it ends; says how it ended.
pub(super) async fn serve(
    shared: Shared,
    peer: Peer,
    mut inbound: Streaming<SpokeMessage>,
    outbound: &Outbound,
) -> Result<SessionEnd, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let Some(SpokeMessage { message: Some(Message::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("the first message has to be a hello"));
    };
    let protocol = negotiate(hello.min_protocol, hello.max_protocol)?;
    let standing = standing::of(shared.world.cluster(peer.cluster.as_str()).as_deref(), &peer);
    let greeting = HubHello {
        protocol,
        gateway: shared.gateway.clone(),
        heartbeat_seconds: u32::try_from(shared.heartbeat.as_secs().max(1)).unwrap_or(u32::MAX),
        standing: Some(standing.clone()),
    };
    let greeting = HubMessage { message: Some(hub_message::Message::Hello(greeting)) };
    if outbound.send(Ok(greeting)).await.is_err() {
        return Ok(SessionEnd::Closed);
    }
    if standing.state() == State::Revoked {
        return Err(Status::permission_denied(standing.message));
    }
    let mut session = Session::begin(shared, peer, hello, standing);
    let ended = session.run(&mut inbound, outbound).await;
    session.shared.table.close(&session.peer.cluster, session.seat.id);
    session.shared.progress.remove(&session.peer.cluster);
    ended
}

/// The highest protocol that both speak; there is one so far.
fn negotiate(least: u32, most: u32) -> Result<u32, Status> {
    if (least..=most).contains(&PROTOCOL) {
        return Ok(PROTOCOL);
    }
    let whose = if least > PROTOCOL { "upgrade the hub" } else { "upgrade the agent" };
    Err(Status::failed_precondition(format!(
        "the agent speaks protocol {least} to {most}, this hub {PROTOCOL}: {whose}"
    )))
}

impl Session {
    fn begin(shared: Shared, peer: Peer, hello: SpokeHello, standing: Standing) -> Self {
        let seat = shared.sessions.take(&peer.cluster);
        let opening = Opening {
            agent_version: hello.agent_version.clone(),
            generation: hello.generation,
            not_after: peer.not_after,
            key: peer.public_key_digest,
        };
        shared.table.open(&peer.cluster, seat.id, opening);
        tracing::info!(cluster = %peer.cluster, generation = hello.generation, "spoke connected");
        let mut outbox = Outbox::default();
        outbox.desired_changed();
        let mut session = Self {
            told: Told::resume(hello.generation, &hello.held),
            shared,
            peer,
            seat,
            outbox,
            standing,
            named: Peers::default(),
            answers: mpsc::channel(ASKED_AT_ONCE),
            asked: std::sync::Arc::new(tokio::sync::Semaphore::new(ASKED_AT_ONCE)),
            last_heard: Instant::now(),
            last_beat: Instant::now(),
        };
        if let Some(report) = hello.report {
            session.hear(report);
        }
        session.name_peers();
        session
    }

    async fn run(
        &mut self,
        inbound: &mut Streaming<SpokeMessage>,
        outbound: &Outbound,
    ) -> Result<SessionEnd, Status> {
        let silence = self.shared.heartbeat.saturating_mul(MISSED);
        let stop = self.shared.stop.clone();
        loop {
            let ends_at = self.certificate_end();
            tokio::select! {
                () = stop.cancelled() => {
                    return Err(Status::unavailable("this replica of the hub stops: connect again"));
                }
                () = self.seat.replaced.cancelled() => {
                    return Err(Status::aborted("the same cluster connected anew; is the agent running twice?"));
                }
                () = tokio::time::sleep_until(self.last_heard + silence) => return Ok(SessionEnd::Silent),
                () = tokio::time::sleep_until(ends_at) => {
                    return Err(Status::unauthenticated("the client certificate has ended: enrol again"));
                }
                room = outbound.reserve(), if !self.outbox.is_empty() => {
                    let Ok(room) = room else { return Ok(SessionEnd::Closed) };
                    if let Some(message) = self.next_message() {
                        room.send(Ok(message));
                    }
                    // Its standing goes out before anything else, and was the last word.
                    if self.is_revoked() {
                        return Err(Status::permission_denied(self.standing.message.clone()));
                    }
                }
                changed = self.seat.changed.changed() => {
                    if changed.is_ok() {
                        self.look_again();
                    }
                }
                Some(answer) = self.answers.1.recv() => self.outbox.answer(answer),
                message = inbound.message() => match message {
                    Ok(Some(_)) if self.is_revoked() => {}
                    Ok(Some(message)) => self.take(message),
                    Ok(None) => return Ok(SessionEnd::Closed),
                    // A message past the limit: the one who sent it is told.
                    Err(status) if status.code() == Code::OutOfRange => return Err(status),
                    Err(status) => {
                        tracing::debug!(cluster = %self.peer.cluster, %status, "stream broke");
                        return Ok(SessionEnd::Closed);
                    }
                },
            }
        }
    }

    fn certificate_end(&self) -> Instant {
        let left = self.peer.not_after.duration_since(Timestamp::now());
        Instant::now() + Duration::try_from(left).unwrap_or_default()
    }

    /// The EdgeCluster or the assignment changed.
    fn look_again(&mut self) {
        let standing =
            standing::of(self.shared.world.cluster(self.peer.cluster.as_str()).as_deref(), &self.peer);
        if standing != self.standing {
            tracing::info!(cluster = %self.peer.cluster, state = ?standing.state(), "the spoke's standing changed");
            self.standing = standing.clone();
            self.outbox.stand(standing);
        }
        self.name_peers();
        self.outbox.desired_changed();
    }

    /// Names the spoke its peers if they are others than it knows of. One without standing has none.
    fn name_peers(&mut self) {
        let accepted = self.standing.state() == State::Accepted;
        let peers =
            if accepted { self.shared.peers.of(self.peer.cluster.as_str()) } else { Peers::default() };
        if peers != self.named {
            self.named = peers.clone();
            self.outbox.name_peers(peers);
        }
    }

    fn is_revoked(&self) -> bool {
        self.standing.state() == State::Revoked
    }

    fn next_message(&mut self) -> Option<HubMessage> {
        match self.outbox.next()? {
            Next::Message(message) => Some(message),
            Next::Desired => {
                // Consent withdrawn is no order to delete: the spoke keeps what it has, and is told nothing more.
                if self.standing.state() != State::Accepted {
                    return None;
                }
                let world = &self.shared.world;
                let assignment = world.assignment(self.peer.cluster.as_str())?;
                let format = |entry: &nave_crds::AssignmentEntry| {
                    let version = world.version_of(&entry.namespace, &entry.model, &entry.version);
                    version.map(|version| version.spec.format.as_str().to_owned()).unwrap_or_default()
                };
                let desired = self.told.next(desired::wanted(&assignment, format))?;
                self.shared.metrics.told.inc();
                tracing::info!(
                    cluster = %self.peer.cluster,
                    generation = desired.generation,
                    entries = desired.entries.len(),
                    removed = desired.removed.len(),
                    "told the spoke"
                );
                Some(HubMessage { message: Some(hub_message::Message::Desired(desired)) })
            }
        }
    }

    fn take(&mut self, message: SpokeMessage) {
        self.last_heard = Instant::now();
        match message.message {
            Some(Message::Heartbeat(beat)) => {
                let gap = self.last_heard - std::mem::replace(&mut self.last_beat, self.last_heard);
                self.shared.metrics.beat(gap, self.shared.heartbeat);
                self.outbox.beat(beat.sequence);
            }
            Some(Message::Report(report)) => self.hear(report),
            Some(Message::DesiredAck(ack)) => {
                if !ack.accepted {
                    tracing::warn!(
                        cluster = %self.peer.cluster,
                        generation = ack.generation,
                        reason = ack.reason,
                        message = ack.message,
                        "the spoke refused its assignment"
                    );
                    if ack.reason == "WrongBase" {
                        self.told.wrong_base();
                        self.outbox.desired_changed();
                    }
                }
                let now = Timestamp::now();
                self.shared.table.update(&self.peer.cluster, |observed, _| observed.answered(ack, now));
            }
            Some(Message::UrlRequest(request)) => self.ask_for_urls(request),
            Some(Message::CertificateRequest(request)) => {
                let response = self.renew(&request);
                self.outbox.answer(hub_message::Message::CertificateResponse(response));
            }
            // A second hello, or something of a later protocol.
            Some(Message::Hello(_)) | None => {
                tracing::debug!(cluster = %self.peer.cluster, "a message that says nothing here");
            }
        }
    }

    fn hear(&self, report: Report) {
        let cluster = &self.peer.cluster;
        if let Some(entries) = &report.entries {
            let moving = entries.rows.iter().filter(|row| row.bytes_total > 0 || row.bytes_done > 0);
            let progress = moving.map(|row| EntryProgress {
                namespace: row.namespace.clone(),
                model: row.model.clone(),
                version: row.version.clone(),
                bytes_done: row.bytes_done,
                bytes_total: row.bytes_total,
            });
            self.shared.progress.set(cluster, progress.collect());
        }
        let now = Timestamp::now();
        self.shared.table.update(cluster, |observed, stored| observed.hear(report, stored, now));
    }

    fn ask_for_urls(&mut self, request: nave_proto::v1::UrlRequest) {
        let Ok(permit) = std::sync::Arc::clone(&self.asked).try_acquire_owned() else {
            let response = nave_proto::v1::UrlResponse {
                request_id: request.request_id,
                urls: Vec::new(),
                error: format!("more than {ASKED_AT_ONCE} requests at once"),
                error_reason: "TooMany".into(),
            };
            self.outbox.answer(hub_message::Message::UrlResponse(response));
            return;
        };
        if self.standing.state() != State::Accepted {
            let response = nave_proto::v1::UrlResponse {
                request_id: request.request_id,
                urls: Vec::new(),
                error: self.standing.message.clone(),
                error_reason: "NotAssigned".into(),
            };
            self.outbox.answer(hub_message::Message::UrlResponse(response));
            return;
        }
        let (minter, cluster, answers) =
            (self.shared.minter.clone(), self.peer.cluster.clone(), self.answers.0.clone());
        tokio::spawn(async move {
            let response = minter.answer(&cluster, request).await;
            // The channel holds one for each permit; it is closed when the session is over.
            let sent = answers.send(hub_message::Message::UrlResponse(response)).await;
            if sent.is_err() {
                tracing::debug!(%cluster, "the session ended before its URLs were there");
            }
            drop::<OwnedSemaphorePermit>(permit);
        });
    }

    fn renew(&mut self, request: &CertificateRequest) -> CertificateResponse {
        let refuse = |error: String| CertificateResponse {
            request_id: request.request_id,
            error,
            ..CertificateResponse::default()
        };
        let checked = match check_request(&request.certificate_request) {
            Ok(checked) => checked,
            Err(error) => return refuse(error.to_string()),
        };
        if checked.public_key_digest() != self.peer.public_key_digest {
            return refuse("a certificate is renewed for the session's own key only".into());
        }
        let Shared { authority, certificate_life, .. } = &self.shared;
        match authority.issue_client(&self.peer.cluster, &checked, *certificate_life, Timestamp::now()) {
            Ok(issued) => {
                self.peer.not_after = issued.not_after;
                let not_after = issued.not_after;
                self.shared.table.update(&self.peer.cluster, |observed, _| observed.not_after = not_after);
                tracing::info!(cluster = %self.peer.cluster, %not_after, "renewed the spoke's certificate");
                CertificateResponse {
                    request_id: request.request_id,
                    certificate_chain: issued.chain,
                    ca_bundle: authority.bundle_pem().to_owned(),
                    error: String::new(),
                }
            }
            Err(error) => {
                tracing::error!(cluster = %self.peer.cluster, error = %chain(&error), "cannot renew a certificate");
                refuse("the hub cannot issue certificates now".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_that_is_behind_is_named() {
        assert_eq!(negotiate(1, 4).unwrap(), 1);
        assert!(negotiate(2, 4).unwrap_err().message().ends_with("upgrade the hub"));
        assert!(negotiate(0, 0).unwrap_err().message().ends_with("upgrade the agent"));
    }
}
