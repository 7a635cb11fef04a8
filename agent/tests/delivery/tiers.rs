//! A store of two tiers, each on a file system of its own: the temporary folder's and the kernel's in memory.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use nave_agent::store::{ColdTier, Roots, Store, StoreError, Tier};
use nave_names::Digest;
use tempfile::TempDir;

use crate::{
    server::Server,
    world::{MIB, Source, World, noise, objects},
};

const GO_ON: &dyn Fn() -> bool = &|| false;

/// A folder on another file system than the temporary folder.
pub(crate) fn other_disk() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a file system in memory, as every Linux has it");
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(folder.path()), device(&std::env::temp_dir()), "one file system and not two");
    folder
}

fn tier(disk: &TempDir) -> ColdTier {
    ColdTier { dir: disk.path().join("nave"), quota: None, high: 100, low: 100 }
}

fn files(seed: u64) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("large.bin", noise(seed, 3 * MIB)),
        ("shared.bin", noise(99, 70_000)),
        ("empty", Vec::new()),
        ("a/1.txt", noise(seed + 1, 40)),
        ("a/2.txt", noise(seed + 2, 40)),
        ("b/3.txt", noise(seed + 3, 40)),
        ("b/4.txt", noise(seed + 4, 40)),
        ("b/5.txt", noise(seed + 5, 40)),
        ("b/6.txt", noise(seed + 6, 40)),
        ("b/7.txt", noise(seed + 7, 40)),
    ]
}

/// A store that holds one version, of which all may leave the hot tier.
async fn tiered() -> (World, TempDir) {
    let world = World::new(files(1_000)).await;
    world.pull().await.unwrap();
    let disk = other_disk();
    let store = world.puller.store();
    store.set_roots(&Roots([(world.digest, "to go back to".to_owned())].into())).unwrap();
    store.use_cold(tier(&disk)).unwrap();
    store.keep_hot(Some(BTreeSet::new()));
    (world, disk)
}

/// The same store as the next process finds it.
fn reopened(world: World) -> (Store, World) {
    let World { puller, folder, server, files, digest, source, limits, patience } = world;
    let dir = puller.store().dir().to_owned();
    drop(puller);
    let store = Store::open(dir).unwrap();
    let puller = nave_agent::pull::Puller::new(store.clone(), 8, None).unwrap();
    (store, World { puller, folder, server, files, digest, source, limits, patience })
}

fn blobs(tier: &Path) -> BTreeSet<PathBuf> {
    let below = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    below(tier.join("blobs")).flat_map(below).collect()
}

/// Files of a folder with their sizes.
fn blobs_in(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.path(), entry.metadata().map_or(0, |found| found.len()))).collect()
}

