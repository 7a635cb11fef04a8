//! How a version comes into a runtime's folder: without a second copy where the file system can do that, and as a copy,
//! checked once more, where the folder is on another one.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use nave_agent::store::{Materialised, StoreError};
use nave_names::Digest;

use crate::{
    tiers::other_disk,
    world::{MIB, World, noise},
};

async fn held() -> World {
    let world = World::new([
        ("model.bin", noise(1, 3 * MIB + 1)),
        ("sub/labels.txt", b"bolt\nnut\n".to_vec()),
        ("empty", Vec::new()),
    ])
    .await;
    world.pull().await.unwrap();
    world
}

fn assert_laid_out(world: &World, target: &Path) {
    for (path, bytes) in &world.files {
        assert!(fs::read(target.join(path)).unwrap() == *bytes, "{path}");
        let mode = fs::metadata(target.join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_on_another_file_system_gets_copies_and_is_known_again() {
    let world = held().await;
    let (store, disk) = (world.puller.store(), other_disk());
    let target = disk.path().join("models/vit/1.0");
    let done = store.materialise(&world.digest, &target).unwrap();
    assert_eq!(done, Materialised { copied: 3, ..Materialised::default() });
    assert_laid_out(&world, &target);
    assert!(store.is_laid_out(&world.digest, &target).unwrap());
    assert_eq!(store.materialise(&world.digest, &target).unwrap().kept, 3, "copied again");

    // A copy is a file of its own: what happens to it does not happen to the store.
    let (mine, blob) = (target.join("model.bin"), store.blob_path(&Digest::of(&world.files["model.bin"])));
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(&mine), device(&blob));
    fs::remove_file(&mine).unwrap();
    fs::write(&mine, b"cut").unwrap();
    assert!(!store.is_laid_out(&world.digest, &target).unwrap());
    assert_eq!(store.materialise(&world.digest, &target).unwrap().copied, 3);
    assert_laid_out(&world, &target);
    let beside: Vec<_> = fs::read_dir(target.parent().unwrap()).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_store_that_rotted_is_not_copied() {
    let world = held().await;
    let (store, disk) = (world.puller.store(), other_disk());
    let blob = store.blob_path(&Digest::of(&world.files["model.bin"]));
    let mut bytes = fs::read(&blob).unwrap();
    bytes[2 * MIB] ^= 1;
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, bytes).unwrap();
    let target = disk.path().join("vit");
    let refused = store.materialise(&world.digest, &target).unwrap_err();
    assert!(matches!(&refused, StoreError::Damaged { what } if what.contains("model.bin")), "{refused}");
    assert!(!target.exists());
}
