//! Tests of `status`.

use nave_crds::{EdgeClusterSpec, view::conditions::is_true};
use nave_names::Digest;
use nave_proto::v1::{Health, Report};

use super::*;
use crate::gateway::observed::Opening;

const GATEWAY: &str = "hub-0";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn cluster() -> EdgeCluster {
    EdgeCluster::new("bridge-a12", EdgeClusterSpec { accepted: true, ..EdgeClusterSpec::default() })
}

fn spoke(available: u64) -> Observed {
    let opening =
        Opening { agent_version: "1".into(), generation: 0, not_after: at(9_999), key: Digest::of(b"key") };
    let mut observed = Observed::new(opening, None, at(10));
    let report = Report {
        capacity: Some(v1::Capacity {
            storage_total_bytes: 64_000,
            storage_available_bytes: available,
            ..v1::Capacity::default()
        }),
        health: Some(Health {
            storage: State::Healthy.into(),
            serving: State::Healthy.into(),
            ..Health::default()
        }),
        ..Report::default()
    };
    observed.hear(report, None, at(10));
    observed
}

fn condition(status: &EdgeClusterStatus, type_: &str) -> (String, String) {
    let found = conditions::find(&status.conditions, type_).unwrap();
    (found.status.clone(), found.reason.clone())
}

fn stored(observed: &Observed) -> EdgeCluster {
    let mut cluster = cluster();
    cluster.status = of_cluster(&cluster, None, observed, GATEWAY, at(20));
    cluster
}

#[test]
fn a_healthy_spoke_is_ready_and_is_written_once() {
    let cluster = stored(&spoke(32_000));
    let status = cluster.status.clone().unwrap();
    assert!(is_true(&status.conditions, conditions::READY));
    assert!(conditions::find(&status.conditions, conditions::ACCELERATORS_HEALTHY).is_none());
    assert_eq!(status.identity.unwrap().public_key_digest, Digest::of(b"key").to_string());
    assert_eq!(of_cluster(&cluster, None, &spoke(32_000), GATEWAY, at(500)), None, "time alone is no news");
    assert_eq!(of_cluster(&cluster, None, &spoke(31_500), GATEWAY, at(500)), None, "nor are a few bytes");
    assert!(of_cluster(&cluster, None, &spoke(30_000), GATEWAY, at(500)).is_some());
}

#[test]
fn what_a_spoke_said_before_it_went_is_written_while_no_other_gateway_has_it() {
    let cluster = stored(&spoke(32_000));
    let mut observed = spoke(1);
    let entries = v1::EntryReports { generation: 7, rows: Vec::new() };
    let report = Report { entries: Some(entries), ..Report::default() };
    observed.hear(report, None, at(21));
    observed.link = Link::Down;
    let status = of_cluster(&cluster, None, &observed, GATEWAY, at(22)).unwrap();
    assert_eq!(status.capacity.unwrap().storage.unwrap().available_bytes, Some(1));
    assert_eq!((status.session.unwrap().gateway.as_str(), status.last_seen), (GATEWAY, Some(Time(at(20)))));
    let assignment = ClusterAssignment::default();
    let rows = |gateway| of_assignment(&assignment, &cluster, &observed, gateway, at(22));
    assert_eq!(rows(GATEWAY).unwrap().observed_generation, Some(7));
    assert_eq!((of_cluster(&cluster, None, &observed, "hub-1", at(22)), rows("hub-1")), (None, None));
}

#[test]
fn a_short_absence_is_no_news_and_a_long_one_makes_all_unknown() {
    let mut observed = spoke(32_000);
    let cluster = stored(&observed);
    observed.link = Link::Down;
    assert_eq!(of_cluster(&cluster, None, &observed, GATEWAY, at(30)), None);
    observed.link = Link::Lost;
    let lost = of_cluster(&cluster, None, &observed, GATEWAY, at(90)).unwrap();
    assert_eq!(condition(&lost, conditions::CONNECTED), ("False".into(), "SessionLost".into()));
    assert_eq!(condition(&lost, conditions::SERVING_HEALTHY).0, "Unknown");
    assert_eq!(condition(&lost, conditions::READY), ("Unknown".into(), "NotConnected".into()));
    assert_eq!(lost.session, None);
    assert_eq!(
        of_cluster(&cluster, None, &observed, "hub-1", at(90)),
        None,
        "the session is another gateway's by now"
    );
}

#[test]
fn what_was_not_reported_is_unknown_and_never_healthy() {
    let mut observed = spoke(32_000);
    observed.health = None;
    let status = of_cluster(&cluster(), None, &observed, GATEWAY, at(20)).unwrap();
    assert_eq!(condition(&status, conditions::STORAGE_HEALTHY).0, "Unknown");
    assert_eq!(condition(&status, conditions::READY), ("Unknown".into(), "StorageHealthyUnknown".into()));
}

#[test]
fn consent_and_revocation_show() {
    let mut unaccepted = cluster();
    unaccepted.spec.accepted = false;
    let status = of_cluster(&unaccepted, None, &spoke(1), GATEWAY, at(20)).unwrap();
    assert_eq!(condition(&status, conditions::ACCEPTED), ("False".into(), "NotAccepted".into()));
    unaccepted.spec.revoked = true;
    let status = of_cluster(&unaccepted, None, &spoke(1), GATEWAY, at(20)).unwrap();
    assert_eq!(condition(&status, conditions::ACCEPTED), ("False".into(), "Revoked".into()));
}

#[test]
fn a_refused_generation_shows_on_the_assignment() {
    let mut observed = spoke(1);
    let ack = v1::DesiredAck {
        generation: 3,
        reason: "StaleGeneration".into(),
        message: "the ledger has 7".into(),
        ..v1::DesiredAck::default()
    };
    observed.answered(ack, at(20));
    let status =
        of_assignment(&ClusterAssignment::default(), &cluster(), &observed, GATEWAY, at(20)).unwrap();
    let acknowledged = conditions::find(&status.conditions, conditions::ACKNOWLEDGED).unwrap();
    assert_eq!((acknowledged.status.as_str(), acknowledged.reason.as_str()), ("False", "StaleGeneration"));
    assert_eq!(acknowledged.message, "generation 3: the ledger has 7");
}
