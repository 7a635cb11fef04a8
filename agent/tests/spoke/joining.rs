//! Joining, being who one is, and staying it.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use nave_proto::v1::{spoke_message::Message as FromSpoke, standing::State};

use crate::{hub::Ca, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn joins_with_a_token_and_keeps_its_key_to_itself() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.hub.until("a hello", crate::hub::Hub::last_hello).await;
    let mode = fs::metadata(site.state_dir().join("identity/key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    agent.stop().await;

    let again = site.start().await;
    site.hub.until("a second session", |hub| (hub.sessions() == 2).then_some(())).await;
    assert_eq!(site.hub.enrolled().len(), 1, "it joined again");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_not_the_pinned_one_is_refused_before_the_token_is_sent() {
    let site = Site::new().await;
    let mut config = site.config();
    config.ca_hash = Some(Ca::new("impostor").hash);
    let agent = site.start_with(config).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(site.hub.enrolled().is_empty());
    assert!(agent.ready().await.contains("joining the hub"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_joins_nobody() {
    let mut site = Site::new().await;
    site.token = Some("abcdefgh.wrong".into());
    let agent = site.start().await;
    site.hub.until("a try", |hub| (!hub.enrolled().is_empty()).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(site.hub.sessions(), 0);
    assert!(!site.state_dir().join("identity/cert.pem").exists());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renews_over_the_stream_without_dropping_it() {
    let site = Site::new().await;
    site.hub.set_life(Duration::from_secs(6));
    let agent = site.start().await;
    let renewals = |hub: &crate::hub::Hub| hub.count(|said| matches!(said, FromSpoke::CertificateRequest(_)));
    site.hub.until("two renewals", |hub| (renewals(hub) >= 2).then_some(())).await;
    assert_eq!((site.hub.sessions(), site.hub.enrolled().len()), (1, 1));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_again_with_its_old_key_after_its_certificate_expired() {
    let mut site = Site::new().await;
    site.hub.set_life(Duration::from_secs(4));
    let agent = site.start().await;
    site.hub.until("a hello", crate::hub::Hub::last_hello).await;
    agent.stop().await;
    site.stop_hub();
    let sessions = site.hub.sessions();
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.hub.set_life(Duration::from_secs(3600));
    site.token = None;
    site.start_hub();
    let agent = site.start().await;
    site.hub.until("another session", |hub| (hub.sessions() > sessions).then_some(())).await;
    let enrolled = site.hub.enrolled();
    let last = enrolled.last().unwrap();
    assert!(enrolled.len() > 1);
    assert_eq!((last.token.as_str(), last.cluster.as_str()), ("", "bridge-a12"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_accepted_stays_connected_and_is_given_nothing() {
    let site = Site::new().await;
    let entry = site.publish("1", b"weights");
    site.hub.set_standing(State::NotAccepted);
    site.hub.tell(crate::site::snapshot(1, &[entry])).await;
    let agent = site.start().await;
    let beats = |hub: &crate::hub::Hub| hub.count(|said| matches!(said, FromSpoke::Heartbeat(_)));
    site.hub.until("two heartbeats", |hub| (beats(hub) >= 2).then_some(())).await;
    assert_eq!((site.hub.sessions(), site.served("defects")), (1, None));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_revoked_goes_on_serving_and_does_not_hammer_the_hub() {
    let site = Site::new().await;
    let entry = site.publish("1", b"weights");
    site.hub.tell(crate::site::snapshot(1, &[entry])).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", nave_proto::v1::entry_report::Phase::Serving).await;
    agent.stop().await;
    site.hub.set_standing(State::Revoked);
    let agent = site.start().await;
    site.hub.until("a second session", |hub| (hub.sessions() == 2).then_some(())).await;
    // Its next try comes after four seconds at the earliest.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.hub.sessions(), 2);
    assert_eq!(site.served("defects").as_deref(), Some(&b"weights"[..]));
    agent.stop().await;
}
