//! `nave-agent store gc`, killed with SIGKILL in the middle: what has to stay is whole, nothing else is said to be there,
//! and the next collection does the rest.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nave_agent::store::{Roots, Store};
use nave_names::Digest;
use rand::seq::IteratorRandom as _;

use crate::{
    server::Server,
    world::{Source, World, noise, objects},
};

const ROUNDS: usize = 10;

/// A store with a version that has to stay and three that have to go; all four share a file.
async fn store_of_four() -> (World, Digest) {
    let files = |seed: u64| {
        let own = (0..60).map(move |n| (format!("{n}.txt"), noise(seed * 1_000 + n, 40)));
        own.chain([
            ("shared.bin".to_owned(), noise(7, 100_000)),
            ("own.bin".to_owned(), noise(seed, 100_000)),
        ])
        .collect()
    };
    let mut world = World::new([("first", vec![])]).await;
    for seed in 1..=4 {
        world.files = files(seed);
        let (digest, objects) = objects(&world.files);
        (world.digest, world.server) = (digest, Server::start(objects).await);
        world.source = Source::of(&world.server);
        world.pull().await.unwrap();
    }
    let stays = world.digest;
    world.puller.store().set_roots(&Roots([(stays, "served".to_owned())].into())).unwrap();
    (world, stays)
}

fn gc(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nave-agent"));
    command.args(["store", "gc", "--store"]).arg(dir).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Names of manifests and blobs.
fn names(dir: &Path) -> BTreeSet<PathBuf> {
    let below = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    below(dir.join("manifests")).chain(below(dir.join("blobs")).flat_map(below)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_a_collection_leaves_whole_versions_and_what_has_to_stay() {
    let (world, stays) = store_of_four().await;
    let template = world.puller.store().dir().to_owned();
    let all: BTreeSet<_> =
        names(&template).iter().map(|path| path.strip_prefix(&template).unwrap().to_owned()).collect();
    let kept = {
        let manifest = world.puller.store().manifest(&stays).unwrap();
        let blobs = manifest.files().iter().map(|file| world.puller.store().blob_path(&file.sha256));
        let kept: BTreeSet<_> = blobs.map(|path| path.strip_prefix(&template).unwrap().to_owned()).collect();
        kept
    };
    let own = Path::new("manifests").join(format!("{}.json", stays.to_hex()));
    let goes: Vec<_> = all.iter().filter(|path| !kept.contains(*path) && **path != own).collect();
    let mut halfway = 0;
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir_in(world.folder.path()).unwrap();
        let dir = folder.path().join("store");
        // Links to the blobs: a collection only takes names away.
        assert!(Command::new("cp").arg("-al").args([&template, &dir]).status().unwrap().success());
        std::fs::remove_file(dir.join("lock")).unwrap();
        let until = dir.join(goes.iter().choose(&mut rand::rng()).unwrap());
        let mut child = gc(&dir).spawn().unwrap();
        while until.exists() && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        child.wait().unwrap();

        let left = names(&dir).len();
        halfway += usize::from(left > kept.len() + 1);
        let store = Store::open(&dir).unwrap();
        assert!(store.has(&stays), "what has to stay is gone");
        assert_eq!(store.verify(false).unwrap().findings, [], "a version is there that is not whole");
        store.gc().unwrap();
        assert_eq!(
            names(&dir).len(),
            kept.len() + 1,
            "the next collection leaves something, or takes too much"
        );
    }
    assert!(halfway > 0, "every kill came too late");
}
