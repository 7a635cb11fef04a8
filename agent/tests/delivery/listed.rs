//! The real binary on objects that no manifest describes: what S3 lists is all that is known of them.

use std::{collections::BTreeMap, fs, path::Path, process::Output, time::Duration};

use md5::{Digest as _, Md5};
use serde_json::Value;

use crate::{
    crash::{key, nave_agent, nave_agent_from},
    server::{Fault, Seen, Server},
    world::{MIB, manifest_of, noise},
};

type Files = BTreeMap<String, Vec<u8>>;

/// Fetched over one connection and noted as one.
const PIECE: usize = 8 * MIB;

fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// The ETag of an object that was uploaded in one go.
fn whole(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(md5(bytes)))
}

/// The ETag of an object that was uploaded in parts of this length.
fn in_parts(bytes: &[u8], part: usize) -> String {
    let parts: Vec<_> = bytes.chunks(part).map(md5).collect();
    format!("\"{}-{}\"", hex::encode(md5(parts.concat().as_slice())), parts.len())
}

/// The files below `bucket/vit/1.0/`, with the ETags of uploads in one go.
async fn listed_bucket(files: &Files) -> Server {
    let server = Server::start(files.iter().map(|(path, bytes)| (key(path), bytes.clone())).collect()).await;
    server.set_e_tags(files.iter().map(|(path, bytes)| (key(path), whole(bytes))).collect());
    server
}

