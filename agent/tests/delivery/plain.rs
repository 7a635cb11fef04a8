//! Objects without a manifest, and pulls of more files than a process may have open.

use std::{fs, path::Path};

use nave_agent::pull::{Listed, list_digest};
use nave_names::RelativePath;

use crate::{
    crash::{bucket, nave_agent},
    server::Fault,
    world::{MIB, World, manifest_of, noise},
};

fn listed(world: &World) -> Vec<Listed> {
    let one = |(path, bytes): (&String, &Vec<u8>)| Listed {
        path: RelativePath::new(path.as_str()).unwrap(),
        size: bytes.len() as u64,
        e_tag: None,
    };
    world.files.iter().map(one).collect()
}

/// The same objects, and nobody says what is in them.
async fn unknown(files: impl IntoIterator<Item = (&str, Vec<u8>)>) -> World {
    let mut world = World::new(files).await;
    world.digest = list_digest(&listed(&world));
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_arrives_and_gets_the_manifest_that_it_would_have() {
    let same = noise(2, 3 * MIB);
    let files = [("a.bin", noise(1, 17 * MIB + 5)), ("b/1", same.clone()), ("b/2", same), ("empty", vec![])];
    let mut world = unknown(files).await;
    world.server.script(|seen| (seen.path == "b/1").then_some(Fault::IgnoreRange));
    let manifest = world.puller.pull_listed(world.request(), listed(&world)).await.unwrap();
    world.digest = manifest.digest();
    assert_eq!(world.digest, manifest_of(&world.files).digest());
    world.assert_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_changed_since_it_was_listed_is_refused() {
    for (fault, says) in
        [(Fault::Status(412, ""), "was changed while"), (Fault::OtherTotal, "it was changed")]
    {
        let world = unknown([("a.bin", noise(1, MIB))]).await;
        world.server.script(move |_| Some(fault.clone()));
        let error = world.puller.pull_listed(world.request(), listed(&world)).await.unwrap_err();
        assert_eq!(error.reason(), "VersionBroken");
        assert!(error.to_string().contains(says), "{error}");
        world.assert_nothing_visible();
    }
}

/// The server of these tests does not heed If-Match, as some do not.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_etag_than_listed_is_refused_whatever_the_server_thinks_of_it() {
    let world = unknown([("a.bin", noise(1, MIB))]).await;
    world.server.set_e_tags([("a.bin".to_owned(), "\"new\"".to_owned())].into());
    let with = |e_tag: &str| {
        let one = |listed: Listed| Listed { e_tag: Some(e_tag.to_owned()), ..listed };
        listed(&world).into_iter().map(one).collect()
    };
    let error = world.puller.pull_listed(world.request(), with("\"old\"")).await.unwrap_err();
    assert_eq!(error.reason(), "VersionBroken");
    assert!(error.to_string().contains("its ETag is \"new\", and was \"old\""), "{error}");
    world.assert_nothing_visible();
    world.puller.pull_listed(world.request(), with("new")).await.unwrap();
}

/// 120 files of two chunks each, with room for 96 open files and connections.
#[tokio::test(flavor = "multi_thread")]
async fn more_large_files_arrive_than_a_process_may_have_open() {
    let files = (0..120).map(|n| (format!("{n}.bin"), noise(n, MIB + 1))).collect();
    let server = bucket(&files).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("vit");
    let pull = nave_agent(&server, &to);
    let mut limited = tokio::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 96; exec \"$@\"", "sh"]).arg(pull.as_std().get_program());
    limited.args(pull.as_std().get_args());
    for (name, value) in pull.as_std().get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let done = limited.output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_same(&to, &files);
}

fn assert_same(to: &Path, files: &std::collections::BTreeMap<String, Vec<u8>>) {
    for (path, bytes) in files {
        assert!(fs::read(to.join(path)).unwrap() == *bytes, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_manifest_that_was_damaged_is_replaced() {
    let mut world = World::new([("a.bin", noise(1, 3 * MIB))]).await;
    world.patience = std::time::Duration::ZERO;
    world.server.script(|seen| (seen.path == "a.bin").then_some(Fault::Status(404, "")));
    world.pull().await.unwrap_err();
    let staged = world.puller.store().dir().join("staging").join(world.digest.to_hex()).join("manifest.json");
    let whole = fs::read(&staged).unwrap();
    // As after a power cut on a file system that keeps the name and loses the bytes.
    fs::remove_file(&staged).unwrap();
    fs::write(&staged, &whole[..whole.len() / 2]).unwrap();
    world.pull().await.unwrap_err();
    assert!(fs::read(&staged).unwrap() == whole, "the damaged one is still there");
    world.server.script(|_| None);
    world.pull().await.unwrap();
    world.assert_held();
}
