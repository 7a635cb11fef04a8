//! The store by itself: what stays, what goes, what is found out.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use nave_agent::store::{Roots, Store, StoreError};
use nave_names::Digest;

use crate::world::{MIB, World, noise};

/// A store that holds one version of two files.
async fn held() -> World {
    let world = World::new([("a.bin", noise(1, 2 * MIB)), ("folder/b.txt", b"text".to_vec())]).await;
    world.pull().await.unwrap();
    world
}

fn blob(world: &World, path: &str) -> std::path::PathBuf {
    world.puller.store().blob_path(&Digest::of(&world.files[path]))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_laid_out_read_only_without_a_second_copy() {
    let world = held().await;
    let store = world.puller.store();
    let target = world.folder.path().join("models/x/1.0");
    let done = store.materialise(&world.digest, &target).unwrap();
    assert_eq!((done.cloned + done.linked, done.copied), (2, 0));
    let metadata = fs::metadata(target.join("folder/b.txt")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o444);
    if done.linked > 0 {
        assert_eq!(metadata.ino(), fs::metadata(blob(&world, "folder/b.txt")).unwrap().ino());
    }
    assert_eq!(store.materialise(&world.digest, &target).unwrap().kept, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_anything_else_in_it_is_exchanged_as_a_whole() {
    let world = held().await;
    let target = world.folder.path().join("out");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("stranger"), "x").unwrap();
    world.puller.store().materialise(&world.digest, &target).unwrap();
    assert!(!target.join("stranger").exists());
    assert!(target.join("a.bin").exists());
    let beside: Vec<_> = fs::read_dir(world.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    // Nor does a stranger stay among files that are all as they should be.
    fs::write(target.join("stranger"), "x").unwrap();
    assert!(!world.puller.store().is_laid_out(&world.digest, &target).unwrap());
    world.puller.store().materialise(&world.digest, &target).unwrap();
    assert!(!target.join("stranger").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_where_the_folder_should_be_is_not_followed() {
    let world = held().await;
    let elsewhere = world.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), "x").unwrap();
    let target = world.folder.path().join("out");
    std::os::unix::fs::symlink(&elsewhere, &target).unwrap();
    let error = world.puller.store().materialise(&world.digest, &target).unwrap_err();
    assert!(matches!(error, StoreError::Target { .. }), "{error}");
    assert!(elsewhere.join("precious").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_on_the_disk_is_found_taken_out_and_fetched_again() {
    let world = held().await;
    let path = blob(&world, "a.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[MIB + 1] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, bytes).unwrap();
    let store = world.puller.store();
    let report = store.verify(true).unwrap();
    assert_eq!(report.findings.len(), 1);
    assert_eq!((report.findings[0].problem, &report.repaired), ("wrong digest", &vec![world.digest]));
    assert!(!store.has(&world.digest));
    let sent = world.server.sent();
    world.pull().await.unwrap();
    world.assert_held();
    assert!(world.server.sent() - sent < 3 * MIB as u64, "the good file is not fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rooted_stays_and_the_rest_goes() {
    let world = held().await;
    let store = world.puller.store();
    assert_eq!(store.gc().unwrap().versions, [], "without roots nothing goes");
    store.set_roots(&Roots([(world.digest, "served".to_owned())].into())).unwrap();
    assert_eq!(store.gc().unwrap(), nave_agent::store::GcReport::default());
    world.assert_held();
    store.set_roots(&Roots::default()).unwrap();
    let report = store.gc().unwrap();
    assert_eq!((report.versions, report.blobs, report.bytes), (vec![world.digest], 2, 2 * MIB as u64 + 4));
    assert!(!blob(&world, "a.bin").exists());
    // What was laid out belongs to the runtime and stays.
    assert!(world.folder.path().join("out/a.bin").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_was_killed_leaves_whole_versions_only() {
    let world = held().await;
    let store = world.puller.store();
    // As after a kill between the two steps: the manifest is gone, the blobs are not.
    let manifests = store.dir().join("manifests");
    fs::remove_file(manifests.join(format!("{}.json", world.digest.to_hex()))).unwrap();
    assert!(!store.has(&world.digest));
    assert_eq!(store.gc().unwrap().blobs, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writer_at_a_time() {
    let world = held().await;
    let error = Store::open(world.puller.store().dir()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    assert_eq!(Store::open_read_only(world.puller.store().dir()).unwrap().list().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_disk_holds_is_refused_with_numbers_before_the_first_byte() {
    let mut world = held().await;
    // A manifest may say any size; this one would not fit on any disk here.
    let hash = "0".repeat(64);
    let chunks = 1 << 18;
    let hashes = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![7; 32 * chunks]);
    let size = chunks as u64 * (16 << 20);
    let huge = format!(
        r#"{{"format":"nave.dev/manifest/v1","files":[{{"path":"huge","size":{size},"sha256":"{hash}","blake3":"{hash}","chunks":{{"lengths":[[{},{chunks}]],"blake3":"{hashes}"}}}}]}}"#,
        16 << 20
    )
    .into_bytes();
    world.digest = Digest::of(&huge);
    world.server = crate::server::Server::start([("manifest.json".to_owned(), huge)].into()).await;
    world.source = crate::world::Source::of(&world.server);
    let error = world.pull().await.unwrap_err();
    assert_eq!(error.reason(), "DiskFull");
    assert!(error.to_string().contains(&size.to_string()[..5]), "{error}");
    assert_eq!(world.server.seen().len(), 1, "nothing but the manifest was fetched");
}
