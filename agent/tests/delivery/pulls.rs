//! Pulls without trouble: what arrives, and what is not fetched twice.

use std::{
    fs,
    time::{Duration, Instant},
};

use nave_agent::pull::{Limits, Progress, Stage};

use crate::{
    server::{Fault, Server},
    world::{MIB, Source, World, manifest_of, noise, objects},
};

#[tokio::test(flavor = "multi_thread")]
async fn files_of_all_sizes_arrive() {
    let twice = noise(9, 3 * MIB);
    let world = World::new([
        ("large.bin", noise(1, 21 * MIB + 12_345)),
        ("folder/one-chunk.bin", noise(2, MIB)),
        ("folder/just-over.bin", noise(3, MIB + 1)),
        ("small.txt", b"hello".to_vec()),
        ("empty", vec![]),
        ("a.copy", twice.clone()),
        ("b.copy", twice),
        ("name with space and größe.txt", b"x".to_vec()),
    ])
    .await;
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert_eq!(progress.stage, Stage::Complete);
    assert_eq!(progress.bytes_done, progress.bytes_total);
    assert_eq!(progress.files_done, 8);
    let manifest = world.puller.store().manifest(&world.digest).unwrap().to_canonical_bytes().len() as u64;
    let once: u64 = progress.bytes_total - 3 * MIB as u64 + manifest;
    assert_eq!(progress.bytes_fetched, once, "the same content is fetched once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_held_asks_nobody() {
    let world = World::new([("a", noise(1, 5 * MIB))]).await;
    world.pull().await.unwrap();
    let requests = world.server.seen().len();
    let again = world.pull().await.unwrap();
    assert_eq!((world.server.seen().len(), again.bytes_done), (requests, again.bytes_total));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_another_version_has_are_not_fetched() {
    let mut world = World::new([("a", noise(1, 20 * MIB)), ("same", noise(5, 2 * MIB))]).await;
    world.pull().await.unwrap();
    // Version 2: chunk 7 changed, the file renamed and two chunks longer.
    let mut bytes = noise(1, 20 * MIB);
    bytes[7 * MIB + 5] ^= 1;
    bytes.extend(noise(2, 2 * MIB));
    world.files = [("renamed".to_owned(), bytes), ("same".to_owned(), noise(5, 2 * MIB))].into();
    let (digest, objects) = objects(&world.files);
    let server = Server::start(objects).await;
    world.source = Source::of(&server);
    world.digest = digest;
    world.server = server;
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert_eq!(progress.bytes_reused, 21 * MIB as u64);
    let manifest = world.puller.store().manifest(&digest).unwrap().to_canonical_bytes().len() as u64;
    assert_eq!(world.server.sent(), 3 * MIB as u64 + manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_files_share_connections_and_questions() {
    let names: Vec<_> = (0..1_000).map(|n| format!("shard/{n:04}")).collect();
    let files = names.iter().enumerate().map(|(n, name)| (name.as_str(), noise(n as u64, 500 + n)));
    let world = World::new(files).await;
    world.pull().await.unwrap();
    world.assert_held();
    let seen = world.server.seen();
    let connections = seen.iter().map(|seen| seen.connection).max().unwrap();
    assert!(connections <= 16, "{connections} connections");
    assert_eq!(seen.len(), 1_001);
    assert!(world.source.asked.load(std::sync::atomic::Ordering::Relaxed) <= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pull_stops_and_the_next_one_goes_on() {
    let world = World::new([("a", noise(1, 24 * MIB))]).await;
    world.server.script(|_| Some(Fault::Slow(4 << 20)));
    let request = world.request();
    let cancel = request.cancel.clone();
    let mut progress = request.progress.subscribe();
    let puller = world.puller.clone();
    let pull = tokio::spawn(async move { puller.pull(request).await });
    progress.wait_for(|progress| progress.bytes_done >= 4 * MIB as u64).await.unwrap();
    cancel.cancel();
    assert_eq!(pull.await.unwrap().unwrap_err().reason(), "Cancelled");
    world.assert_nothing_visible();
    world.server.script(|_| None);
    let done = world.pull().await.unwrap();
    world.assert_held();
    assert!(done.bytes_resumed >= 4 * MIB as u64, "{done:?}");
}

/// A disk that was pulled out may have anything in the place of what was not synced.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_pull_left_is_hashed_before_it_counts() {
    let world = World::new([("a", noise(1, 12 * MIB)), ("s", b"hello".to_vec())]).await;
    world.server.script(|_| Some(Fault::Slow(4 << 20)));
    let request = world.request();
    let cancel = request.cancel.clone();
    let mut progress = request.progress.subscribe();
    let puller = world.puller.clone();
    // On a runtime of its own: with it ends what was being written when the pull was cancelled.
    let pull =
        std::thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(puller.pull(request)));
    let far = |progress: &Progress| progress.files_done >= 1 && progress.bytes_done >= 2 * MIB as u64;
    progress.wait_for(far).await.unwrap();
    cancel.cancel();
    let pulled = tokio::task::spawn_blocking(|| pull.join().unwrap()).await.unwrap();
    assert_eq!(pulled.unwrap_err().reason(), "Cancelled");

    let staging = world.puller.store().dir().join("staging").join(world.digest.to_hex());
    let mut changed = 0;
    for file in fs::read_dir(staging).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if path.ends_with("manifest.json") {
            bytes = manifest_of(&[("s".to_owned(), b"hullo".to_vec())].into()).to_canonical_bytes();
        } else if path.extension().is_some_and(|end| end == "part") {
            bytes.iter_mut().step_by(MIB).for_each(|byte| *byte ^= 1);
        } else {
            continue;
        }
        fs::write(&path, bytes).unwrap();
        changed += 1;
    }
    assert_eq!(changed, 3, "the manifest and two files");
    world.server.script(|_| None);
    let done = world.pull().await.unwrap();
    world.assert_held();
    assert_eq!((done.bytes_resumed, done.bytes_done), (0, done.bytes_total), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bandwidth_of_a_site_is_kept() {
    let mut world = World::new([("a", noise(1, 8 * MIB))]).await;
    world.limits = Limits { max_bytes_per_second: Some(4 << 20), windows: vec![] };
    let start = Instant::now();
    world.pull().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(1_850), "{:?} for 2 s worth", start.elapsed());
    world.assert_held();
}