fn json(ended: &Output) -> Value {
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

async fn pulled(server: &Server, to: &Path) -> Value {
    let ended = nave_agent(server, to).output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    json(&ended)
}

/// Why the folder was refused, which it has to be for what is in it.
async fn refused(server: &Server, to: &Path) -> String {
    let ended = nave_agent(server, to).output().await.unwrap();
    let error = &json(&ended)["error"];
    assert_eq!((ended.status.code(), &error["reason"]), (Some(1), &"TargetNotEmpty".into()), "{ended:?}");
    error["message"].as_str().unwrap().to_owned()
}

fn assert_same(to: &Path, files: &Files) {
    for (path, bytes) in files {
        assert!(fs::read(to.join(path)).unwrap() == *bytes, "{path}");
    }
}

/// Requests for bytes of files, since the one with this number.
fn asked_files(server: &Server, since: usize) -> Vec<Seen> {
    let of_files = |seen: &Seen| !seen.is_head && seen.path != key("manifest.json") && seen.path != "bucket";
    server.seen().into_iter().skip(since).filter(of_files).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_arrive_out_of_order_make_the_hash_of_the_whole() {
    let files: Files =
        [("a.bin".to_owned(), noise(1, 5 * PIECE + 77)), ("b/small".to_owned(), noise(2, 900))].into();
    let server = listed_bucket(&files).await;
    // The first piece is the last to come, and the last but one before those between.
    server.script(|seen| match seen.range {
        Some((0, _)) => Some(Fault::Slow(12 << 20)),
        Some((begin, _)) if begin != 4 * PIECE as u64 => Some(Fault::Slow(24 << 20)),
        _ => None,
    });
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("vit");
    let done = pulled(&server, &to).await;
    assert_eq!(done["digest"], manifest_of(&files).digest().to_string(), "{done}");
    assert_eq!(done["checked"], "sizesAndETags", "{done}");
    assert_same(&to, &files);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_some_pieces_there_it_fetches_the_others_and_hashes_all() {
    let files: Files =
        [("a.bin".to_owned(), noise(3, 5 * PIECE + 77)), ("whole.bin".to_owned(), noise(4, 2 * MIB))].into();
    let server = listed_bucket(&files).await;
    // The first and the third piece do not come.
    server.script(|seen| {
        let begin = seen.range.map_or(0, |(begin, _)| begin) as usize;
        let is_kept_back = seen.path == key("a.bin") && (begin == 0 || begin == 2 * PIECE);
        is_kept_back.then_some(Fault::StallAfter(MIB as u64))
    });
    let folder = tempfile::tempdir().unwrap();
    let (to, staging) = (folder.path().join("vit"), folder.path().join(".vit.nave-store/staging"));
    let mut child = nave_agent(&server, &to).spawn().unwrap();
    let late = tokio::time::Instant::now() + Duration::from_secs(60);
    while noted(&staging) < 5 {
        assert!(tokio::time::Instant::now() < late, "{} pieces noted", noted(&staging));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    assert!(!to.exists(), "files were visible before all were there");

    server.script(|_| None);
    let before = server.seen().len();
    let done = pulled(&server, &to).await;
    let mut again: Vec<_> = asked_files(&server, before).iter().map(|seen| seen.range.unwrap().0).collect();
    again.sort_unstable();
    assert_eq!(again, [0, 2 * PIECE as u64], "what was there is fetched again");
    assert_eq!(done["bytesResumed"], 3 * PIECE + 77 + 2 * MIB, "{done}");
    assert_eq!(done["digest"], manifest_of(&files).digest().to_string(), "{done}");
    assert_same(&to, &files);
}

/// Pieces that journals note as there.
fn noted(staging: &Path) -> u64 {
    const HEADER: u64 = 8 + 32 + 8;
    const RECORD: u64 = 8;
    let folders = fs::read_dir(staging).into_iter().flatten().flatten();
    let files = folders.filter_map(|folder| folder.path().read_dir().ok()).flatten().flatten();
    let journals = files.filter(|file| file.path().extension().is_some_and(|end| end == "journal"));
    journals.map(|file| file.metadata().map_or(0, |found| found.len().saturating_sub(HEADER) / RECORD)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_has_all_of_it_is_compared_and_nothing_is_fetched() {
    let files: Files = [
        ("model.bin".to_owned(), noise(5, 17 * MIB + 5)),
        ("sub/config.json".to_owned(), noise(6, 700)),
        ("empty".to_owned(), Vec::new()),
    ]
    .into();
    let server = listed_bucket(&files).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("vit");
    let first = pulled(&server, &to).await;
    assert_eq!(first["alreadyThere"], false, "{first}");

    let model = &files["model.bin"];
    for e_tag in [whole(model), in_parts(model, 8 * MIB), in_parts(model, 5 * MIB), in_parts(model, 64 * MIB)]
    {
        let others = files.iter().map(|(path, bytes)| (key(path), whole(bytes)));
        server.set_e_tags(others.chain([(key("model.bin"), e_tag.clone())]).collect());
        let before = server.seen().len();
        let again = pulled(&server, &to).await;
        assert_eq!(
            (&again["alreadyThere"], &again["digest"]),
            (&true.into(), &first["digest"]),
            "{e_tag}: {again}"
        );
        assert_eq!(
            (&again["checked"], &again["bytesFetched"]),
            (&"sizesAndETags".into(), &0.into()),
            "{again}"
        );
        assert_eq!(asked_files(&server, before).len(), 0, "{e_tag}: fetched again");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the store of the pull is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_shown_to_be_the_same_is_left_alone_and_named() {
    let files: Files =
        [("model.bin".to_owned(), noise(7, 9 * MIB)), ("config.json".to_owned(), noise(8, 700))].into();
    let server = listed_bucket(&files).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("vit");
    pulled(&server, &to).await;
    let e_tags: BTreeMap<_, _> = files.iter().map(|(path, bytes)| (key(path), whole(bytes))).collect();
    let before = server.seen().len();

    // One bit of the last byte; the same against an upload in parts, whose ETag is no MD5 of the whole.
    let mut other = files["model.bin"].clone();
    *other.last_mut().unwrap() ^= 1;
    replace(&to.join("model.bin"), &other);
    let why = refused(&server, &to).await;
    assert!(why.contains("model.bin in it has the MD5 ") && why.contains(&hex::encode(md5(&other))), "{why}");
    for part in [8 * MIB, 7 * MIB] {
        let parts = (key("model.bin"), in_parts(&files["model.bin"], part));
        server.set_e_tags(e_tags.clone().into_iter().chain([parts]).collect());
        let why = refused(&server, &to).await;
        assert!(why.contains("model.bin in it has other bytes, or cannot be compared"), "{why}");
    }
    // Sizes alone do not make them the same.
    replace(&to.join("model.bin"), &files["model.bin"]);
    let odd = (key("model.bin"), in_parts(&files["model.bin"], 3 * MIB + 1));
    server.set_e_tags(e_tags.clone().into_iter().chain([odd]).collect());
    let why = refused(&server, &to).await;
    assert!(why.contains("-3 is of an upload in parts"), "{why}");
    server.set_e_tags([(key("config.json"), whole(&files["config.json"]))].into());
    let why = refused(&server, &to).await;
    assert!(why.contains("model.bin in it cannot be compared: S3 lists no ETag"), "{why}");
    server.set_e_tags(e_tags);

    fs::write(to.join("notes.txt"), "mine").unwrap();
    let why = refused(&server, &to).await;
    assert!(why.contains("notes.txt in it is not of the version"), "{why}");
    fs::remove_file(to.join("notes.txt")).unwrap();
    fs::remove_file(to.join("config.json")).unwrap();
    let why = refused(&server, &to).await;
    assert!(why.contains("config.json is missing in it"), "{why}");
    replace(&to.join("config.json"), b"{}");
    let why = refused(&server, &to).await;
    assert!(why.contains("config.json has 2 bytes in it instead of 700"), "{why}");
    assert_eq!(asked_files(&server, before).len(), 0, "something was fetched for a folder that is refused");
    assert_eq!(fs::read(to.join("config.json")).unwrap(), b"{}");

    let ended = nave_agent(&server, &to).arg("--replace").output().await.unwrap();
    assert_eq!((ended.status.code(), &json(&ended)["alreadyThere"]), (Some(0), &false.into()), "{ended:?}");
    assert_same(&to, &files);
}

/// What a pull lays out is read-only, and may be the store's own file.
fn replace(path: &Path, bytes: &[u8]) {
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_pulled_by_its_key_and_is_there_the_next_time() {
    let files: Files =
        [("model.bin".to_owned(), noise(9, 9 * MIB + 1)), ("other.bin".to_owned(), noise(10, 50))].into();
    let server = listed_bucket(&files).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("one");
    let pull = || nave_agent_from(&server, "s3://bucket/vit/1.0/model.bin", &to);
    let one: Files = [("model.bin".to_owned(), files["model.bin"].clone())].into();
    for already_there in [false, true] {
        let done = json(&pull().output().await.unwrap());
        assert_eq!((&done["files"], &done["alreadyThere"]), (&1.into(), &already_there.into()), "{done}");
        assert_eq!(done["digest"], manifest_of(&one).digest().to_string(), "{done}");
    }
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    assert_same(&to, &one);
}
