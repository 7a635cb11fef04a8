//! Pulls with a delta: what it saves, and that whatever is wrong with it costs bytes and never a version.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nave_agent::pull::Progress;
use nave_delta::{
    Block, Catalog, Encoder, IndexWriter, Layout, MAGIC, Offer, catalog_path, delta_path, plan,
};
use nave_names::Digest;

use crate::{
    server::{Fault, Server},
    world::{MIB, Source, World, manifest_of, noise, objects},
};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// 77 bytes are too few for a block.
const SIZE: usize = 24 * MIB + 77;
/// What a delta can rebuild of version 2: all but the last bytes and the two new chunks.
const REBUILT: u64 = 22 * MIB as u64;

fn version_1() -> Files {
    [("model.bin".to_owned(), noise(1, SIZE)), ("labels.txt".to_owned(), b"crack".to_vec())].into()
}

/// A step of every 500th byte, and two chunks that are new altogether.
fn version_2() -> Files {
    let mut bytes = noise(1, SIZE);
    bytes.iter_mut().step_by(500).for_each(|byte| *byte = byte.wrapping_add(1));
    bytes[9 * MIB..11 * MIB].copy_from_slice(&noise(2, 2 * MIB));
    [("model.bin".to_owned(), bytes), ("labels.txt".to_owned(), b"crack, stain".to_vec())].into()
}

/// The delta object between two versions, and what the list of deltas says of it. `change` may put another block in the place
/// of each.
fn delta(base: &Files, target: &Files, change: impl Fn(usize, Block) -> Block) -> (Vec<u8>, Offer) {
    let (from, to) = (Layout::new(manifest_of(base)), Layout::new(manifest_of(target)));
    let mut writer = IndexWriter::new(from.manifest().digest(), to.manifest().digest());
    let mut encoder = Encoder::new().unwrap();
    let mut object = MAGIC.to_vec();
    let path = |layout: &Layout, file: usize| layout.manifest().files()[file].path.to_string();
    for (at, recipe) in plan(&from, &to).into_iter().enumerate() {
        let range = recipe.offset as usize..recipe.offset as usize + recipe.length as usize;
        let chunk = &target[&path(&to, recipe.file)][range];
        let base =
            recipe.base.map(|span| &base[&path(&from, span.file)][span.offset as usize..][..chunk.len()]);
        if let Some(block) = encoder.encode(chunk, base, recipe.width).unwrap() {
            let block = change(at, block);
            writer.push(&recipe, &block);
            object.extend(&block.bytes);
        }
    }
    let tail = writer.finish();
    object.extend(&tail);
    let offer =
        Offer { base: from.manifest().digest(), size: object.len() as u64, index_size: tail.len() as u64 };
    (object, offer)
}

fn catalog(offer: &Offer) -> Vec<u8> {
    let mut catalog = Catalog::default();
    catalog.insert(offer.clone());
    catalog.to_bytes()
}

/// A version with its delta from another, and where that lies.
pub(crate) fn published(base: &Files, target: &Files) -> (Digest, BTreeMap<String, Vec<u8>>, String) {
    published_with(base, target, |_, block| block)
}

/// The same with other blocks.
pub(crate) fn published_with(
    base: &Files,
    target: &Files,
    change: impl Fn(usize, Block) -> Block,
) -> (Digest, BTreeMap<String, Vec<u8>>, String) {
    let (object, offer) = delta(base, target, change);
    let (digest, mut objects) = objects(target);
    let path = delta_path(&offer.base).to_string();
    objects.insert(path.clone(), object);
    objects.insert(catalog_path().to_string(), catalog(&offer));
    (digest, objects, path)
}

/// A spoke that holds the base and is to have the target of these objects.
pub(crate) async fn spoke_with(
    base: Files,
    target: Files,
    digest: Digest,
    objects: BTreeMap<String, Vec<u8>>,
) -> World {
    let mut world = World::new(base.iter().map(|(path, bytes)| (path.as_str(), bytes.clone()))).await;
    world.pull().await.unwrap();
    world.server = Server::start(objects).await;
    world.source = Source::of(&world.server);
    world.files = target;
    world.digest = digest;
    world
}

/// Version 2 with its delta from version 1.
fn published_2() -> (Digest, BTreeMap<String, Vec<u8>>, String) {
    published(&version_1(), &version_2())
}

async fn before_version_2(digest: Digest, objects: BTreeMap<String, Vec<u8>>) -> World {
    spoke_with(version_1(), version_2(), digest, objects).await
}

