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

use crate::site::{MODEL, Site, Version};

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

/// `nave-agent import` at the spoke, as a person there types it.
fn import(site: &Site, bundle: &Path) -> Result<Output> {
    Command::new(site.stack.tools.ours("nave-agent")?)
        .arg("import")
        .arg(bundle)
        .args(["-o", "json", "--state-dir"])
        .arg(site.spoke.state())
        .output()
        .context("running nave-agent import")
}

fn imported(site: &Site, bundle: &Path) -> Result<Value> {
    let output = import(site, bundle)?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what import printed")
}

/// Exit code and reason.
fn refused(site: &Site, bundle: &Path) -> Result<(Option<i32>, String)> {
    let output = import(site, bundle)?;
    let said: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), said["error"]["reason"].as_str().unwrap_or_default().to_owned()))
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
    let before = site.proxy.traffic("weights.bin").bytes;

    // Nobody runs there, and no hub can be asked.
    site.spoke.stop().await?;
    site.stack.hub.stop().await?;
    assert_eq!(refused(&site, &upon)?, (Some(3), "BaseMissing".to_owned()));
    let said = imported(&site, &whole)?;
    assert_eq!(
        (&said["byAgent"], &said["versions"][0]["digest"]),
        (&json!(false), &json!(first.digest)),
        "{said}"
    );
    site.spoke.restart()?;
    site.stack.hub.restart().await?;
    site.place(&first).await?;
    site.wait_serving(&first).await?;

    // Now the agent runs, and takes the next one in itself.
    let said = imported(&site, &upon)?;
    assert_eq!(said["byAgent"], true, "{said}");
    assert!(said["versions"][0]["bytesRebuilt"].as_u64().is_some_and(|bytes| bytes > SIZE / 2), "{said}");
    assert_eq!(refused(&site, &whole)?, (Some(3), "OlderGeneration".to_owned()));
    site.place(&second).await?;
    site.wait_serving(&second).await?;
    assert_eq!(site.proxy.traffic("weights.bin").bytes, before, "nothing of the weights was fetched");
    Ok(())
}

#[tokio::test]
async fn e2e_a_policy_is_carried_whole_and_a_copy_that_is_not_is_refused_by_name() -> Result<()> {
    let (site, first) = Site::serving_a_small_version().await?;
    let second = site.publish("2.0.0", &[("weights.bin", 3 << 20)]).await?;
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
    let (code, reason) = refused(&site, &foreign)?;
    assert_eq!(code, Some(3), "{reason}");
    assert!(reason.contains("Sign") || reason.contains("Untrusted"), "{reason}");

    let said = imported(&site, &bundle)?;
    assert!(
        said["versions"].as_array().context("versions")?.iter().all(|one| one["alreadyThere"] == true),
        "{said}"
    );
    Ok(())
}
