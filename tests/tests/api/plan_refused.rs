//! What `kubectl nave plan` and its sisters do with what is wrong: each is named, with object and field, and an exit code.

use std::{fs, io::Write as _, path::Path, process::Stdio};

use serde_json::json;

use crate::{
    plan::{cluster, plan, policy},
    server::nave,
};

#[test]
fn api_what_is_wrong_in_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.yaml");
    let mut bad = policy("1");
    bad["spec"]["rollout"]["maxConcurent"] = 1.into();
    let documents = [cluster("bridge-a", "True"), bad].map(|object| serde_yaml::to_string(&object).unwrap());
    fs::write(&file, documents.join("---\n")).unwrap();
    let error = plan(&[&file], "2026-11-24T12:00:00Z").unwrap_err();
    for part in [
        file.to_str().unwrap(),
        "document 2",
        "PlacementPolicy vision/bridges",
        "spec.rollout.maxConcurent: unknown field",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = plan(&[Path::new("/nowhere.yaml")], "2026-11-24T12:00:00Z").unwrap_err();
    assert!(error.contains("/nowhere.yaml"), "{error}");
    assert!(plan(&[], "2026-11-24T12:00:00Z").unwrap_err().contains("--filename"));
}

#[test]
fn api_what_is_wrong_on_the_standard_input_is_named() {
    let mut bad = policy("1");
    bad["spec"]["rollout"]["maxConcurrent"] = 0.into();
    let mut command = nave();
    command.args(["plan", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(bad.to_string().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "error: standard input: PlacementPolicy vision/bridges: spec.rollout.maxConcurrent: ";
    assert!(!output.status.success() && said.starts_with(expected), "{said}");
}

/// What a verb that cannot be run says, and its exit code: 2 for arguments that are none, as kubectl and clap have it.
fn refused(arguments: &[&str], code: i32) -> String {
    let output = nave().args(arguments).env("KUBECONFIG", "/nowhere").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} says something on standard output");
    assert!(said.starts_with("error: "), "{arguments:?}: {said}");
    said
}

#[test]
fn api_what_no_verb_can_run_on_is_named_with_an_exit_code() {
    for (arguments, parts) in [
        (&["plan", "--filename", "x", "--at", "yesterday"][..], &["yesterday", "--at <RFC3339>"][..]),
        (&["plan", "--filename", "x", "--output", "xml"], &["xml", "--output", "json"]),
        (&["rollout", "approve", "bridges", "--step", "0"], &["0", "--step <STEP>"]),
        (&["rollout", "approve", "bridges", "--step", "canary"], &["canary", "--step <STEP>"]),
        (&["rollout", "status"], &["<POLICY>"]),
        (&["rollout", "forward", "bridges"], &["forward"]),
        (&["explain", "policy"], &["<POLICY>"]),
        (&["explain", "policy", "bridges", "--at", "soon"], &["soon", "--at <RFC3339>"]),
    ] {
        let said = refused(arguments, 2);
        parts.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
    }
    for arguments in
        [&["rollout", "status", "bridges"][..], &["explain", "policy", "bridges"], &["plan", "--live"]]
    {
        let said = refused(arguments, 1);
        assert!(said.contains("/nowhere"), "{said}");
    }
}

#[test]
fn api_a_value_that_admission_refuses_is_named_with_its_object_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.json");
    for (field, value, path) in [
        ("maxConcurrent", json!("150%"), "spec.rollout.maxConcurrent"),
        ("maxConcurrent", json!(0), "spec.rollout.maxConcurrent"),
        ("progressDeadline", json!("an hour"), "spec.rollout.progressDeadline"),
        ("steps", json!([]), "spec.rollout.steps"),
        ("steps", json!([{"clusters": 1}, {"clusters": "half"}]), "spec.rollout.steps[1].clusters"),
        ("onFailure", json!("Explode"), "spec.rollout.onFailure"),
        (
            "windows",
            json!([{"start": "25:00", "end": "26:00", "timeZone": "UTC"}]),
            "spec.rollout.windows[0].start",
        ),
    ] {
        let mut bad = policy("1");
        bad["spec"]["rollout"][field] = value.clone();
        fs::write(&file, bad.to_string()).unwrap();
        let said = refused(&["plan", "--filename", file.to_str().unwrap()], 1);
        for part in [file.to_str().unwrap(), "PlacementPolicy vision/bridges", path] {
            assert!(said.contains(part), "{field} {value}: {part}: {said}");
        }
    }
}
