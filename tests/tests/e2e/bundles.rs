//! No network at all: what `kubectl nave bundle export` writes is carried by hand, taken in by `nave-agent import`, and
//! when the hub asks for it nothing of it is fetched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use nave_tests::weights;
use serde_json::{Value, json};

use crate::site::{CLUSTER, MODEL, Site, Version};

const SIZE: u64 = 24 << 20;

/// Publishes weights that differ from those of other steps in one byte of 500.
async fn publish(site: &Site, name: &'static str, step: u8, extra: &[&str]) -> Result<Version> {
    let folder = site.stack.folder().join(format!("published-{name}"));
    let path = folder.join("weights.bin");
    weights::write_random(&path, SIZE, 7)?;
    let mut bytes = fs::read(&path)?;
    bytes.iter_mut().step_by(500).for_each(|byte| *byte = byte.wrapping_add(step));
    fs::write(&path, bytes)?;
    let published = site.stack.publish_with(&folder, MODEL, name, extra).await?;
    let digest = published["manifestDigest"].as_str().context("no digest")?.to_owned();
    Ok(Version { name, digest, files: weights::digests(&folder)? })
}

/// `kubectl nave bundle export` into a folder of this name.
async fn export(site: &Site, folder: &str, what: &[&str]) -> Result<(PathBuf, Value)> {
    let to = site.stack.folder().join(folder);
    let target = to.to_string_lossy();
    let arguments = [&["nave", "bundle", "export", "--to", &target], what].concat();
    Ok((to.clone(), site.stack.kubectl.json(&arguments).await?))
}

/// `nave-agent import` as a person at the spoke types it, for this state folder.
fn import_into(site: &Site, state: &Path, bundle: &Path) -> Result<Command> {
    let mut command = Command::new(site.stack.tools.ours("nave-agent")?);
    command.arg("import").arg(bundle).args(["-o", "json", "--state-dir"]).arg(state);
    Ok(command)
}

fn import(site: &Site, bundle: &Path) -> Result<Output> {
    import_into(site, &site.spoke.state(), bundle)?.output().context("running nave-agent import")
}

/// The same in a network namespace that has nothing in it, not even a loopback interface that is up.
#[allow(clippy::print_stderr)] // What is skipped is said.
fn import_without_network(site: &Site, bundle: &Path) -> Result<Value> {
    let own: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-current-user"] };
    let mut unshare = Command::new("unshare");
    unshare.arg("--net").args(own);
    let tried = unshare.args(["grep", "-c", ":", "/proc/self/net/dev"]).output();
    let Some(interfaces) = tried.ok().filter(|tried| tried.status.success()) else {
        eprintln!(
            "skipped: a namespace without a network (unshare --net is not allowed here); importing beside one"
        );
        return imported(site, bundle);
    };
    assert_eq!(String::from_utf8_lossy(&interfaces.stdout).trim(), "1", "one interface, lo, which is down");
    let import = import_into(site, &site.spoke.state(), bundle)?;
    let mut unshare = Command::new("unshare");
    unshare.arg("--net").args(own).arg(import.get_program()).args(import.get_args());
    printed(&unshare.output().context("running nave-agent import without a network")?)
}

fn printed(output: &Output) -> Result<Value> {
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what import printed")
}

fn imported(site: &Site, bundle: &Path) -> Result<Value> {
    printed(&import(site, bundle)?)
}

/// Exit code and reason.
fn refused(site: &Site, bundle: &Path) -> Result<(Option<i32>, String)> {
    refusal(&import(site, bundle)?)
}

fn refusal(output: &Output) -> Result<(Option<i32>, String)> {
    let said: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), said["error"]["reason"].as_str().unwrap_or_default().to_owned()))
}

/// What the spoke has asked S3 for, ever: path by path.
fn fetched(site: &Site) -> Vec<String> {
    site.proxy.passed("").into_iter().filter(|one| one.presigned).map(|one| one.path).collect()
}

/// A policy that wants the weights at every site first, and no switch while it is paused.
async fn prefetch(site: &Site, version: &Version, paused: bool) -> Result<()> {
    let policy = json!({
        "apiVersion": "nave.dev/v1alpha1",
        "kind": "PlacementPolicy",
        "metadata": {"name": "bridges", "namespace": "default"},
        "spec": {
            "model": {"name": MODEL, "version": version.name},
            "placement": {"clusterSelector": {"matchLabels": {"site-type": "bridge"}}},
            "rollout": {"prefetch": true, "paused": paused},
            "serving": {"runtime": "files"},
        },
    });
    site.stack.kubectl.apply(&policy.to_string()).await.map(drop)
}

