//! An agent whose store has two tiers, on two file systems: what serves is hot, what is kept is cold.

use std::{fs, path::PathBuf, process::Command};

use nave_proto::v1::{self, entry_report::Phase, health::State};
use tempfile::TempDir;

use crate::{
    hub::Hub,
    site::{Site, digest_of, files_below, snapshot},
    storage::until_storage,
};

const MIB: usize = 1 << 20;

/// A site with a cold tier, as `more` of its settings say.
async fn tiered(more: &str) -> (Site, TempDir) {
    let disk = tempfile::tempdir_in("/dev/shm").expect("a file system in memory, as every Linux has it");
    let mut site = Site::new().await;
    site.yaml = format!("storage: {{cold: {{dir: {}/nave{more}}}}}", disk.path().display());
    (site, disk)
}

fn cold_blobs(disk: &TempDir) -> Vec<PathBuf> {
    files_below(&disk.path().join("nave/blobs"))
}

/// The tier of each version, by its digest, as `nave-agent store ls` says beside the agent.
fn tier_of(site: &Site, version: &v1::DesiredEntry) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nave-agent"));
    command.args(["store", "ls", "-o", "json", "--state-dir"]).arg(site.state_dir());
    let ended = command.env_remove("NAVE_STORE").output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let versions = listed.as_array().unwrap();
    let found = versions.iter().find(|one| one["digest"] == version.manifest_digest.as_str());
    found.map_or_else(|| "gone".to_owned(), |one| one["tier"].as_str().unwrap().to_owned())
}

