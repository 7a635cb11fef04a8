//! A disk that is really full: the agent goes on serving, says what is missing in numbers, and gets on when there is room.

use std::{fs, path::PathBuf};

use nave_proto::v1::{entry_report::Phase, health::State};

use crate::{
    disk::{self, Disk},
    process::Process,
    site::{Site, snapshot},
    storage::until_storage,
};

fn served(site: &Site, disk: &Disk) -> Option<Vec<u8>> {
    let models = disk.path("models/defects");
    let current: PathBuf = fs::read_link(models.join("current")).ok()?;
    assert!(site.state_dir().join("models").read_dir().is_err(), "the disk is not where it should be");
    fs::read(models.join(current).join("model.bin")).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_agent_serves_on_says_so_in_numbers_and_gets_on_when_there_is_room() {
    let site = Site::new().await;
    let disk = Disk::mount(&site.state_dir());
    let (one, two) = (vec![1; 1_000_000], vec![2; 3_000_000]);
    let first = site.publish("1", &one);
    site.hub.tell(snapshot(1, &[first])).await;
    let mut process = Process::start(&site, Some(&disk));
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    until_storage(&site.hub, "a healthy store", 0, |state, _| state == State::Healthy).await;

    disk.fill();
    let second = site.publish("2", &two);
    site.hub.tell(snapshot(2, &[second])).await;
    let row = site.hub.until_phase("defects", "2", Phase::Failed).await;
    assert_eq!(row.reason, "DiskFull", "{row:?}");
    let numbers = |text: &str| {
        // The version's bytes with what has to stay free, and what is free.
        let needed: u64 =
            text.split("disk full: ").nth(1)?.split_once(" bytes are needed")?.0.parse().ok()?;
        let available: u64 = text.split(", ").nth(1)?.split_once(" are available")?.0.parse().ok()?;
        Some((needed, available))
    };
    let (needed, available) = numbers(&row.message).unwrap_or_else(|| panic!("{}", row.message));
    assert!(needed > 3_000_000 && needed <= 3_000_001 + disk::SIZE / 16, "{}", row.message);
    assert!(available < 2 << 20, "{}", row.message);
    until_storage(&site.hub, "an unhealthy store", 0, |state, text| {
        state == State::Unhealthy && numbers(text).is_some_and(|(said, _)| said == needed)
    })
    .await;
    // What was told is on the disk, full as it is.
    assert!(site.hub.last_ack().is_some_and(|ack| ack.generation == 2 && ack.accepted));
    assert!(process.is_running());
    assert!(served(&site, &disk) == Some(one.clone()));

    // Neither does a death make it worse.
    let sessions = site.hub.sessions();
    process.kill();
    disk.fill();
    let process = Process::start(&site, Some(&disk));
    site.hub.until("another session", |hub| (hub.sessions() > sessions).then_some(())).await;
    let hello = site.hub.until("a hello", |hub| hub.last_hello().filter(|hello| hello.generation == 2)).await;
    assert_eq!(hello.generation, 2);
    assert!(served(&site, &disk) == Some(one));

    let healthy = until_storage(&site.hub, "", 0, |state, _| state == State::Healthy).await;
    disk.empty();
    site.hub.until_phase("defects", "2", Phase::Serving).await;
    until_storage(&site.hub, "a healthy store again", healthy, |state, _| state == State::Healthy).await;
    assert!(served(&site, &disk) == Some(two));
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_in_the_middle_of_a_pull_is_named_with_numbers_and_the_pull_ends_when_there_is_room()
 {
    let site = Site::new().await;
    let disk = Disk::mount(&site.state_dir());
    let weights = vec![7; 900_000];
    let entry = site.publish("1", &weights);
    site.objects.break_only("model.bin");
    site.hub.tell(snapshot(1, &[entry])).await;
    let process = Process::start(&site, Some(&disk));
    // The room was there, and was set aside; then somebody else takes it.
    site.hub.until("a refused object", |_| (site.objects.refused() > 0).then_some(())).await;
    disk.fill();
    site.objects.set_broken(false);
    let row = site.hub.until_phase("defects", "1", Phase::Failed).await;
    assert_eq!(row.reason, "DiskFull", "{row:?}");
    assert!(
        row.message.contains("the disk is full, ") && row.message.contains(" bytes are available"),
        "{row:?}"
    );
    until_storage(&site.hub, "an unhealthy store", 0, |state, text| {
        state == State::Unhealthy && text.contains("the disk is full, ")
    })
    .await;
    disk.empty();
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    assert!(served(&site, &disk) == Some(weights));
    assert!(process.terminate().success());
}
