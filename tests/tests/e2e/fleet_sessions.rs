//! A spoke's standing and its sessions at the real hub: consent given and withdrawn, versions that do not match, a spoke
//! that is there twice, a hub that dies, a spoke that stays away.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use kube::{
    Api, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use nave_crds::{
    EdgeCluster,
    view::conditions::{self, Status as Truth},
};
use nave_proto::{
    PROTOCOL,
    v1::{
        DesiredEntry, SpokeHello, Standing, UrlRequest, hub_message, spoke_message::Message, standing::State,
    },
};
use nave_tests::{
    HubSettings, Progress, Stack, StackSettings, eventually,
    fleet::{
        Fleet, api,
        wire::{self, Wire},
    },
    weights,
};
use tonic::{Code, Status};

/// For what happens soon on an idle machine.
pub(super) const LIMIT: Duration = Duration::from_secs(90);

fn standing(message: hub_message::Message) -> Option<Standing> {
    if let hub_message::Message::Standing(standing) = message { Some(standing) } else { None }
}

fn state_of(hello: &nave_proto::v1::HubHello) -> State {
    hello.standing.as_ref().map_or(State::Unspecified, Standing::state)
}

/// Publishes a small version and asks for it on site=`site`; its digest.
async fn publish_and_place(stack: &Stack, version: &str, site: &str) -> Result<String> {
    let folder = stack.folder().join("models").join(version);
    weights::write_random(&folder.join("weights.bin"), 2_000, version.len() as u64)?;
    std::fs::write(folder.join("version"), version)?;
    let digest = stack.publish(&folder, "ripeness", version).await?;
    stack.place("ripeness", "ripeness", version, &[("site", site)]).await?;
    Ok(digest)
}

#[tokio::test]
async fn e2e_fleet_consent_is_given_on_the_open_stream_and_revocation_ends_it() -> Result<()> {
    let stack = Stack::start().await?;
    let client = stack.plane.client().await?;
    let hub = stack.hub.address();
    let fleet = Fleet::of(&stack).await?;
    api::create_clusters(&client, &["bridge-a12".into()], &[("site", "bridge")]).await?;
    let consent = |given: &'static str| {
        let kubectl = stack.kubectl.clone();
        async move {
            let patch = format!("{{\"spec\":{{\"accepted\":{given}}}}}");
            kubectl.run(&["patch", "edgecluster", "bridge-a12", "--type=merge", "-p", &patch]).await
        }
    };
    consent("false").await?;
    let digest = publish_and_place(&stack, "1.0", "bridge").await?;
    let own = fleet.authority().issue("bridge-a12")?;

    let mut session = Wire::open(&hub, &own, wire::hello()).await?;
    assert_eq!(state_of(&session.hello), State::NotAccepted);
    // Long enough for the planner to have given it something, if it would.
    let quiet = tokio::time::timeout(Duration::from_secs(4), session.next()).await;
    assert!(quiet.is_err(), "an unaccepted cluster is told nothing, but: {quiet:?}");
    stack.kubectl.run(&["nave", "accept", "bridge-a12"]).await?;
    let stands = session.wait_for("its standing", standing).await?;
    assert_eq!(stands.state(), State::Accepted);
    let desired = session.desired().await?;
    assert_eq!(desired.entries[0].manifest_digest, digest);

    // A second session of the same cluster takes the first one's place.
    let mut second = Wire::open(&hub, &own, wire::hello()).await?;
    let (status, _) = session.ended().await?;
    assert_eq!(status.code(), Code::Aborted, "{status}");
    assert_eq!(second.desired().await?.generation, desired.generation, "told again: it holds nothing");

    consent("false").await?;
    gets_nothing_more(&mut second, &desired.entries[0]).await?;
    stack.kubectl.run(&["nave", "revoke", "bridge-a12"]).await?;
    let (status, said) = second.ended().await?;
    assert!(status.code() == Code::PermissionDenied && status.message().contains("revoked"), "{status}");
    let last = said.into_iter().filter_map(standing).next_back().context("it was not told its standing")?;
    assert_eq!(last.state(), State::Revoked);
    let mut refused = Wire::open(&hub, &own, wire::hello()).await?;
    assert_eq!(state_of(&refused.hello), State::Revoked, "told even then");
    assert_eq!(refused.ended().await?.0.code(), Code::PermissionDenied);
    Ok(())
}