fn asked(world: &World, path: &str) -> usize {
    world.server.seen().iter().filter(|seen| seen.path == path).count()
}

/// The version is there although its delta was of no use.
async fn without_the_delta(world: &World) -> Progress {
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert!(world.server.sent() >= SIZE as u64, "the whole was fetched");
    progress
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoke_with_the_base_fetches_the_delta_and_what_it_lacks() {
    let (digest, objects, path) = published_2();
    let size = objects[&path].len() as u64;
    let world = before_version_2(digest, objects).await;
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert_eq!(progress.delta_refusals, 0);
    assert_eq!(progress.bytes_rebuilt, REBUILT, "all but the new chunks");
    let around = 10_000;
    let expected = size + 2 * MIB as u64;
    assert!(world.server.sent() < expected + around, "{} sent, expected {expected}", world.server.sent());
    assert_eq!(progress.bytes_fetched, world.server.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_base_nobody_asks_for_a_delta() {
    let (digest, objects, _) = published_2();
    let mut world = World::new([("x", vec![1])]).await;
    world.server = Server::start(objects).await;
    world.source = Source::of(&world.server);
    (world.digest, world.files) = (digest, version_2());
    world.pull().await.unwrap();
    world.assert_held();
    assert!(world.server.seen().iter().all(|seen| !seen.path.starts_with(".nave")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_delta_costs_one_request() {
    for status in [404, 403] {
        let (digest, objects) = objects(&version_2());
        let world = before_version_2(digest, objects).await;
        world.server.script(move |seen| seen.path.starts_with(".nave").then_some(Fault::Status(status, "")));
        let progress = without_the_delta(&world).await;
        assert_eq!((progress.delta_refusals, progress.retries), (0, 0));
        let asked = world.server.seen().iter().filter(|seen| seen.path.starts_with(".nave")).count();
        assert_eq!(asked, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_at_the_delta_alone_is_done_without_it() {
    let (digest, objects, path) = published_2();
    for object in [catalog_path().to_string(), path] {
        let world = before_version_2(digest, objects.clone()).await;
        world.server.script(move |seen| (seen.path == object).then_some(Fault::Status(500, "")));
        without_the_delta(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_indexes_that_lie_are_refused_and_counted() {
    let (digest, good, path) = published_2();
    let (_, offer) = delta(&version_1(), &version_2(), |_, block| block);
    let list = catalog_path().to_string();
    let (backwards, backwards_offer) = delta(&version_2(), &version_1(), |_, block| block);
    let mut damaged = good[&path].clone();
    let at = damaged.len() - 60;
    damaged[at] ^= 1;
    let lies: Vec<(&str, Vec<u8>)> = vec![
        (&list, b"{}".to_vec()),
        (&list, vec![b' '; 60_000]),
        (&list, catalog(&Offer { index_size: offer.index_size - 4, ..offer.clone() })),
        (&list, catalog(&Offer { index_size: offer.index_size + 4, ..offer.clone() })),
        (&path, damaged),
        (&path, vec![0; offer.size as usize]),
        (&path, backwards),
    ];
    for (at, bytes) in lies {
        let mut objects = good.clone();
        let size = bytes.len() as u64;
        objects.insert(at.to_owned(), bytes);
        if at == path && size != offer.size {
            let index_size = backwards_offer.index_size;
            objects.insert(list.clone(), catalog(&Offer { base: offer.base, size, index_size }));
        }
        let world = before_version_2(digest, objects).await;
        let progress = without_the_delta(&world).await;
        assert_eq!(progress.delta_refusals, 1, "{at}");
        assert_eq!(progress.bytes_rebuilt, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_size_or_without_ranges_is_done_without() {
    let (digest, objects, path) = published_2();
    for fault in [Fault::OtherTotal, Fault::IgnoreRange] {
        let world = before_version_2(digest, objects.clone()).await;
        let path = path.clone();
        // The index comes as it should.
        world.server.script(move |seen| {
            (seen.path == path && seen.range.is_some_and(|(begin, _)| begin == 8)).then(|| fault.clone())
        });
        let progress = world.pull().await.unwrap();
        world.assert_held();
        assert_eq!(progress.delta_refusals, 1);
        assert!(progress.bytes_rebuilt < SIZE as u64 / 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_costs_its_chunk_and_nothing_else() {
    let (digest, objects, path) = published_2();
    let world = before_version_2(digest, objects.clone()).await;
    let delta = path.clone();
    world.server.script(move |seen| (seen.path == delta).then_some(Fault::Flip(2_000)));
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert_eq!(progress.delta_refusals, 1);
    assert_eq!(progress.bytes_rebuilt, REBUILT - MIB as u64);
    assert!(asked(&world, &path) > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_was_damaged_on_the_disk_ends_the_delta_soon() {
    type Damage = fn(&Path);
    let damages: [Damage; 2] = [
        |blob| {
            let length = std::fs::metadata(blob).unwrap().len();
            std::fs::remove_file(blob).unwrap();
            std::fs::write(blob, vec![0; length as usize]).unwrap();
        },
        |blob| std::fs::remove_file(blob).unwrap(),
    ];
    for damage in damages {
        let (digest, objects, _) = published_2();
        let world = before_version_2(digest, objects).await;
        let model = manifest_of(&version_1()).files().iter().find(|file| file.size > 100).unwrap().sha256;
        damage(&world.puller.store().blob_path(&model));
        let progress = world.pull().await.unwrap();
        assert!(progress.delta_refusals >= 3, "{progress:?}");
        assert_eq!(progress.bytes_rebuilt, 0);
        let target = world.folder.path().join("out");
        world.puller.store().materialise(&world.digest, &target).unwrap();
        assert!(std::fs::read(target.join("model.bin")).unwrap() == world.files["model.bin"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_loses_the_block_that_was_under_way() {
    let (digest, objects, path) = published_2();
    let size = objects[&path].len() as u64;
    let world = before_version_2(digest, objects).await;
    let asked = AtomicU64::new(0);
    world.server.script(move |seen| {
        // Every other one of the requests for the delta, whatever else is asked for between them.
        let nth = (seen.path == path).then(|| asked.fetch_add(1, Ordering::Relaxed))?;
        (nth % 2 == 1).then_some(Fault::CutAfter(size / 5))
    });
    let progress = world.pull().await.unwrap();
    world.assert_held();
    assert_eq!((progress.delta_refusals, progress.bytes_rebuilt), (0, REBUILT));
    assert!(progress.retries > 0, "{:?}", world.server.seen());
    let most = size + 2 * MIB as u64 + progress.retries * 20_000 + 20_000;
    assert!(world.server.sent() < most, "{} sent, expected less than {most}", world.server.sent());
}

fn nave_agent(server: &Server, version: &str, folder: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_nave-agent"));
    command
        .args(["pull", &format!("s3://bucket/vit/{version}"), "-o", "json", "--to"])
        .arg(folder.join(version))
        .arg("--store")
        .arg(folder.join("store"))
        .env("AWS_ENDPOINT_URL", format!("http://{}", server.address))
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_a_delta_it_goes_on_where_it_was() {
    let below = |version: &str, objects: BTreeMap<String, Vec<u8>>| {
        let key = move |path: String| format!("bucket/vit/{version}/{path}");
        objects.into_iter().map(|(path, bytes)| (key(path), bytes)).collect::<BTreeMap<_, _>>()
    };
    let (_, second, path) = published_2();
    let size = second[&path].len();
    let mut all = below("1", objects(&version_1()).1);
    all.extend(below("2", second));
    let server = Server::start(all).await;
    let folder = tempfile::tempdir().unwrap();
    assert!(nave_agent(&server, "1", folder.path()).output().await.unwrap().status.success());

    let before = server.sent();
    server.script(|seen| seen.path.contains("/2/").then_some(Fault::Slow(300 << 10)));
    let mut kills = 0;
    while kills < 12 {
        let mut child = nave_agent(&server, "2", folder.path()).spawn().unwrap();
        let pause = Duration::from_millis(50 + rand::random_range(0..350));
        if tokio::time::timeout(pause, child.wait()).await.is_ok() {
            break;
        }
        child.start_kill().unwrap();
        child.wait().await.unwrap();
        kills += 1;
        assert!(!folder.path().join("2").exists(), "files were visible before all were verified");
    }
    server.script(|_| None);
    let done = nave_agent(&server, "2", folder.path()).output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["deltaRefusals"], 0, "{json}");
    for (path, bytes) in &version_2() {
        assert!(std::fs::read(folder.path().join("2").join(path)).unwrap() == *bytes, "{path}");
    }
    // Manifest, list and index anew each time, and the sockets' buffers of what was under way; never the whole.
    let sent = server.sent() - before;
    let most = size + 2 * MIB + (kills + 1) * 700_000;
    assert!(sent < most.min(SIZE) as u64, "{sent} bytes for a delta of {size} after {kills} kills");
}