#[tokio::test]
async fn e2e_what_was_carried_by_hand_is_not_fetched_when_the_hub_asks_for_it() -> Result<()> {
    let mut site = Site::start().await?;
    let first = publish(&site, "1.0.0", 0, &[]).await?;
    let second = publish(&site, "2.0.0", 1, &["--delta-from", "1.0.0"]).await?;
    let (whole, said) =
        export(&site, "whole", &["--model-version", "weights-1.0.0", "--split", "5M"]).await?;
    assert_eq!(
        (&said["parts"], &said["versions"][0]["manifestDigest"]),
        (&json!(6), &json!(first.digest)),
        "{said}"
    );
    let flags = ["--model-version", "weights-2.0.0", "--delta-from", "1.0.0"];
    let (upon, said) = export(&site, "upon", &flags).await?;
    let carried = said["bytes"].as_u64().context("bytes")?;
    assert!(
        carried < SIZE / 10,
        "{carried} of {SIZE} bytes are carried to a site that has the version before"
    );

    // Nobody runs there, and no hub can be asked.
    site.spoke.stop().await?;
    site.stack.hub.stop().await?;
    assert_eq!(refused(&site, &upon)?, (Some(3), "BaseMissing".to_owned()));
    let said = import_without_network(&site, &whole)?;
    assert_eq!(
        (&said["byAgent"], &said["versions"][0]["digest"]),
        (&json!(false), &json!(first.digest)),
        "{said}"
    );
    site.spoke.restart()?;
    site.stack.hub.restart().await?;
    // The hub asks for the weights alone, and learns that they are there.
    prefetch(&site, &first, true).await?;
    let staged = site.stack.wait_reported(CLUSTER, MODEL, "to have it staged", |row| {
        row["digest"] == first.digest.as_str() && row["phase"] == "Staged"
    });
    staged.await?;
    assert_eq!(fetched(&site), [""; 0], "neither weights nor manifest");
    assert!(site.spoke.current(MODEL).is_none(), "nothing is served yet");
    prefetch(&site, &first, false).await?;
    site.wait_serving(&first).await?;

    // Now the agent runs, and takes the next one in itself.
    let said = imported(&site, &upon)?;
    assert_eq!(said["byAgent"], true, "{said}");
    assert!(said["versions"][0]["bytesRebuilt"].as_u64().is_some_and(|bytes| bytes > SIZE / 2), "{said}");
    assert_eq!(refused(&site, &whole)?, (Some(3), "OlderGeneration".to_owned()));
    site.place(&second).await?;
    site.wait_serving(&second).await?;
    assert_eq!(
        fetched(&site),
        [""; 0],
        "nothing was ever fetched from S3: no weights, no manifest, no delta"
    );
    Ok(())
}

#[tokio::test]
async fn e2e_a_policy_is_carried_whole_and_a_copy_that_is_not_is_refused_by_name() -> Result<()> {
    let (site, first) = Site::serving_a_small_version().await?;
    // The first two files are those of the first version.
    let files = [("weights.bin", 1 << 20), ("labels.txt", 300), ("more.bin", 2 << 20)];
    let second = site.publish("2.0.0", &files).await?;
    site.place(&second).await?;
    site.wait_serving(&second).await?;
    let (bundle, said) = export(&site, "policy", &["--policy", "bridges", "--split", "1M"]).await?;
    let digests: Vec<_> =
        said["versions"].as_array().context("versions")?.iter().map(|one| &one["manifestDigest"]).collect();
    assert_eq!(digests, [&json!(first.digest), &json!(second.digest)], "also what it can go back to: {said}");
    assert!(fs::read_to_string(bundle.join("policy.yaml"))?.contains("kind: PlacementPolicy"));

    let part = bundle.join("part-00002.nave");
    let bytes = fs::read(&part)?;
    fs::write(&part, &bytes[..bytes.len() / 2])?;
    assert_eq!(refused(&site, &bundle)?, (Some(3), "PartTorn".to_owned()));
    fs::remove_file(&part)?;
    assert_eq!(refused(&site, &bundle)?, (Some(3), "PartMissing".to_owned()));
    fs::write(&part, &bytes)?;
    let key = site.stack.folder().join("foreign.pem");
    fs::write(&key, rcgen::KeyPair::generate()?.serialize_pem())?;
    let flags = ["--policy", "bridges", "--sign", &key.to_string_lossy()];
    let (foreign, _) = export(&site, "foreign", &flags).await?;
    assert_eq!(refused(&site, &foreign)?, (Some(3), "SignedByAnotherMethod".to_owned()));

    let said = imported(&site, &bundle)?;
    assert!(
        said["versions"].as_array().context("versions")?.iter().all(|one| one["alreadyThere"] == true),
        "{said}"
    );

    // A site that has the first version already is carried what it lacks, and one that has nothing says so.
    let flags = ["--policy", "bridges", "--delta-from", "1.0.0"];
    let (upon, exported) = export(&site, "policy-upon", &flags).await?;
    let version = &exported["versions"][0];
    assert_eq!(
        (exported["versions"].as_array().map(Vec::len), &version["manifestDigest"], &version["base"]),
        (Some(1), &json!(second.digest), &json!("1.0.0")),
        "{exported}"
    );
    assert!(version["carriedBytes"].as_u64().is_some_and(|bytes| bytes < 2_200_000), "{exported}");
    let (first_alone, _) = export(&site, "first", &["--model-version", "weights-1.0.0"]).await?;
    let elsewhere = site.stack.folder().join("elsewhere");
    let authority = site.spoke.state().join("identity").join("ca.pem");
    let import = |bundle: &Path| -> Result<Output> {
        let mut command = import_into(&site, &elsewhere, bundle)?;
        command.arg("--certificate-chain").arg(&authority).output().context("running nave-agent import")
    };
    assert_eq!(refusal(&import(&upon)?)?, (Some(3), "BaseMissing".to_owned()));
    let said = printed(&import(&first_alone)?)?;
    assert_eq!(said["versions"][0]["digest"], first.digest.as_str(), "{said}");
    let said = printed(&import(&upon)?)?;
    assert_eq!(said["versions"][0]["bytesRead"], 2 << 20, "{said}");
    Ok(())
}
