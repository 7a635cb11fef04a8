//! Ends that are asked for, and certificates that run out: both sides drain on SIGTERM, a spoke renews on the open stream,
//! and comes back by its old key when it was away for too long.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nave_crds::EdgeCluster;
use nave_proto::v1::{Facts, Report, UrlRequest, hub_message, spoke_message::Message};
use nave_tests::{
    ControlPlaneSettings, HubSettings, Progress, Stack, StackSettings, eventually,
    fleet::{
        Fleet, api,
        wire::{self, Wire},
    },
};
use tonic::Code;

use crate::site::{CLUSTER, Site};

const MB: u64 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn e2e_an_agent_that_is_told_to_stop_in_a_pull_goes_on_from_there() -> Result<()> {
    let (mut site, small) = Site::serving_a_small_version().await?;
    let large = site.publish("2.0.0", &[("weights.bin", 60 * MB)]).await?;
    let before = site.proxy.traffic("2.0.0/weights.bin").bytes;
    site.proxy.limit(Some(10 * MB));
    site.place(&large).await?;
    let seen = || site.proxy.traffic("2.0.0/weights.bin").bytes - before;
    eventually("a part of the pull", LIMIT, || async {
        let bytes = seen();
        Ok(Progress::when(bytes >= 20 * MB, (), bytes))
    })
    .await?;
    site.spoke.stop().await?;
    assert_eq!(site.current()?, small.files);
    site.spoke.restart()?;
    site.proxy.limit(None);
    site.wait_serving(&large).await?;
    let fetched = site.proxy.traffic("2.0.0/weights.bin").bytes - before;
    assert!(fetched < 90 * MB, "{fetched} bytes were fetched of 60 MB: the pull started anew");
    Ok(())
}

/// What a spoke said last is stored, it is told to connect elsewhere, and the Lease is given back.
#[tokio::test]
async fn e2e_fleet_a_hub_that_is_told_to_stop_drains() -> Result<()> {
    let mut stack = Stack::start().await?;
    let client = stack.plane.client().await?;
    api::create_clusters(&client, &[CLUSTER.into()], &[]).await?;
    let own = Fleet::of(&stack).await?.authority().issue(CLUSTER)?;
    let mut session = Wire::open(&stack.hub.address(), &own, wire::hello()).await?;
    let clusters: kube::Api<EdgeCluster> = kube::Api::all(client);
    let fact =
        async || anyhow::Ok(clusters.get(CLUSTER).await?.status.unwrap_or_default().facts.remove("said"));
    session.say(Message::Report(saying("before"))).await?;
    eventually("the report to be stored", LIMIT, || async {
        let fact = fact().await?;
        Ok(Progress::when(fact.as_deref() == Some("before"), (), format!("{fact:?}")))
    })
    .await?;
    session.say(Message::Report(saying("after"))).await?;
    // An answer says that the hub has heard what came before it.
    session.say(Message::UrlRequest(UrlRequest { request_id: 1, ..UrlRequest::default() })).await?;
    session
        .wait_for("an answer", |message| {
            matches!(message, hub_message::Message::UrlResponse(_)).then_some(())
        })
        .await?;
    stack.hub.stop().await?;
    let (status, _) = session.ended().await?;
    assert!(status.code() == Code::Unavailable && status.message().contains("connect again"), "{status}");
    assert_eq!(fact().await?.as_deref(), Some("after"));
    let leases = stack.kubectl.json(&["get", "leases", "--namespace", nave_tests::SYSTEM_NAMESPACE]).await?;
    let all = leases["items"].as_array().cloned().unwrap_or_default();
    let held: Vec<_> = all.iter().filter(|lease| !lease["spec"]["holderIdentity"].is_null()).collect();
    assert!(!all.is_empty() && held.is_empty(), "another would have to wait for {held:?}");
    Ok(())
}

