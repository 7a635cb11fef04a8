//! `nave-agent pull` as a person or a script calls it, against the real S3 server: what it says, and its exit codes.

use std::{path::Path, process::Output, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nave_manifest::{FileHasher, Manifest};
use nave_names::RelativePath;
use nave_tests::{Progress, S3Server, Tools, eventually};
use object_store::{ObjectStoreExt as _, WriteMultipart};
use tokio::process::Command;

const BUCKET: &str = "by-hand";
const MIB: usize = 1 << 20;

/// A pull that has to be refused: where from, with which settings changed, and how it ends.
type Case = (&'static str, &'static [(&'static str, &'static str)], i32, &'static str, &'static str);

const NO_KEY: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
const REFUSED: [Case; 6] = [
    ("s3://no-such-bucket/v", &[], 4, "NoSuchBucket", "there is no bucket no-such-bucket"),
    ("s3://by-hand/nothing", &[], 3, "NothingThere", "no manifest.json under s3://by-hand/nothing"),
    ("s3://by-hand/v", &[("AWS_ACCESS_KEY_ID", "unknown")], 4, "AccessDenied", "AWS_ACCESS_KEY_ID"),
    (
        "s3://by-hand/v",
        &[("AWS_SECRET_ACCESS_KEY", "wrong")],
        4,
        "AccessDenied",
        "AWS_SECRET_ACCESS_KEY is not the one",
    ),
    ("s3://by-hand/v", NO_KEY, 4, "AccessDenied", "AWS_ACCESS_KEY_ID is not set"),
    (
        "s3://by-hand/v",
        &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")],
        5,
        "SourceUnavailable",
        "Connection refused",
    ),
];

#[tokio::test]
async fn e2e_a_pull_by_hand_says_what_is_wrong_and_what_is_there() -> Result<()> {
    let tools = Tools::load()?;
    let folder = tempfile::tempdir()?;
    let s3 = S3Server::shared_or_start(&tools, &folder.path().join("s3")).await?;
    s3.put(BUCKET, "v/weights.bin", vec![7; 3_000_000]).await?;
    let manifest = manifest([("weights.bin", &vec![7; 3_000_000][..])])?;
    s3.put(BUCKET, "v/manifest.json", manifest.to_canonical_bytes()).await?;
    let agent = tools.ours("nave-agent")?;
    let place = folder.path().join("place");
    std::fs::create_dir(&place)?;
    let to = place.join("model");

    for (url, changed, exit, reason, names) in REFUSED {
        let ended = pull(&agent, &s3, url, &to).envs(changed.iter().copied()).output().await?;
        refused(&ended, exit, reason, names).context(url)?;
        ensure!(std::fs::read_dir(&place)?.count() == 0, "{url} {changed:?} leaves something behind");
    }
    let asked = manifest.digest().to_string();
    let ended = pull(&agent, &s3, "s3://by-hand/nothing", &to).args(["--digest", &asked]).output().await?;
    refused(&ended, 3, "NoManifest", "no version with the digest")?;

    let first = json(&pull(&agent, &s3, "s3://by-hand/v", &to).output().await?)?;
    ensure!(first["alreadyThere"] == false && first["checked"] == "manifest", "{first}");
    let second = json(&pull(&agent, &s3, "s3://by-hand/v/", &to).output().await?)?;
    ensure!(second["alreadyThere"] == true && second["digest"] == first["digest"], "{second}");
    ensure!(std::fs::read_dir(&place)?.count() == 1, "the store of the pull is left behind");

    std::fs::write(to.join("notes.txt"), "mine")?;
    let ended = pull(&agent, &s3, "s3://by-hand/v", &to).output().await?;
    refused(&ended, 1, "TargetNotEmpty", "notes.txt")?;
    ensure!(to.join("notes.txt").exists(), "a file that is not ours is gone");
    let replaced = pull(&agent, &s3, "s3://by-hand/v", &to).arg("--replace").output().await?;
    ensure!(replaced.status.success() && !to.join("notes.txt").exists(), "{replaced:?}");
    Ok(())
}

#[tokio::test]
async fn e2e_objects_without_a_manifest_are_pulled_as_listed_resumed_and_refused_when_they_change()
-> Result<()> {
    let tools = Tools::load()?;
    let folder = tempfile::tempdir()?;
    let s3 = S3Server::shared_or_start(&tools, &folder.path().join("s3")).await?;
    let large = content(1, 33 * MIB);
    let files = [("large.bin", &large[..]), ("sub/empty", b""), ("sub/größe.txt", b"text")];
    for (path, bytes) in files {
        s3.put(BUCKET, &format!("plain/{path}"), bytes.to_vec()).await?;
    }
    let agent = tools.ours("nave-agent")?;
    let (to, store) = (folder.path().join("to"), folder.path().join("store"));
    let from = |url: &str, to: &Path| {
        let mut command = pull(&agent, &s3, url, to);
        command.arg("--store").arg(&store);
        command
    };

    // Killed when a piece of 8 MiB is noted, it goes on behind that.
    let slowly = ["--max-ranges", "1", "--max-bandwidth", "12000000"];
    let mut killed = from("s3://by-hand/plain", &to).args(slowly).spawn()?;
    eventually("a noted piece", Duration::from_secs(60), || async {
        Ok(Progress::when(noted(&store), (), "no journal has a record"))
    })
    .await?;
    killed.kill().await?;
    ensure!(!to.exists(), "files were visible before all were there");
    let done = json(&from("s3://by-hand/plain", &to).output().await?)?;
    ensure!(done["bytesResumed"].as_u64() >= Some(8 << 20), "{done}");
    ensure!(done["checked"] == "sizesAndETags" && done["files"] == 3, "{done}");
    for (path, bytes) in files {
        ensure!(std::fs::read(to.join(path)).context(path)? == bytes, "{path}");
    }
    ensure!(done["digest"] == manifest(files)?.digest().to_string(), "{done}");

    // Again: by the ETags that the server lists it is all there.
    let again = json(&from("s3://by-hand/plain", &to).output().await?)?;
    ensure!(again["alreadyThere"] == true && again["bytesFetched"] == 0, "{again}");
    ensure!(again["checked"] == "sizesAndETags" && again["digest"] == done["digest"], "{again}");

    let one = folder.path().join("one");
    let done = json(&from("s3://by-hand/plain/sub/größe.txt", &one).output().await?)?;
    ensure!(done["files"] == 1 && std::fs::read(one.join("größe.txt"))? == b"text", "{done}");

    // Another object of the same size takes its place in the middle.
    std::fs::remove_dir_all(&store)?;
    let torn = folder.path().join("torn");
    let pulling =
        from("s3://by-hand/plain", &torn).args(slowly).stdout(std::process::Stdio::piped()).spawn()?;
    eventually("a noted piece", Duration::from_secs(60), || async {
        Ok(Progress::when(noted(&store), (), "no journal has a record"))
    })
    .await?;
    s3.put(BUCKET, "plain/large.bin", content(2, 33 * MIB)).await?;
    refused(
        &pulling.wait_with_output().await?,
        3,
        "VersionBroken",
        "large.bin was changed while it was pulled",
    )?;
    ensure!(!torn.exists(), "a mixture of two objects is there");
    Ok(())
}

#[tokio::test]
async fn e2e_an_object_that_was_uploaded_in_parts_is_known_again_by_its_etag() -> Result<()> {
    let tools = Tools::load()?;
    let folder = tempfile::tempdir()?;
    let s3 = S3Server::shared_or_start(&tools, &folder.path().join("s3")).await?;
    let (agent, to) = (tools.ours("nave-agent")?, folder.path().join("to"));
    let upload = s3.bucket(BUCKET)?.put_multipart(&"parts/model.bin".into()).await?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, 8 * MIB);
    upload.write(&content(3, 17 * MIB));
    let e_tag = upload.finish().await?.e_tag.context("no ETag")?;
    ensure!(e_tag.trim_matches('"').ends_with("-3"), "{e_tag}: not of three parts");
    for already_there in [false, true] {
        let done = json(&pull(&agent, &s3, "s3://by-hand/parts", &to).output().await?)?;
        ensure!(done["alreadyThere"] == already_there && done["checked"] == "sizesAndETags", "{done}");
    }
    std::fs::remove_file(to.join("model.bin"))?;
    std::fs::write(to.join("model.bin"), content(4, 17 * MIB))?;
    let ended = pull(&agent, &s3, "s3://by-hand/parts", &to).output().await?;
    refused(&ended, 1, "TargetNotEmpty", "has other bytes, or cannot be compared")
}

