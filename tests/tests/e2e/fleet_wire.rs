//! What the wire promises, at the real hub: a spoke of a later release is understood, messages have a limit, changes go
//! out as differences, an entry can be refused alone, and a spoke that flaps costs little.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Api;
use nave_crds::EdgeCluster;
use nave_proto::v1::{
    Desired, DesiredAck, EnrollRequest, EntryRefusal, Facts, HubMessage, Report, SpokeHello, hub_message,
    spoke_message::Message,
};
use nave_tests::{
    Progress, Stack, eventually,
    fleet::{
        Credentials, Fleet, api,
        wire::{self, Wire},
    },
    weights,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::fleet_sessions::LIMIT;

const CLUSTER: &str = "bridge-a12";

/// A spoke's messages as a later release may have them: fields and cases that this one does not know.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterMessage {
    #[prost(message, optional, tag = "1")]
    hello: Option<SpokeHello>,
    #[prost(message, optional, tag = "3")]
    report: Option<LaterReport>,
    #[prost(message, optional, tag = "77")]
    unheard_of: Option<Facts>,
    #[prost(string, tag = "78")]
    remark: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaterReport {
    #[prost(message, optional, tag = "2")]
    facts: Option<Facts>,
    #[prost(uint64, tag = "900")]
    mood: u64,
}

fn facts(key: &str, value: &str) -> Facts {
    Facts { values: [(key.to_owned(), value.to_owned())].into() }
}

async fn one_cluster(stack: &Stack) -> Result<Credentials> {
    api::create_clusters(&stack.plane.client().await?, &[CLUSTER.into()], &[("site", "x")]).await?;
    Fleet::of(stack).await?.authority().issue(CLUSTER)
}

async fn wait_fact(stack: &Stack, key: &str, value: &str) -> Result<()> {
    let clusters: Api<EdgeCluster> = Api::all(stack.plane.client().await?);
    eventually(&format!("the fact {key}={value}"), LIMIT, || async {
        let facts = clusters.get(CLUSTER).await?.status.unwrap_or_default().facts;
        Ok(Progress::when(facts.get(key).map(String::as_str) == Some(value), (), format!("{facts:?}")))
    })
    .await
}

#[tokio::test]
async fn e2e_fleet_wire_tolerates_what_is_new_and_limits_what_is_large() -> Result<()> {
    let stack = Stack::start().await?;
    let own = one_cluster(&stack).await?;
    later_release(&stack, &own).await?;
    too_large(&stack, &own).await?;
    flapping(&stack, &own).await
}

async fn later_release(stack: &Stack, own: &Credentials) -> Result<()> {
    let remark = "of a later release".to_owned();
    let (send, messages) = tokio::sync::mpsc::channel(4);
    let hello =
        LaterMessage { hello: Some(wire::hello()), remark: remark.clone(), ..LaterMessage::default() };
    send.send(hello).await?;
    let mut client = tonic::client::Grpc::new(wire::dial(&stack.hub.address(), &own.ca, Some(own)).await?);
    client.ready().await?;
    let path = http::uri::PathAndQuery::from_static("/nave.v1.Session/Connect");
    let codec = ProstCodec::<LaterMessage, HubMessage>::default();
    let request = tonic::Request::new(ReceiverStream::new(messages));
    let mut inbound: Streaming<HubMessage> = client.streaming(request, path, codec).await?.into_inner();
    let first = inbound.message().await?.context("no hello")?;
    assert!(matches!(first.message, Some(hub_message::Message::Hello(_))), "{first:?}");
    // A case of the oneof that this hub does not know, then one that it knows with a field that it does not.
    let unheard_of = Some(facts("lost", "on it"));
    send.send(LaterMessage { unheard_of, remark: remark.clone(), ..LaterMessage::default() }).await?;
    let report = Some(LaterReport { facts: Some(facts("said-by", "a later release")), mood: 9 });
    send.send(LaterMessage { report, remark, ..LaterMessage::default() }).await?;
    wait_fact(stack, "said-by", "a later release").await
}

async fn too_large(stack: &Stack, own: &Credentials) -> Result<()> {
    let hub = stack.hub.address();
    let mut session = Wire::open(&hub, own, wire::hello()).await?;
    let report = |bytes| Report { facts: Some(facts("long", &"x".repeat(bytes))), ..Report::default() };
    session.say(Message::Report(report(nave_proto::MAX_MESSAGE_BYTES))).await?;
    let (status, _) = session.ended().await?;
    assert!(status.code() == Code::OutOfRange && status.message().contains("too large"), "{status}");

    let key = rcgen::KeyPair::generate()?;
    let request = EnrollRequest {
        token: "x".repeat(64 << 10),
        cluster: "another".into(),
        certificate_request: wire::certificate_request(&key)?,
        ..EnrollRequest::default()
    };
    let refused: Status = wire::enroll(&hub, &own.ca, request).await.expect_err("a token of 64 KiB");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    Ok(())
}

/// However often a spoke comes back with something new to say: two writes a second at most.
async fn flapping(stack: &Stack, own: &Credentials) -> Result<()> {
    const TIMES: u64 = 40;
    let client = stack.plane.client().await?;
    let before = api::ApiWrites::read(&client).await?;
    let began = std::time::Instant::now();
    for time in 1..=TIMES {
        let mut hello = wire::hello();
        if let Some(report) = &mut hello.report {
            report.facts = Some(facts("time", &time.to_string()));
        }
        let session = Wire::open(&stack.hub.address(), own, hello).await?;
        session.say(Message::Report(Report { facts: Some(facts("time", "-")), ..Report::default() })).await?;
    }
    let session = Wire::open(&stack.hub.address(), own, wire::hello()).await?;
    session.say(Message::Report(Report { facts: Some(facts("time", "last")), ..Report::default() })).await?;
    wait_fact(stack, "time", "last").await?;
    let allowed = began.elapsed().as_secs() * 2 + 3;
    let written = api::ApiWrites::read(&client).await?.since(&before);
    let statuses = written.get("PATCH edgeclusters/status").copied().unwrap_or_default();
    assert!(
        statuses >= 1 && statuses <= allowed && statuses < TIMES,
        "{statuses} writes for {TIMES} sessions: {written:?}"
    );
    Ok(())
}

/// Publishes a small version and asks for it on the cluster.
async fn publish_and_place(stack: &Stack, model: &str, version: &str) -> Result<()> {
    let folder = stack.folder().join(model).join(version);
    weights::write_random(&folder.join("weights.bin"), 1_000, 3)?;
    std::fs::write(folder.join("version"), version)?;
    stack.publish(&folder, model, version).await?;
    stack.place(model, model, version, &[("site", "x")]).await
}

/// Waits until the spoke was told of that many models, adding up; the last message, and how many there were.
async fn told(session: &mut Wire, model: &str, version: &str) -> Result<Desired> {
    session
        .wait_for(&format!("{model} {version}"), |message| {
            let hub_message::Message::Desired(desired) = message else { return None };
            let is_there = desired.entries.iter().any(|entry| {
                entry.key.as_ref().is_some_and(|key| key.model == model && key.version == version)
            });
            is_there.then_some(desired)
        })
        .await
}

#[tokio::test]
async fn e2e_fleet_wire_tells_differences_and_takes_refusals_of_one_entry() -> Result<()> {
    let stack = Stack::start().await?;
    let own = one_cluster(&stack).await?;
    for model in ["a", "b", "c"] {
        publish_and_place(&stack, model, "1").await?;
    }
    let mut session = Wire::open(&stack.hub.address(), &own, wire::hello()).await?;
    let first = told(&mut session, "c", "1").await?;
    let accepted = |desired: &Desired, refused| DesiredAck {
        generation: desired.generation,
        accepted: true,
        refused,
        ..DesiredAck::default()
    };
    session.say(Message::DesiredAck(accepted(&first, Vec::new()))).await?;
    publish_and_place(&stack, "b", "2").await?;
    let delta = told(&mut session, "b", "2").await?;
    assert!(delta.base_generation > 0 && delta.generation > delta.base_generation, "{delta:?}");
    assert_eq!(delta.entries.len(), 1, "what did not change is not said again");
    assert_eq!(delta.removed.iter().map(|key| &*key.version).collect::<Vec<_>>(), ["1"]);

    // A spoke whose ledger is another than the hub thinks cannot take a difference over: it gets all of it.
    let wrong_base =
        DesiredAck { reason: "WrongBase".into(), accepted: false, ..accepted(&delta, Vec::new()) };
    session.say(Message::DesiredAck(wrong_base)).await?;
    let whole = told(&mut session, "b", "2").await?;
    assert_eq!((whole.base_generation, whole.entries.len()), (0, 3), "{whole:?}");

    let refusal = EntryRefusal {
        key: delta.entries[0].key.clone(),
        reason: "RuntimeUnknown".into(),
        message: "there is no such runtime here".into(),
    };
    session.say(Message::DesiredAck(accepted(&delta, vec![refusal]))).await?;
    session.say(Message::Report(Report { entries: Some(Default::default()), ..Report::default() })).await?;
    let row = stack.wait_reported(CLUSTER, "b", "to refuse b", |row| row["phase"] == "Rejected").await?;
    assert_eq!((&row["version"], &row["reason"]), (&"2".into(), &"RuntimeUnknown".into()));

    // A spoke that holds what it was told is not told again; the same number with other content is told whole.
    let held = |entries: &[nave_proto::v1::DesiredEntry]| {
        entries
            .iter()
            .map(|entry| nave_proto::v1::HeldEntry {
                key: entry.key.clone(),
                manifest_digest: entry.manifest_digest.clone(),
            })
            .collect::<Vec<_>>()
    };
    let hello = SpokeHello { generation: delta.generation, held: held(&delta.entries), ..wire::hello() };
    let mut again = Wire::open(&stack.hub.address(), &own, hello).await?;
    let whole = told(&mut again, "b", "2").await?;
    assert_eq!(
        (whole.base_generation, whole.entries.len()),
        (0, 3),
        "the hello said that a and c are missing"
    );
    let hello = SpokeHello { generation: whole.generation, held: held(&whole.entries), ..wire::hello() };
    let mut same = Wire::open(&stack.hub.address(), &own, hello).await?;
    let told = tokio::time::timeout(Duration::from_secs(3), same.desired()).await;
    assert!(told.is_err(), "it holds all of it, but: {told:?}");
    Ok(())
}