/// The API server is killed and comes back: sessions stay open, the hub stays up, what was said meanwhile is stored then.
#[tokio::test]
async fn e2e_fleet_an_api_server_that_is_away_ends_no_session() -> Result<()> {
    let control_plane = ControlPlaneSettings { fsync: true };
    let mut stack = Stack::start_with(StackSettings { control_plane, ..StackSettings::default() }).await?;
    api::create_clusters(&stack.plane.client().await?, &[CLUSTER.into()], &[]).await?;
    let own = Fleet::of(&stack).await?.authority().issue(CLUSTER)?;
    let mut session = Wire::open(&stack.hub.address(), &own, wire::hello()).await?;
    stack.wait_connected(CLUSTER, true).await?;
    stack.plane.kill();
    session.say(Message::Report(saying("meanwhile"))).await?;
    // Longer than the leadership's Lease lasts: the hub has to give it up and take it again.
    let ended = tokio::time::timeout(Duration::from_secs(8), session.ended()).await;
    assert!(ended.is_err(), "{ended:?}");
    stack.hub.daemon().ensure_running()?;
    stack.plane.restart().await?;
    let clusters: kube::Api<EdgeCluster> = kube::Api::all(stack.plane.client().await?);
    eventually("the report to be stored", LIMIT, || async {
        let facts = clusters.get(CLUSTER).await?.status.unwrap_or_default().facts;
        Ok(Progress::when(
            facts.get("said").is_some_and(|said| said == "meanwhile"),
            (),
            format!("{facts:?}"),
        ))
    })
    .await?;
    session.say(Message::UrlRequest(UrlRequest { request_id: 1, ..UrlRequest::default() })).await?;
    session
        .wait_for("the same session's answer", |message| {
            matches!(message, hub_message::Message::UrlResponse(_)).then_some(())
        })
        .await?;
    // And it plans again.
    let folder = stack.folder().join("model");
    nave_tests::weights::write_random(&folder.join("weights.bin"), 1_000, 1)?;
    stack.publish(&folder, "m", "1").await?;
    stack.place("m", "m", "1", &[]).await?;
    session.desired().await.map(drop)
}

fn saying(word: &str) -> Report {
    let facts = Facts { values: [("said".to_owned(), word.to_owned())].into() };
    Report { facts: Some(facts), ..Report::default() }
}

/// Until when the spoke's certificate is good, as the hub shows it.
async fn certificate(stack: &Stack) -> Result<jiff::Timestamp> {
    let object = stack.kubectl.json(&["get", "edgecluster", CLUSTER]).await?;
    let status = serde_json::from_value::<EdgeCluster>(object)?.status.context("no status")?;
    Ok(status.certificate_not_after.context("no certificate")?.0)
}

#[tokio::test]
async fn e2e_certificates_are_renewed_on_the_stream_and_after_their_end_by_the_old_key() -> Result<()> {
    let hub = HubSettings { certificate_ttl: "14s", ..HubSettings::default() };
    let stack = Stack::start_with(StackSettings { hub, ..StackSettings::default() }).await?;
    let mut spoke = stack.spoke(CLUSTER, &[]).await?;
    let first = certificate(&stack).await?;
    eventually("a certificate that outlives the first", LIMIT, || async {
        let now = certificate(&stack).await?;
        // Past the first one's end, so that the stream has lived longer than the certificate that opened it.
        let outlived = now > first && jiff::Timestamp::now() > first;
        Ok(Progress::when(outlived, (), format!("good until {now}, the first until {first}")))
    })
    .await?;
    let log = spoke.daemon().log();
    let times = |said: &str| log.matches(said).count();
    assert_eq!((times("connected hub="), times("enrolled cluster=")), (1, 1), "all on one stream");
    assert!((1..=4).contains(&times("renewed the certificate")), "at two thirds, and not all the time");

    // Away past the end, and the token is gone: its key, which the hub has on record, lets it in.
    spoke.stop().await?;
    let last = certificate(&stack).await?;
    std::fs::remove_file(stack.folder().join(CLUSTER).join("join-token"))?;
    let away = Duration::try_from(last.duration_since(jiff::Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(away + Duration::from_secs(1)).await;
    spoke.restart()?;
    eventually("it to be back", LIMIT, || async {
        let until = certificate(&stack).await?;
        Ok(Progress::when(until > last, (), until))
    })
    .await?;
    assert_eq!(spoke.daemon().log().matches("enrolled cluster=").count(), 2, "by its key alone");
    Ok(())
}
