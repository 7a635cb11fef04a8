//! Pulled, verified, laid out, switched, taken away: what a runtime sees.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use nave_proto::v1::{self, entry_report::Phase};

use crate::site::{Site, digest_of, files_below, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn serves_what_it_is_told_and_switches() {
    let site = Site::new().await;
    let (one, two) = (site.publish("1", b"one"), site.publish("2", b"two"));
    let agent = site.start().await;
    site.hub.until("a hello", crate::hub::Hub::last_hello).await;
    site.hub.tell(snapshot(1, std::slice::from_ref(&one))).await;
    let row = site.hub.until_phase("defects", "1", Phase::Serving).await;
    assert_eq!(row.digest, one.manifest_digest);
    assert_eq!(site.served("defects").as_deref(), Some(&b"one"[..]));
    let target = fs::read_link(site.current("defects")).unwrap();
    assert_eq!(target.to_str().unwrap(), format!("1-{}", &digest_of(&one).to_hex()[..12]));
    assert!(agent.ready().await.starts_with("ok"));

    site.hub.tell(snapshot(2, std::slice::from_ref(&two))).await;
    site.hub.until_phase("defects", "2", Phase::Serving).await;
    assert_eq!(site.served("defects").as_deref(), Some(&b"two"[..]));
    let row = site.hub.until_phase("defects", "1", Phase::Staged).await;
    assert_eq!(row.digest, one.manifest_digest, "the version before is kept to go back to");

    let gets = site.objects.gets();
    site.hub.tell(snapshot(3, &[one])).await;
    site.hub.until("the old version again", |_| (site.served("defects")? == b"one").then_some(())).await;
    assert_eq!(site.objects.gets(), gets, "going back fetched something");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetch_is_staged_and_not_served() {
    let site = Site::new().await;
    let mut one = site.publish("1", b"one");
    one.action = v1::desired_entry::Action::Prefetch.into();
    site.hub.tell(snapshot(1, &[one])).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Staged).await;
    assert!(!site.current("defects").exists());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_named_and_never_served() {
    let site = Site::new().await;
    let one = site.publish("1", &[7; 100_000]);
    site.objects.flip("models/defects/1/model.bin", 77_777);
    site.hub.tell(snapshot(1, &[one])).await;
    let agent = site.start().await;
    let row = site.hub.until_phase("defects", "1", Phase::Failed).await;
    assert_eq!(row.reason, "DigestMismatch");
    assert!(row.message.contains("model.bin"), "{}", row.message);
    assert!(!site.current("defects").exists());
    site.objects.flip("models/defects/1/model.bin", 77_777);
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_deletes_or_keeps() {
    let site = Site::new().await;
    let gone = site.publish_as("gone", "1", b"gone");
    let kept = v1::DesiredEntry { keep_on_removal: true, ..site.publish_as("kept", "1", b"kept") };
    site.hub.tell(snapshot(1, &[gone, kept])).await;
    let agent = site.start().await;
    site.hub.until_phase("gone", "1", Phase::Serving).await;
    site.hub.until_phase("kept", "1", Phase::Serving).await;
    site.hub.tell(snapshot(2, &[])).await;
    site.hub.until("the row goes", |hub| hub.row("gone", "1").is_none().then_some(())).await;
    assert_eq!((site.served("gone"), site.served("kept").as_deref()), (None, Some(&b"kept"[..])));
    let blobs = || files_below(&site.state_dir().join("store/blobs"));
    site.hub.until("its weights go", |_| (blobs().len() == 2).then_some(())).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_serving_with_the_hub_away() {
    let mut site = Site::new().await;
    let one = site.publish("1", b"one");
    site.hub.tell(snapshot(1, &[one])).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    agent.stop().await;
    site.stop_hub();
    let agent = site.start().await;
    assert!(agent.ready().await.starts_with("ok"), "{}", agent.ready().await);
    assert_eq!(site.served("defects").as_deref(), Some(&b"one"[..]));
    site.start_hub();
    let hello =
        site.hub.until("a second session", |hub| (hub.sessions() == 2).then(|| hub.last_hello())).await;
    let report = hello.unwrap().report.unwrap();
    assert_eq!(report.entries.unwrap().rows[0].phase(), Phase::Serving);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_for_the_hub_and_goes_on() {
    let mut site = Site::new().await;
    let one = site.publish("1", b"one");
    site.objects.set_broken(true);
    site.hub.tell(snapshot(1, &[one])).await;
    let agent = site.start().await;
    site.hub.until("a try", |_| (site.objects.gets() > 0).then_some(())).await;
    site.stop_hub();
    site.objects.set_broken(false);
    site.start_hub();
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_ledger_takes_nothing_away_and_is_told_anew() {
    let site = Site::new().await;
    let one = site.publish("1", b"one");
    site.hub.tell(snapshot(7, &[one])).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    agent.stop().await;
    for file in ["ledger.json", "serving.json"] {
        let path = site.state_dir().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
    }
    let agent = site.start().await;
    let hello =
        site.hub.until("a second session", |hub| (hub.sessions() == 2).then(|| hub.last_hello())).await;
    let hello = hello.unwrap();
    assert_eq!((hello.generation, hello.held.len()), (0, 0));
    assert_eq!(site.served("defects").as_deref(), Some(&b"one"[..]));
    site.hub.until("the ledger again", |hub| hub.last_ack().filter(|ack| ack.accepted)).await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_found_at_the_start_and_laid_out_anew() {
    let site = Site::new().await;
    let one = site.publish("1", b"one");
    site.hub.tell(snapshot(1, &[one])).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    agent.stop().await;
    fs::remove_file(site.current("defects").join("model.bin")).unwrap();
    let agent = site.start().await;
    site.hub.until("the file again", |_| site.served("defects")).await;
    agent.stop().await;
}

/// A hook that writes what it is told into a file, and fails for version 2.
fn hook(site: &mut Site) -> std::path::PathBuf {
    let log = site.dir.path().join("hook.log");
    let script = site.dir.path().join("hook.sh");
    let text = format!(
        "#!/bin/sh\necho \"$NAVE_ACTION $NAVE_MODEL $NAVE_VERSION $(cat $NAVE_PATH/model.bin)\" >> {}\n\
         if [ $NAVE_VERSION = 2 ] && [ $NAVE_ACTION = activate ]; then echo no memory >&2; exit 3; fi\n",
        log.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    site.yaml = format!("runtimes: {{hook: {{command: [{}], timeout: 10s}}}}", script.display());
    log
}

fn by_hook(mut entry: v1::DesiredEntry) -> v1::DesiredEntry {
    entry.serving = Some(v1::Serving { runtime: "hook".into(), probe_timeout_seconds: 5 });
    entry
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_told_and_a_version_that_it_refuses_leaves_the_old_one() {
    let mut site = Site::new().await;
    let log = hook(&mut site);
    let (one, two) = (by_hook(site.publish("1", b"one")), by_hook(site.publish("2", b"two")));
    site.hub.tell(snapshot(1, &[one])).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    site.hub.tell(snapshot(2, &[two])).await;
    let row = site.hub.until_phase("defects", "2", Phase::Failed).await;
    assert_eq!(row.reason, "HookFailed");
    assert!(row.message.contains("no memory"), "{}", row.message);
    site.hub.until("back to the old one", |_| (site.served("defects")? == b"one").then_some(())).await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    let lines = "activate defects 1 one\nactivate defects 2 two\nactivate defects 1 one\n";
    site.hub.until("three calls", |_| (fs::read_to_string(&log).ok()? == lines).then_some(())).await;
    site.hub.tell(snapshot(3, &[])).await;
    let all = format!("{lines}deactivate defects 1 one\n");
    site.hub.until("a fourth call", |_| (fs::read_to_string(&log).ok()? == all).then_some(())).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_health_url_never_answers_leaves_the_old_one() {
    let mut site = Site::new().await;
    let health = axum::Router::new().route(
        "/{version}",
        axum::routing::get(async |axum::extract::Path(version): axum::extract::Path<String>| {
            if version == "1" { http::StatusCode::OK } else { http::StatusCode::SERVICE_UNAVAILABLE }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, health).await });
    site.yaml =
        format!("runtimes: {{hook: {{command: [\"true\"], healthUrl: \"http://{address}/{{version}}\"}}}}");
    let (one, mut two) = (by_hook(site.publish("1", b"one")), by_hook(site.publish("2", b"two")));
    two.serving = Some(v1::Serving { runtime: "hook".into(), probe_timeout_seconds: 1 });
    site.hub.tell(snapshot(1, &[one])).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    site.hub.tell(snapshot(2, &[two])).await;
    let row = site.hub.until_phase("defects", "2", Phase::Failed).await;
    assert_eq!(row.reason, "ProbeFailed");
    assert!(row.message.contains("503"), "{}", row.message);
    site.hub.until("back to the old one", |_| (site.served("defects")? == b"one").then_some(())).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtimes_folder_on_another_file_system_is_served_from_copies() {
    let disk = tempfile::tempdir_in("/dev/shm").expect("a file system in memory, as every Linux has it");
    let mut site = Site::new().await;
    site.yaml = format!("runtimes: {{files: {{dir: {}/models}}}}", disk.path().display());
    let device = |path: &std::path::Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(disk.path()), device(site.dir.path()), "one file system and not two");
    let agent = site.start().await;
    let model = disk.path().join("models/defects");
    for version in 1..=3_u8 {
        let bytes = vec![version; 300_000];
        let entry = site.publish(&version.to_string(), &bytes);
        site.hub.tell(snapshot(version.into(), &[entry])).await;
        site.hub.until_phase("defects", &version.to_string(), Phase::Serving).await;
        assert!(fs::read(model.join("current/model.bin")).unwrap() == bytes, "version {version}");
        // The copies of a version that is not served go: `current` and one folder are left.
        let is_alone = |_: &crate::hub::Hub| (fs::read_dir(&model).unwrap().count() == 2).then_some(());
        site.hub.until("one folder", is_alone).await;
    }
    agent.stop().await;
}
