//! The real binary, killed with SIGKILL at random moments, against a real server: it ends with the right bytes, shows
//! none before they are verified, and fetches little twice.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use crate::{
    server::{Fault, Server},
    world::{MIB, manifest_of, noise},
};

/// The key of a file of the version, behind its bucket.
pub(crate) fn key(path: &str) -> String {
    format!("bucket/vit/1.0/{path}")
}

/// A version under `bucket/vit/1.0/` as `nave-agent pull` sees it.
pub(crate) async fn bucket(files: &BTreeMap<String, Vec<u8>>) -> Server {
    let mut objects: BTreeMap<_, _> = files.iter().map(|(path, bytes)| (key(path), bytes.clone())).collect();
    objects.insert(key("manifest.json"), manifest_of(files).to_canonical_bytes());
    Server::start(objects).await
}

pub(crate) fn nave_agent(server: &Server, to: &Path) -> tokio::process::Command {
    nave_agent_from(server, "s3://bucket/vit/1.0", to)
}

/// The same from another address.
pub(crate) fn nave_agent_from(server: &Server, url: &str, to: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_nave-agent"));
    command
        .args(["pull", url, "-o", "json", "--to"])
        .arg(to)
        .env("AWS_ENDPOINT_URL", format!("http://{}", server.address))
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env_remove("NAVE_STORE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn files() -> BTreeMap<String, Vec<u8>> {
    [
        ("model.bin".to_owned(), noise(1, 48 * MIB + 99)),
        ("tokenizer.json".to_owned(), noise(2, 200_000)),
        ("config/preprocessor.json".to_owned(), noise(3, 700)),
    ]
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_twenty_times_it_ends_with_the_right_bytes() {
    let files = files();
    let server = bucket(&files).await;
    server.script(|seen| seen.range.map(|_| Fault::Slow(3 << 20)));
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("vit");
    let mut kills = 0;
    while kills < 20 {
        let mut child = nave_agent(&server, &to).spawn().unwrap();
        let pause = Duration::from_millis(30 + rand::random_range(0..270));
        if tokio::time::timeout(pause, child.wait()).await.is_ok() {
            break;
        }
        child.start_kill().unwrap();
        child.wait().await.unwrap();
        kills += 1;
        assert!(!to.exists(), "files were visible before all were verified");
    }
    server.script(|_| None);
    let done = nave_agent(&server, &to).output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    for (path, bytes) in &files {
        assert!(std::fs::read(to.join(path)).unwrap() == *bytes, "{path}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the store of the pull is left behind");
    // Each kill may lose what its connections had in flight (a chunk and the sockets' buffers each), and the manifest
    // is fetched anew each time; nothing else is fetched twice.
    let total: usize = files.values().map(Vec::len).sum();
    let most = total + (kills + 1) * 8 * (MIB + 600_000);
    assert!(server.sent() < most as u64, "{} bytes sent for {total} after {kills} kills", server.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_has_its_exit_code_and_its_reason() {
    let files = files();
    let server = bucket(&files).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("vit");
    let cases = [
        (3, "VersionBroken", Fault::Status(404, "")),
        (3, "DigestMismatch", Fault::Flip(MIB as u64)),
        (4, "AccessDenied", Fault::Status(403, "")),
        (5, "SourceUnavailable", Fault::Status(500, "")),
    ];
    for (code, reason, fault) in cases {
        server.script(move |seen| seen.range.map(|_| fault.clone()));
        let ended = nave_agent(&server, &to).args(["--patience", "1"]).output().await.unwrap();
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        let json: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(json["error"]["reason"], reason);
        assert!(!to.exists());
    }
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("mine"), "x").unwrap();
    let ended = nave_agent(&server, &to).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(to.join("mine").exists(), "a folder in use is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_verified_against_a_manifest() {
    let files = files();
    let server = bucket(&files).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("vit");
    assert!(nave_agent(&server, &to).output().await.unwrap().status.success());
    let manifest = folder.path().join("manifest.json");
    std::fs::write(&manifest, manifest_of(&files).to_canonical_bytes()).unwrap();
    let verify_as = |digest: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nave-agent"));
        command.arg("verify").arg(&to).arg("--manifest").arg(&manifest).args(digest);
        let ended = command.output().unwrap();
        (ended.status.code(), String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap())
    };
    let verify = || verify_as(&[]);
    assert_eq!(verify().0, Some(0));
    let digest = manifest_of(&files).digest().to_string();
    assert_eq!(verify_as(&["--digest", &digest]).0, Some(0));
    let other = nave_names::Digest::of(b"another version's manifest").to_string();
    let (code, text) = verify_as(&["--digest", &other]);
    assert!(code == Some(3) && text.contains(&digest) && text.contains(&other), "{code:?} {text}");
    std::fs::write(to.join("extra.py"), "import os").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", to.join("link")).unwrap();
    std::fs::remove_file(to.join("config/preprocessor.json")).unwrap();
    let (code, text) = verify();
    assert_eq!(code, Some(3));
    for problem in ["extra.py: not in the manifest", "link: neither", "config/preprocessor.json: missing"] {
        assert!(text.contains(problem), "{text}");
    }
}
