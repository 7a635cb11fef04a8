//! A store that is too small is a condition with numbers, and goes with its cause.

use nave_proto::v1::{self, entry_report::Phase, health::State, spoke_message::Message as FromSpoke};

use crate::{
    disk::Disk,
    hub::Hub,
    process::Process,
    site::{Site, digest_of, snapshot},
};

fn storage(said: &FromSpoke) -> Option<(State, &str)> {
    let health = match said {
        FromSpoke::Hello(hello) => hello.report.as_ref()?.health.as_ref()?,
        FromSpoke::Report(report) => report.health.as_ref()?,
        _ => return None,
    };
    Some((health.storage(), &health.storage_message))
}

/// Waits until the spoke has said of its storage what `wanted` asks, more often than `before` times; how often it has.
pub async fn until_storage(
    hub: &Hub,
    what: &str,
    before: usize,
    wanted: impl Fn(State, &str) -> bool,
) -> usize {
    let count = |hub: &Hub| hub.count(|said| storage(said).is_some_and(|(state, text)| wanted(state, text)));
    hub.until(what, |hub| Some(count(hub)).filter(|count| *count > before)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_fit_the_quota_makes_storage_unhealthy_until_it_is_not_asked_for() {
    let mut site = Site::new().await;
    // A sixteenth stays free beside what a pull writes: three bytes fit, 16 MiB do not. The other file is there already.
    site.yaml = "storage: {quota: 16Mi}".to_owned();
    let small = site.publish("1", b"one");
    let large = site.publish_as("large", "1", &vec![7; 16 << 20]);
    site.hub.tell(snapshot(1, std::slice::from_ref(&small))).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    let healthy = until_storage(&site.hub, "a healthy store", 0, |state, _| state == State::Healthy).await;

    site.hub.tell(snapshot(2, &[small.clone(), large])).await;
    let row = site.hub.until_phase("large", "1", Phase::Failed).await;
    assert_eq!(row.reason, "DiskFull");
    let needed = ((16 << 20) + (1 << 20)).to_string();
    assert!(row.message.contains(&needed), "{}", row.message);
    until_storage(&site.hub, "an unhealthy store", 0, |state, text| {
        state == State::Unhealthy && text.contains(&needed)
    })
    .await;
    assert_eq!(site.served("defects").as_deref(), Some(&b"one"[..]));

    site.hub.tell(snapshot(3, &[small])).await;
    until_storage(&site.hub, "a healthy store again", healthy, |state, _| state == State::Healthy).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_a_running_agent_can_be_listed_and_verified_but_not_collected_by_hand() {
    let site = Site::new().await;
    let entry = site.publish("1", b"one");
    site.hub.tell(snapshot(1, std::slice::from_ref(&entry))).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    let store = |verb: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nave-agent"));
        command.arg("store").args(verb).args(["-o", "json", "--state-dir"]).arg(site.state_dir());
        let ended = command.env_remove("NAVE_STORE").output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        (ended.status.code(), json)
    };
    let (code, listed) = store(&["ls"]);
    assert_eq!((code, &listed[0]["digest"]), (Some(0), &entry.manifest_digest.into()), "{listed}");
    assert_eq!(listed[0]["keptBecause"], "desired", "{listed}");
    let (code, verified) = store(&["verify"]);
    assert_eq!((code, &verified["blobs"]), (Some(0), &2.into()), "{verified}");
    for refused in [&["gc"][..], &["verify", "--repair"]] {
        let (code, error) = store(refused);
        assert_eq!((code, &error["error"]["reason"]), (Some(6), &"StoreInUse".into()), "{error}");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_quota_old_versions_stay_until_room_is_needed_and_then_the_oldest_go() {
    let mut site = Site::new().await;
    site.yaml = "storage: {quota: 24Mi}".to_owned();
    let agent = site.start().await;
    let held = |version: &v1::DesiredEntry| {
        let digest = digest_of(version).to_hex();
        site.state_dir().join(format!("store/manifests/{digest}.json")).exists()
    };
    // 3 MiB each, and one for the agent's small files: six of them take 19 of 24, and up to 20.4 may be.
    let mut versions = Vec::new();
    for version in 1..=8_u8 {
        let bytes = if version == 8 { 9 << 20 } else { 3 << 20 };
        let entry = site.publish(&version.to_string(), &vec![version; bytes]);
        versions.push(entry.clone());
        site.hub.tell(snapshot(version.into(), &[entry])).await;
        site.hub.until_phase("defects", &version.to_string(), Phase::Serving).await;
        // The seventh makes 22: down to 16.8. The eighth needs more than the 8 that are left, has the place of the third
        // before it fetches anything, and then it is 22 again.
        let gone = match version {
            7 => 2,
            8 => 5,
            _ => 0,
        };
        let is_gone = |_: &Hub| versions[..gone].iter().all(|version| !held(version)).then_some(());
        site.hub.until("room", is_gone).await;
        assert!(versions[gone..].iter().all(held), "more than {gone} went for version {version}");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_served_and_kept_takes_its_room_once() {
    let site = Site::new().await;
    let disk = Disk::mount(&site.state_dir());
    let process = Process::start(&site, Some(&disk));
    site.hub.until("a session", |hub| (hub.sessions() > 0).then_some(())).await;
    let taken = || {
        rustix::fs::sync();
        let found = rustix::fs::statvfs(disk.path("")).unwrap();
        (found.f_blocks - found.f_bfree) * found.f_frsize
    };
    let before = taken();
    for version in 1..=2_u8 {
        let entry = site.publish(&version.to_string(), &vec![version; 8 << 20]);
        site.hub.tell(snapshot(version.into(), &[entry])).await;
        site.hub.until_phase("defects", &version.to_string(), Phase::Serving).await;
    }
    // Two versions, in the store and in the runtime's folders; beside them the spare and what is small.
    let grown = taken() - before;
    assert!((16 << 20..20 << 20).contains(&grown), "{grown} bytes for two versions of 8 MiB");
    assert!(process.terminate().success());
}
