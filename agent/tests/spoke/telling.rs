//! Snapshots, deltas, and what is refused of them.

use nave_proto::v1::{self, entry_report::Phase, spoke_message::Message as FromSpoke};

use crate::{
    hub::Hub,
    site::{Site, snapshot},
};

async fn acked(hub: &Hub, count: usize) -> v1::DesiredAck {
    let acks = |hub: &Hub| hub.count(|said| matches!(said, FromSpoke::DesiredAck(_)));
    hub.until("an answer", |hub| (acks(hub) >= count).then(|| hub.last_ack().unwrap())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_are_taken_over_or_refused_by_name() {
    let site = Site::new().await;
    let (one, two) = (site.publish("1", b"one"), site.publish("2", b"two"));
    site.hub.tell(snapshot(5, std::slice::from_ref(&one))).await;
    let agent = site.start().await;
    let ack = acked(&site.hub, 1).await;
    assert!(ack.accepted && ack.generation == 5 && ack.refused.is_empty());
    site.hub.until_phase("defects", "1", Phase::Serving).await;

    for (index, (desired, reason)) in [
        (snapshot(4, &[]), "StaleGeneration"),
        (snapshot(5, &[]), "ConflictingContent"),
        (v1::Desired { base_generation: 3, ..snapshot(6, &[]) }, "WrongBase"),
        (snapshot(6, &[v1::DesiredEntry::default()]), "Malformed"),
    ]
    .into_iter()
    .enumerate()
    {
        site.hub.tell(desired).await;
        let ack = acked(&site.hub, index + 2).await;
        assert_eq!((ack.accepted, ack.reason.as_str()), (false, reason));
    }
    assert_eq!(site.served("defects").as_deref(), Some(&b"one"[..]));

    let removed = vec![one.key.unwrap()];
    site.hub.tell(v1::Desired { base_generation: 5, removed, ..snapshot(6, &[two]) }).await;
    assert!(acked(&site.hub, 6).await.accepted);
    site.hub.until_phase("defects", "2", Phase::Serving).await;
    agent.stop().await;

    site.hub.tell(snapshot(6, &[])).await;
    let agent = site.start().await;
    let hello =
        site.hub.until("a second hello", |hub| hub.last_hello().filter(|hello| hello.generation == 6)).await;
    assert_eq!((hello.held.len(), hello.held[0].key.as_ref().unwrap().version.as_str()), (1, "2"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_for_another_runtime_is_refused_alone() {
    let site = Site::new().await;
    let one = site.publish_as("a", "1", b"a");
    let mut two = site.publish_as("b", "1", b"b");
    two.serving = Some(v1::Serving { runtime: "triton".into(), probe_timeout_seconds: 5 });
    site.hub.tell(snapshot(1, &[one, two])).await;
    let agent = site.start().await;
    let ack = acked(&site.hub, 1).await;
    assert!(ack.accepted);
    assert_eq!(ack.refused[0].reason, "RuntimeUnknown");
    site.hub.until_phase("a", "1", Phase::Serving).await;
    let row = site.hub.until_phase("b", "1", Phase::Rejected).await;
    assert_eq!(row.reason, "RuntimeUnknown");
    agent.stop().await;
}