/// Consent that is withdrawn is no order to delete: the spoke hears of it, and then of nothing more. What it was told to
/// hold it cannot fetch any more either.
async fn gets_nothing_more(session: &mut Wire, entry: &DesiredEntry) -> Result<()> {
    let stands = session.wait_for("its standing", standing).await?;
    assert_eq!(stands.state(), State::NotAccepted);
    let key = entry.key.clone().unwrap_or_default();
    let request = UrlRequest {
        request_id: 7,
        namespace: key.namespace,
        model: key.model,
        version: key.version,
        manifest_digest: entry.manifest_digest.clone(),
        paths: vec!["weights.bin".into()],
    };
    session.say(Message::UrlRequest(request)).await?;
    let Some(hub_message::Message::UrlResponse(urls)) = session.next().await? else {
        bail!("no answer came")
    };
    assert_eq!((urls.error_reason.as_str(), urls.error.as_str()), ("NotAssigned", &*stands.message));
    let quiet = tokio::time::timeout(Duration::from_secs(4), session.next()).await;
    assert!(quiet.is_err(), "it is told nothing more, but: {quiet:?}");
    Ok(())
}

#[tokio::test]
async fn e2e_fleet_protocols_are_negotiated_and_the_side_that_is_behind_is_named() -> Result<()> {
    let stack = Stack::start().await?;
    api::create_clusters(&stack.plane.client().await?, &["bridge-a12".into()], &[]).await?;
    let own = Fleet::of(&stack).await?.authority().issue("bridge-a12")?;
    let hub = stack.hub.address();
    let speaking = |min_protocol, max_protocol| SpokeHello { min_protocol, max_protocol, ..wire::hello() };
    let session = Wire::open(&hub, &own, speaking(PROTOCOL, PROTOCOL + 5)).await?;
    assert_eq!(session.hello.protocol, PROTOCOL, "the highest that both speak");
    for (hello, hint) in [
        (speaking(PROTOCOL + 1, PROTOCOL + 2), "upgrade the hub"),
        (speaking(0, PROTOCOL - 1), "upgrade the agent"),
    ] {
        let refused = Wire::open(&hub, &own, hello).await.expect_err("another protocol");
        let status = refused.downcast_ref::<Status>().with_context(|| format!("{refused:?}"))?;
        assert!(status.code() == Code::FailedPrecondition && status.message().contains(hint), "{status}");
    }
    Ok(())
}