fn tier_of(store: &Store, digest: &Digest) -> Tier {
    store.list().unwrap().into_iter().find(|version| version.digest == *digest).unwrap().tier
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_moves_to_another_file_system_whole_and_comes_back_before_it_is_laid_out() {
    let (world, disk) = tiered().await;
    let (store, cold) = (world.puller.store(), disk.path().join("nave"));
    let target = world.folder.path().join("before");
    store.materialise(&world.digest, &target).unwrap();
    assert_eq!(tier_of(store, &world.digest), Tier::Hot);
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    for path in [target.join("large.bin"), store.blob_path(&Digest::of(&world.files["large.bin"]))] {
        fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    }

    let moved = store.demote(&world.digest, GO_ON).unwrap();
    let bytes: usize = world.files.values().map(Vec::len).sum();
    assert_eq!((moved.files, moved.bytes), (10, bytes as u64));
    assert_eq!((blobs(store.dir()).len(), blobs(&cold).len()), (0, 10));
    assert_eq!(tier_of(store, &world.digest), Tier::Cold);
    assert!(store.has(&world.digest));
    let verified = store.verify(false).unwrap();
    assert_eq!((verified.blobs, verified.bytes, verified.findings), (10, bytes as u64, vec![]));
    assert!(
        store.is_laid_out(&world.digest, &target).unwrap(),
        "what was laid out before is as right as it was"
    );
    let refused = store.materialise(&world.digest, &world.folder.path().join("out")).unwrap_err();
    assert!(matches!(refused, StoreError::OnColdTier(digest) if digest == world.digest), "{refused}");

    store.promote(&world.digest, GO_ON).unwrap();
    assert_eq!((blobs(store.dir()).len(), blobs(&cold).len()), (10, 0));
    let done = store.materialise(&world.digest, &world.folder.path().join("out")).unwrap();
    assert_eq!((done.copied, done.kept), (0, 0));
    world.assert_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_hot_version_has_too_stays_hot_and_what_is_pulled_next_uses_the_cold_ones() {
    let (mut world, disk) = tiered().await;
    let first = world.digest;
    world.files = files(2_000).into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    world.files.insert("old.bin".to_owned(), noise(1_000, 3 * MIB));
    let (digest, objects) = objects(&world.files);
    (world.digest, world.server) = (digest, Server::start(objects).await);
    world.source = Source::of(&world.server);
    let store = world.puller.store();
    store.demote(&first, GO_ON).unwrap();
    let progress = world.pull().await.unwrap();
    assert!(progress.bytes_reused >= 3 << 20, "what the cold tier has is not fetched: {progress:?}");
    assert_eq!(tier_of(store, &digest), Tier::Both);

    store.keep_hot(Some([digest].into()));
    store.promote(&digest, GO_ON).unwrap();
    assert_eq!(tier_of(store, &digest), Tier::Hot);
    store.demote(&first, GO_ON).unwrap();
    assert_eq!(tier_of(store, &digest), Tier::Hot);
    assert_eq!(tier_of(store, &first), Tier::Both);
    // Seven small ones; the large one, the shared one and the empty one are the other version's too.
    assert_eq!(blobs(&disk.path().join("nave")).len(), 7);
    assert_eq!(
        store.demote(&digest, GO_ON).unwrap().files,
        0,
        "what belongs on the hot tier does not leave it"
    );
    world.assert_held();
}

/// Not a test by itself: a process that moves a version to and fro until it is killed.
#[test]
fn moves_until_killed() {
    let Ok(dir) = std::env::var("NAVE_TEST_MOVES") else { return };
    let store = Store::open(dir).unwrap();
    let dir = PathBuf::from(std::env::var("NAVE_TEST_COLD").unwrap());
    store.use_cold(ColdTier { dir, quota: None, high: 100, low: 100 }).unwrap();
    store.keep_hot(Some(BTreeSet::new()));
    let digest = store.digests().unwrap()[0];
    println!("moving");
    loop {
        store.demote(&digest, GO_ON).unwrap();
        store.promote(&digest, GO_ON).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_of_a_move_nothing_is_lost_and_nothing_torn_is_visible() {
    let (world, disk) = tiered().await;
    let (dir, cold) = (world.puller.store().dir().to_owned(), disk.path().join("nave"));
    let needed: BTreeSet<Digest> = world.files.values().map(|bytes| Digest::of(bytes)).collect();
    let World { puller, folder: _folder, digest, .. } = world;
    drop(puller);
    let mut seen = [0; 3];
    for round in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tiers::moves_until_killed", "--nocapture"])
            .env("NAVE_TEST_MOVES", &dir)
            .env("NAVE_TEST_COLD", &cold)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("moving")), "the child did not begin");
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..60_000))).await;
        child.kill().unwrap();
        child.wait().unwrap();

        let found = [blobs(&dir), blobs(&cold)];
        seen[0] += usize::from(found[1].is_empty());
        seen[1] += usize::from(found[0].is_empty());
        seen[2] += usize::from(found.iter().all(|tier| !tier.is_empty()));
        let mut there = BTreeSet::new();
        for path in found.iter().flatten() {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(Digest::of(&fs::read(path).unwrap()).to_hex(), name, "round {round}: torn");
            there.insert(format!("sha256:{name}").parse().unwrap());
        }
        assert_eq!(there, needed, "round {round}: lost");
        let store = Store::open(&dir).unwrap();
        assert!(store.has(&digest) && store.verify(false).unwrap().findings.is_empty());
        assert_eq!(blobs(&dir).len() + blobs(&cold).len(), needed.len(), "round {round}: stored twice");
        assert!(
            !dir.join("incoming").exists() && !cold.join("incoming").exists(),
            "round {round}: left over"
        );
    }
    println!("all hot, all cold, between: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_asked_for_while_it_goes_cold_stays_where_it_is() {
    let (world, disk) = tiered().await;
    let (store, cold) = (world.puller.store(), disk.path().join("nave"));
    // In the middle of the large file.
    let pieces = std::cell::Cell::new(0);
    let asked_for = || {
        let is_under_way = blobs_in(&cold.join("incoming")).iter().any(|(_, size)| *size >= 2 << 20);
        if is_under_way && pieces.replace(pieces.get() + 1) == 0 {
            store.keep_hot(Some([world.digest].into()));
        }
        false
    };
    let stopped = store.demote(&world.digest, &asked_for).unwrap_err();
    assert_eq!((stopped.reason(), pieces.get()), ("Stopped", 1));
    assert!(blobs(&cold).is_empty(), "some of it was moved all the same");
    assert!(!cold.join("incoming").exists(), "the copy that was begun takes room");
    assert_eq!(tier_of(store, &world.digest), Tier::Hot);
    world.assert_held();
    store.keep_hot(Some(BTreeSet::new()));
    assert_eq!(store.demote(&world.digest, GO_ON).unwrap().files, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_told_to_stop_leaves_what_it_began_and_goes_on_later() {
    let (world, disk) = tiered().await;
    let store = world.puller.store();
    let stopped = store.demote(&world.digest, &|| true).unwrap_err();
    assert_eq!(stopped.reason(), "Stopped");
    assert!(blobs(&disk.path().join("nave")).is_empty());
    store.demote(&world.digest, GO_ON).unwrap();
    assert_eq!(tier_of(store, &world.digest), Tier::Cold);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_rotted_on_the_cold_tier_is_found_out_and_its_version_is_pulled_anew() {
    let (world, _disk) = tiered().await;
    let store = world.puller.store();
    store.demote(&world.digest, GO_ON).unwrap();
    let path = store.blob_path(&Digest::of(&world.files["large.bin"]));
    let mut bytes = fs::read(&path).unwrap();
    bytes[1_000_000] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let findings = store.verify(false).unwrap().findings;
    assert_eq!((findings.len(), findings[0].problem), (1, "wrong digest"));

    assert_eq!(store.promote(&world.digest, GO_ON).unwrap_err().reason(), "StoreDamaged");
    assert!(!store.has(&world.digest) && !path.exists());
    let progress = world.pull().await.unwrap();
    let manifest = store.manifest(&world.digest).unwrap().to_canonical_bytes().len() as u64;
    assert_eq!(progress.bytes_fetched, (3 << 20) + manifest, "more than what was damaged is fetched");
    store.promote(&world.digest, GO_ON).unwrap();
    world.assert_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_looks_at_both_tiers() {
    let (world, disk) = tiered().await;
    let (store, cold) = (world.puller.store(), disk.path().join("nave"));
    store.demote(&world.digest, GO_ON).unwrap();
    let stray = cold.join("blobs").join("00").join("0".repeat(64));
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, "nobody's").unwrap();
    assert_eq!(store.gc().unwrap().blobs, 1);
    assert_eq!(blobs(&cold).len(), 10);
    store.set_roots(&Roots::default()).unwrap();
    let report = store.gc().unwrap();
    assert_eq!((report.versions, report.blobs), (vec![world.digest], 10));
    assert!(blobs(&cold).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_tier_without_room_is_named_with_numbers_and_nothing_moves() {
    let (world, disk) = tiered().await;
    let store = world.puller.store();
    store.use_cold(ColdTier { quota: Some(3 << 20), ..tier(&disk) }).unwrap();
    let refused = store.demote(&world.digest, GO_ON).unwrap_err();
    assert_eq!(refused.reason(), "ColdTierFull");
    let words = refused.to_string();
    let needed: usize = world.files.values().map(Vec::len).sum();
    assert!(words.contains(&format!("{needed} bytes should move to")), "{words}");
    assert!(words.contains("hot tier ") && words.contains("of its quota of 3145728 bytes"), "{words}");
    assert_eq!(tier_of(store, &world.digest), Tier::Hot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_finds_the_hot_tier_full_sends_what_is_not_served_to_the_cold_one() {
    let (mut world, _disk) = tiered().await;
    let first = world.digest;
    world.puller.store().set_quota(6 << 20);
    world.files = [("model.bin".to_owned(), noise(5, 4 * MIB))].into();
    let (digest, objects) = objects(&world.files);
    (world.digest, world.server) = (digest, Server::start(objects).await);
    world.source = Source::of(&world.server);
    let store = world.puller.store();
    let room = store.room().unwrap().available;
    assert!(room > 5 << 20, "what can move counts as free: {room}");
    store.keep_hot(None);
    assert_eq!(world.pull().await.unwrap_err().reason(), "DiskFull");
    store.keep_hot(Some([digest].into()));
    world.pull().await.unwrap();
    assert_eq!((tier_of(store, &first), tier_of(store, &digest)), (Tier::Cold, Tier::Hot));
    // And back there is no room beside it.
    assert_eq!(store.promote(&first, GO_ON).unwrap_err().reason(), "DiskFull");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_tier_that_is_not_mounted_is_not_begun_anew_and_its_versions_are_not_held_until_it_is_back() {
    let (world, disk) = tiered().await;
    let (cold, away) = (disk.path().join("nave"), disk.path().join("away"));
    world.puller.store().demote(&world.digest, GO_ON).unwrap();
    fs::rename(&cold, &away).unwrap();
    fs::create_dir(&cold).unwrap();
    let store = world.puller.store();
    assert!(store.look_for_cold().unwrap() && !store.has(&world.digest));
    let (store, world) = reopened(world);
    assert_eq!(store.cold_away().unwrap().reason(), "ColdTierAway");
    assert_eq!((store.held().unwrap(), store.digests().unwrap()), (vec![], vec![world.digest]));
    assert_eq!(tier_of(&store, &world.digest), Tier::Away);
    assert_eq!(fs::read_dir(&cold).unwrap().count(), 0, "something was written where its disk should be");

    // What is asked for is pulled meanwhile.
    world.pull().await.unwrap();
    world.assert_held();
    fs::remove_dir(&cold).unwrap();
    fs::rename(&away, &cold).unwrap();
    assert!(store.look_for_cold().unwrap());
    assert_eq!((blobs(store.dir()).len(), blobs(&cold).len()), (10, 0), "stored twice");
    world.assert_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stores_cold_tier_is_not_taken() {
    let (world, disk) = tiered().await;
    world.puller.store().demote(&world.digest, GO_ON).unwrap();
    let other = World::new(files(3_000)).await;
    let store = other.puller.store();
    store.use_cold(tier(&disk)).unwrap();
    let words = store.cold_away().unwrap().to_string();
    assert!(words.contains("belongs to another store"), "{words}");
    store.gc().unwrap();
    assert_eq!(blobs(&disk.path().join("nave")).len(), 10);
}
