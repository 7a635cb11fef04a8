//! Every way in which a server or a link can fail, and what the engine makes of it.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nave_agent::pull::{Progress, PullError};

use crate::{
    server::{Fault, Seen},
    world::{MIB, World, noise},
};

/// A script that does `fault` to the first request for each range of `large.bin`.
fn once_each(fault: impl Fn(&Seen) -> Fault + Send + Sync) -> impl Fn(&Seen) -> Option<Fault> + Send + Sync {
    let seen: Mutex<HashMap<(String, Option<u64>), u32>> = Mutex::default();
    move |request| {
        let key = (request.path.clone(), request.range.map(|(_, end)| end));
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(key).or_default();
        *times += 1;
        (*times == 1 && request.path != "manifest.json").then(|| fault(request))
    }
}

async fn world() -> World {
    World::new([("large.bin", noise(1, 20 * MIB + 77)), ("small.bin", noise(2, 1_000))]).await
}

async fn survives(fault: impl Fn(&Seen) -> Fault + Send + Sync + 'static) -> (World, Progress) {
    let world = world().await;
    world.server.script(once_each(fault));
    let progress = world.pull().await.unwrap();
    world.assert_held();
    (world, progress)
}

async fn fails(fault: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) -> (World, PullError) {
    let world = world().await;
    world.server.script(fault);
    let error = world.pull().await.unwrap_err();
    world.assert_nothing_visible();
    (world, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_cut_short_are_continued_where_they_ended() {
    let (world, progress) = survives(|_| Fault::CutAfter(2 * MIB as u64 + 500_000)).await;
    assert!(progress.retries >= 3, "{progress:?}");
    let manifest = world.puller.store().manifest(&world.digest).unwrap().to_canonical_bytes().len() as u64;
    // Bytes lie in socket buffers when a connection is reset; beyond those nothing is sent twice.
    let more = world.server.sent() - progress.bytes_total - manifest;
    assert!(more < 2 * MIB as u64, "{more} bytes sent twice");
    // 500,000 bytes into a chunk, and not from that chunk's start.
    let within = |(begin, _): (u64, u64)| begin % MIB as u64 == 500_000;
    assert!(world.server.seen().into_iter().filter_map(|seen| seen.range).any(within));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_errors_and_overload_are_waited_out() {
    survives(|_| Fault::Status(500, "")).await;
    survives(|_| Fault::Status(503, "<Error><Code>SlowDown</Code></Error>")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_fetched_again_over_another_connection() {
    let world = world().await;
    let flipped = AtomicBool::new(false);
    world.server.script(move |seen| {
        let has = seen.range.is_some_and(|range| (range.0..range.1).contains(&(5 * MIB as u64 + 3)));
        (has && !flipped.swap(true, Ordering::Relaxed)).then_some(Fault::Flip(5 * MIB as u64 + 3))
    });
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert_eq!(progress.corrupt_chunks, 1);
    let seen = world.server.seen();
    let again = seen.iter().find(|seen| seen.range == Some((5 * MIB as u64, 6 * MIB as u64))).unwrap();
    let earlier = seen.iter().filter(|seen| seen.number < again.number);
    assert!(earlier.into_iter().all(|seen| seen.connection != again.connection), "{again:?}");
    assert_eq!(progress.bytes_fetched - progress.bytes_done, manifest_size(&world) + MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_always_wrong_is_named() {
    let (_world, error) = fails(|seen| seen.range.map(|_| Fault::Flip(5 * MIB as u64 + 3))).await;
    let PullError::DigestMismatch { ref object, chunk, begin, end, attempts, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((object.as_str(), chunk, attempts), ("large.bin", 5, 4));
    assert_eq!((begin, end), (5 * MIB as u64, 6 * MIB as u64));
    assert!(error.is_permanent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_that_is_always_wrong_is_named() {
    let (_world, error) = fails(|seen| (seen.path == "small.bin").then_some(Fault::Flip(7))).await;
    assert_eq!(error.reason(), "DigestMismatch");
    assert!(error.to_string().contains("small.bin"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_gone_breaks_the_version_by_name() {
    let (_world, error) = fails(|seen| (seen.path == "small.bin").then_some(Fault::Status(404, ""))).await;
    assert_eq!(error.reason(), "VersionBroken");
    assert!(error.to_string().contains("small.bin"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_size_breaks_the_version() {
    let (_world, error) = fails(|seen| seen.range.map(|_| Fault::OtherTotal)).await;
    assert_eq!(error.reason(), "VersionBroken");
    let (_world, error) = fails(|seen| (seen.path == "small.bin").then_some(Fault::WrongLength)).await;
    assert_eq!(error.reason(), "VersionBroken");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_range_than_asked_for_is_never_written() {
    survives(|_| Fault::OtherRange).await;
    let (_world, error) =
        fails(|seen| seen.range.filter(|(begin, _)| *begin > 0).map(|_| Fault::OtherRange)).await;
    assert_eq!(error.reason(), "VersionBroken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_read_from_the_start_once() {
    let world = world().await;
    world.server.script(|_| Some(Fault::IgnoreRange));
    let progress = world.pull().await.unwrap();
    world.assert_held();
    let whole = world.server.sent();
    assert!(whole < 3 * progress.bytes_total, "{whole} bytes sent for {}", progress.bytes_total);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_url_is_replaced_at_once() {
    let world = world().await;
    // Every URL of the first answer for files expires after two requests.
    let uses = std::sync::atomic::AtomicU32::new(0);
    world.server.script(move |seen| {
        let old = seen.query == "token=1" && uses.fetch_add(1, Ordering::Relaxed) >= 2;
        old.then_some(Fault::Status(
            403,
            "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
        ))
    });
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert!(progress.retries >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_that_refuses_every_url_is_believed_in_the_end() {
    let (_world, error) = fails(|seen| {
        (seen.path == "large.bin").then_some(Fault::Status(403, "<Error><Code>AccessDenied</Code></Error>"))
    })
    .await;
    assert_eq!(error.reason(), "AccessDenied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_connection_is_given_up_and_the_range_continued() {
    let world = world().await;
    let done = AtomicBool::new(false);
    world.server.script(move |seen| {
        let first = seen.range.is_some() && !done.swap(true, Ordering::Relaxed);
        first.then_some(Fault::StallAfter(1_500_000))
    });
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert_eq!(progress.stalls, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_too_long_is_named_and_the_next_pull_goes_on() {
    let mut world = world().await;
    world.patience = Duration::from_millis(300);
    world.server.script(|seen| seen.range.filter(|(begin, _)| *begin > 0).map(|_| Fault::Status(500, "")));
    let error = world.pull().await.unwrap_err();
    assert_eq!(error.reason(), "SourceUnavailable");
    assert!(error.to_string().contains("large.bin: S3 failed with status 500"), "{error}");
    world.server.script(|_| None);
    assert!(world.pull().await.unwrap().bytes_resumed > 0);
    world.assert_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_than_the_assigned_one_is_refused() {
    let (_world, error) = fails(|seen| (seen.path == "manifest.json").then_some(Fault::Flip(40))).await;
    assert_eq!(error.reason(), "ManifestMismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_manifest_is_refused_by_name() {
    let mut world = world().await;
    let text = String::from_utf8(crate::world::manifest_of(&world.files).to_canonical_bytes()).unwrap();
    let hostile = text.replace("large.bin", "../evil.bin").into_bytes();
    world.digest = nave_names::Digest::of(&hostile);
    let objects = [("manifest.json".to_owned(), hostile)].into();
    world.server = crate::server::Server::start(objects).await;
    world.source = crate::world::Source::of(&world.server);
    assert_eq!(world.pull().await.unwrap_err().reason(), "BadPath");
    world.assert_nothing_visible();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_lies_about_a_files_sha256_poisons_nothing() {
    let mut world = world().await;
    let manifest = crate::world::manifest_of(&world.files);
    let sha256 = manifest.files()[0].sha256.to_hex();
    let text = String::from_utf8(manifest.to_canonical_bytes()).unwrap();
    let lying = text.replace(&sha256, &nave_names::Digest::of(b"another model").to_hex()).into_bytes();
    world.digest = nave_names::Digest::of(&lying);
    let mut objects = world.files.clone();
    objects.insert("manifest.json".to_owned(), lying);
    world.server = crate::server::Server::start(objects).await;
    world.source = crate::world::Source::of(&world.server);
    assert_eq!(world.pull().await.unwrap_err().reason(), "DigestMismatch");
    world.assert_nothing_visible();
}

fn manifest_size(world: &World) -> u64 {
    world.puller.store().manifest(&world.digest).unwrap().to_canonical_bytes().len() as u64
}