/// Every state that the API server shows of EdgeClusters from here on, as (name, Connected).
async fn watch_connected(
    clusters: Api<EdgeCluster>,
    seen: std::sync::Arc<std::sync::Mutex<Vec<(String, Truth)>>>,
) {
    let mut events =
        std::pin::pin!(watcher(clusters, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(event) = events.next().await {
        let Ok(cluster) = event else { continue };
        let status = cluster.status.clone().unwrap_or_default();
        let connected = conditions::status(&status.conditions, conditions::CONNECTED);
        seen.lock().unwrap().push((cluster.name_any(), connected));
    }
}

#[tokio::test]
async fn e2e_fleet_a_hub_that_is_killed_and_returns_is_no_news() -> Result<()> {
    let mut stack = Stack::start().await?;
    let client = stack.plane.client().await?;
    let names: Vec<String> = (0..12).map(|n| format!("spoke-{n:02}")).collect();
    api::create_clusters(&client, &names, &[("site", "x")]).await?;
    let mut fleet = Fleet::of(&stack).await?;
    fleet.connect_all(&names).await?;
    let digest = publish_and_place(&stack, "1.0", "x").await?;
    for name in &names {
        stack.wait_serving(name, "ripeness", &digest).await?;
        stack.wait_connected(name, true).await?;
    }
    let rows = stack.kubectl.json(&["get", "clusterassignments"]).await?;

    let clusters: Api<EdgeCluster> = Api::all(client.clone());
    let seen = std::sync::Arc::default();
    let watch = tokio::spawn(watch_connected(clusters.clone(), std::sync::Arc::clone(&seen)));
    stack.hub.kill();
    // The API has whole seconds; sessions of before began at the latest when the spokes were served.
    let restarted = jiff::Timestamp::now();
    stack.hub.restart().await?;
    eventually("every spoke to be back", LIMIT, || async {
        let back = clusters.list(&Default::default()).await?.items.into_iter().filter(|cluster| {
            let session = cluster.status.as_ref().and_then(|status| status.session.as_ref());
            session.is_some_and(|session| session.since.0.as_second() >= restarted.as_second())
        });
        let back = back.count();
        Ok(Progress::when(back == names.len(), (), format!("{back} of {}", names.len())))
    })
    .await?;
    // Longer than the grace period: who was forgotten would be lost by now.
    tokio::time::sleep(Duration::from_secs(10)).await;
    watch.abort();
    let flaps: Vec<_> =
        seen.lock().unwrap().iter().filter(|(_, truth)| *truth != Truth::True).cloned().collect();
    assert!(flaps.is_empty(), "{flaps:?}");
    let after = stack.kubectl.json(&["get", "clusterassignments"]).await?;
    for (before, after) in rows["items"].as_array().unwrap().iter().zip(after["items"].as_array().unwrap()) {
        assert_eq!(
            before["status"]["entries"], after["status"]["entries"],
            "since when it is so has not changed"
        );
        assert_eq!(before["spec"], after["spec"]);
    }
    // And what comes after goes on as if nothing had been.
    let digest = publish_and_place(&stack, "1.1", "x").await?;
    for name in &names {
        stack.wait_serving(name, "ripeness", &digest).await?;
    }
    Ok(())
}

#[tokio::test]
async fn e2e_fleet_a_spoke_that_stays_away_is_not_connected_and_otherwise_unknown() -> Result<()> {
    let hub = HubSettings { heartbeat: "1s", grace_period: "3s", ..HubSettings::default() };
    let stack = Stack::start_with(StackSettings { hub, ..StackSettings::default() }).await?;
    let client = stack.plane.client().await?;
    let names = ["stays".to_owned(), "leaves".to_owned()];
    api::create_clusters(&client, &names, &[("site", "x")]).await?;
    let mut fleet = Fleet::of(&stack).await?;
    fleet.connect_all(&names).await?;
    let digest = publish_and_place(&stack, "1.0", "x").await?;
    for name in &names {
        stack.wait_serving(name, "ripeness", &digest).await?;
    }
    let rows = stack.reported("leaves", "ripeness").await?;
    fleet.disconnect("leaves");
    stack.wait_connected("leaves", false).await?;
    let clusters: Api<EdgeCluster> = Api::all(client);
    let truth = |cluster: &EdgeCluster, condition: &str| {
        let status = cluster.status.clone().unwrap_or_default();
        conditions::status(&status.conditions, condition)
    };
    let lost = clusters.get("leaves").await?;
    assert_eq!(truth(&lost, conditions::CONNECTED), Truth::False);
    for condition in [conditions::STORAGE_HEALTHY, conditions::SERVING_HEALTHY, conditions::READY] {
        assert_eq!(truth(&lost, condition), Truth::Unknown, "{condition}");
    }
    assert_eq!(truth(&lost, conditions::ACCEPTED), Truth::True);
    assert!(lost.status.unwrap_or_default().session.is_none());
    assert_eq!(stack.reported("leaves", "ripeness").await?, rows, "nothing of what it said last is deleted");
    let assignment = stack.kubectl.json(&["get", "clusterassignment", "leaves"]).await?;
    assert_eq!(assignment["spec"]["entries"][0]["manifestDigest"], digest, "and it is to serve it still");
    assert_eq!(truth(&clusters.get("stays").await?, conditions::READY), Truth::True);

    fleet.connect("leaves").await?;
    stack.wait_connected("leaves", true).await?;
    eventually("it to be ready again", LIMIT, || async {
        let cluster = clusters.get("leaves").await?;
        Ok(Progress::when(
            truth(&cluster, conditions::READY) == Truth::True,
            (),
            format!("{:?}", cluster.status),
        ))
    })
    .await
}