fn manifest<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Manifest> {
    let entry = |(path, bytes): (&str, &[u8])| {
        let mut hasher = FileHasher::new(RelativePath::new(path)?);
        hasher.update(bytes);
        anyhow::Ok(hasher.finish())
    };
    Ok(Manifest::new(files.into_iter().map(entry).collect::<Result<_>>()?)?)
}

fn content(seed: usize, length: usize) -> Vec<u8> {
    (seed..seed + length).map(|n| (n % 251) as u8).collect()
}

/// Whether a journal in the store has more than its header.
fn noted(store: &Path) -> bool {
    const HEADER: u64 = 8 + 32 + 8;
    let Ok(folders) = std::fs::read_dir(store.join("staging")) else { return false };
    let files = folders.flatten().filter_map(|folder| folder.path().read_dir().ok()).flatten().flatten();
    files
        .filter(|file| file.path().extension().is_some_and(|end| end == "journal"))
        .any(|file| file.metadata().is_ok_and(|found| found.len() > HEADER))
}

fn refused(ended: &Output, exit: i32, reason: &str, names: &str) -> Result<()> {
    let error = &json(ended)?["error"];
    ensure!(ended.status.code() == Some(exit), "{ended:?}");
    ensure!(error["reason"] == reason, "{error}");
    ensure!(error["message"].as_str().is_some_and(|message| message.contains(names)), "{names:?}: {error}");
    Ok(())
}

fn pull(agent: &Path, s3: &S3Server, url: &str, to: &Path) -> Command {
    let mut command = Command::new(agent);
    command.args(["pull", url, "-o", "json", "--patience", "1", "--to"]).arg(to);
    command.env_clear().envs(s3.environment()).kill_on_drop(true);
    command
}

fn json(ended: &Output) -> Result<serde_json::Value> {
    serde_json::from_slice(&ended.stdout).with_context(|| format!("{ended:?}"))
}