async fn until_tier(site: &Site, version: &v1::DesiredEntry, tier: &str) {
    let is_there = |_: &Hub| (tier_of(site, version) == tier).then_some(());
    site.hub.until(&format!("{} to be {tier}", digest_of(version)), is_there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_any_more_goes_cold_and_is_hot_again_before_it_serves() {
    let (site, disk) = tiered("").await;
    let bytes = |version: u8| vec![version; 2 * MIB];
    let versions: Vec<_> = (1..=2_u8).map(|n| site.publish(&n.to_string(), &bytes(n))).collect();
    site.hub.tell(snapshot(1, &versions[..1])).await;
    let agent = site.start().await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    assert_eq!(tier_of(&site, &versions[0]), "hot");

    site.hub.tell(snapshot(2, &versions[1..])).await;
    site.hub.until_phase("defects", "2", Phase::Serving).await;
    until_tier(&site, &versions[0], "cold").await;
    assert_eq!(cold_blobs(&disk).len(), 2);
    assert_eq!(tier_of(&site, &versions[1]), "hot");

    // Back: fetched from nowhere but the cold tier.
    site.objects.set_broken(true);
    site.hub.tell(snapshot(3, &versions[..1])).await;
    site.hub.until("version 1", |_| (site.served("defects")? == bytes(1)).then_some(())).await;
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    until_tier(&site, &versions[1], "cold").await;
    assert_eq!(tier_of(&site, &versions[0]), "hot");
    agent.stop().await;

    // Without its disk the agent serves on and says what is missing, and nothing is written in its place.
    fs::rename(disk.path().join("nave"), disk.path().join("unmounted")).unwrap();
    let agent = site.start().await;
    until_storage(&site.hub, "a cold tier that is away", 0, |state, text| {
        state == State::Healthy && text.starts_with("ColdTierAway: ")
    })
    .await;
    assert!(site.served("defects") == Some(bytes(1)) && !disk.path().join("nave").exists());
    assert_eq!(tier_of(&site, &versions[1]), "away");
    assert_eq!(agent.metric(r#"nave_agent_storage{state="notice"}"#).await, 1);
    // That is no reason to keep anything from the site: what lay there is pulled when it is asked for.
    site.objects.set_broken(false);
    site.hub.tell(snapshot(4, &versions[1..])).await;
    site.hub.until("version 2", |_| (site.served("defects")? == bytes(2)).then_some(())).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_tier_that_is_full_is_a_condition_with_numbers_and_nothing_goes_in_vain() {
    let (mut site, disk) = tiered(", quota: 6Mi, highWatermark: 90, lowWatermark: 90").await;
    let agent = site.start().await;
    let versions: Vec<_> = (1..=4_u8)
        .map(|n| site.publish(&n.to_string(), &vec![n; if n == 3 { 6 * MIB } else { 2 * MIB }]))
        .collect();
    for (generation, version) in (1..).zip(&versions[..3]) {
        site.hub.tell(snapshot(generation, std::slice::from_ref(version))).await;
        let name = &version.key.as_ref().unwrap().version;
        site.hub.until_phase("defects", name, Phase::Serving).await;
    }
    // Both fit: the one before, and the one before that, which nothing needs.
    until_tier(&site, &versions[1], "cold").await;
    assert_eq!(tier_of(&site, &versions[0]), "cold");

    // The third is larger than the tier. It stays, and nothing goes in vain.
    site.hub.tell(snapshot(4, &versions[3..])).await;
    site.hub.until_phase("defects", "4", Phase::Serving).await;
    until_storage(&site.hub, "a full cold tier", 0, |state, text| {
        let numbers = format!("{} bytes of 1 versions", 6 * MIB + 1);
        state == State::Healthy
            && text.starts_with("ColdTierFull: ")
            && text.contains(&numbers)
            && text.contains("hot tier ")
            && text.contains("of its quota of 6291456 bytes")
    })
    .await;
    assert_eq!([0, 1, 2, 3].map(|n: usize| tier_of(&site, &versions[n])), ["cold", "cold", "hot", "hot"]);
    assert_eq!(site.served("defects"), Some(vec![4; 2 * MIB]));
    agent.stop().await;

    let is_healthy = |state, text: &str| state == State::Healthy && text.is_empty();
    let healthy = until_storage(&site.hub, "", 0, is_healthy).await;
    site.yaml = site.yaml.replace("6Mi", "60Mi");
    let agent = site.start().await;
    until_tier(&site, &versions[2], "cold").await;
    until_storage(&site.hub, "a store without a notice again", healthy, is_healthy).await;
    assert!(!cold_blobs(&disk).is_empty());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_asked_for_while_it_goes_cold_does_not_wait_for_that() {
    let (site, disk) = tiered("").await;
    let agent = site.start().await;
    let versions = [site.publish("1", &vec![1; 96 * MIB]), site.publish("2", b"two")];
    let mut generation = 0;
    let mut serve = async |version: usize| {
        generation += 1;
        site.hub.tell(snapshot(generation, &versions[version..=version])).await;
        let folder = format!("{}-", version + 1);
        let is_served = |_: &Hub| {
            let link = fs::read_link(site.current("defects")).ok()?;
            link.to_str()?.starts_with(&folder).then_some(())
        };
        site.hub.until(&folder, is_served).await;
    };
    let on_its_way = || {
        let files = files_below(&disk.path().join("nave/incoming"));
        files.iter().any(|file| file.metadata().is_ok_and(|found| found.len() >= MIB as u64))
    };
    // It is a race with the move, which is won about every time.
    for _ in 0..10 {
        serve(0).await;
        serve(1).await;
        while !on_its_way() && tier_of(&site, &versions[0]) == "hot" {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let before = agent.metric(r#"nave_agent_steps_total{step="promote",result="ok"}"#).await;
        serve(0).await;
        let after = agent.metric(r#"nave_agent_steps_total{step="promote",result="ok"}"#).await;
        if after == before && tier_of(&site, &versions[0]) == "hot" {
            assert!(site.served("defects").is_some_and(|bytes| bytes == vec![1; 96 * MIB]));
            return agent.stop().await;
        }
    }
    panic!("whoever asked for it waited until it was moved away and back");
}
