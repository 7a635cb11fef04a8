//! `kubectl nave plan` without a cluster, a kubeconfig or a network: a whole rollout is played through with nothing but its
//! JSON, fed back with the spokes' reports written into it.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::server::{nave, run};

/// What is kept between two calls: the objects that a user has in files.
struct Play {
    folder: tempfile::TempDir,
    at: String,
}

/// `plan` in an environment that holds nothing.
pub(crate) fn plan(files: &[&Path], at: &str) -> Result<Value, String> {
    let mut command = nave();
    command.args(["plan", "--output", "json", "--at", at]).env("KUBECONFIG", "/nowhere");
    for file in files {
        command.arg("--filename").arg(file);
    }
    run(&mut command).map(|text| serde_json::from_str(&text).unwrap())
}

pub(crate) fn cluster(name: &str, connected: &str) -> Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "EdgeCluster",
        "metadata": {"name": name, "labels": {"site-type": "bridge"}},
        "spec": {"accepted": true},
        "status": {"conditions": [{"type": "Connected", "status": connected, "reason": "Session", "message": "",
                                   "lastTransitionTime": "2026-11-24T00:00:00Z"}]}
    })
}

pub(crate) fn version(version: &str, digit: &str) -> Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "ModelVersion",
        "metadata": {"name": format!("defects-{version}"), "namespace": "vision"},
        "spec": {"model": "defects", "version": version, "source": {"s3": {"bucket": "models", "prefix": version}}},
        "status": {
            "manifestDigest": format!("sha256:{}", digit.repeat(64)), "sizeBytes": 1000,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Resolved", "message": "",
                            "lastTransitionTime": "2026-11-24T00:00:00Z"}]
        }
    })
}

pub(crate) fn policy(version: &str) -> Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "PlacementPolicy",
        "metadata": {"name": "bridges", "namespace": "vision", "generation": 1},
        "spec": {
            "model": {"name": "defects", "version": version},
            "placement": {"clusterSelector": {"matchLabels": {"site-type": "bridge"}}},
            "rollout": {"steps": [{"clusters": 1, "soak": "10m", "approval": true}], "maxConcurrent": 1}
        }
    })
}

impl Play {
    fn new(objects: &[Value]) -> Self {
        let play = Self { folder: tempfile::tempdir().unwrap(), at: "2026-11-24T12:00:00Z".to_owned() };
        play.write("world.json", objects);
        play.write("objects.json", &[]);
        play
    }

    fn write(&self, file: &str, objects: &[Value]) {
        fs::write(self.folder.path().join(file), serde_json::to_string(objects).unwrap()).unwrap();
    }

    /// One plan; its objects are what the next one starts from.
    fn plan(&self) -> Value {
        let file = |name: &str| self.folder.path().join(name);
        let document = plan(&[&file("world.json"), &file("objects.json")], &self.at).unwrap();
        self.write("objects.json", document["objects"].as_array().unwrap());
        document
    }

    /// Changes the objects that the next plan starts from.
    fn edit(&self, mut change: impl FnMut(&mut Value)) {
        let file = self.folder.path().join("objects.json");
        let mut objects: Vec<Value> = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        objects.iter_mut().for_each(&mut change);
        self.write("objects.json", &objects);
    }

    /// Every spoke but the offline one serves what it is asked to, as of now.
    fn report(&self) {
        self.edit(|object| {
            if object["kind"] != "ClusterAssignment" || object["metadata"]["name"] == "bridge-d" {
                return;
            }
            let serving: Vec<Value> = object["spec"]["entries"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|entry| entry["action"] == "Serve")
                .map(|entry| self.row(entry, &object["status"]["entries"]))
                .collect();
            object["status"] =
                json!({"observedGeneration": object["spec"]["generation"], "entries": serving});
        });
    }

    /// The row of an entry; one that is served already keeps its time.
    fn row(&self, entry: &Value, before: &Value) -> Value {
        let known = before.as_array().into_iter().flatten().find(|row| row["version"] == entry["version"]);
        known.cloned().unwrap_or_else(|| {
            json!({"namespace": entry["namespace"], "model": entry["model"], "version": entry["version"],
                   "phase": "Serving", "digest": entry["manifestDigest"], "since": self.at})
        })
    }

    /// Every spoke has done what it is asked a minute later, but that one fails one version. What it holds beside that stays
    /// on its disk.
    fn work(&mut self, fails: (&str, &str)) {
        let now: jiff::Timestamp = self.at.parse().unwrap();
        self.at = (now + jiff::SignedDuration::from_mins(1)).to_string();
        self.edit(|object| {
            if object["kind"] != "ClusterAssignment" {
                return;
            }
            let entries = object["spec"]["entries"].as_array().unwrap();
            let before = object["status"]["entries"].as_array().cloned().unwrap_or_default();
            let mut rows = Vec::new();
            for entry in entries.iter().filter(|entry| entry["action"] != "Wait") {
                let phase = match entry["action"].as_str().unwrap() {
                    "Serve" if (object["metadata"]["name"] == fails.0) && (entry["version"] == fails.1) => {
                        "Failed"
                    }
                    "Serve" => "Serving",
                    _ => "Staged",
                };
                let same = before.iter().find(|row| {
                    row["version"] == entry["version"] && row["phase"] == phase && told_before(entry, row)
                });
                rows.push(same.cloned().unwrap_or_else(|| row(entry, phase, &self.at)));
            }
            for old in before.iter().filter(|row| row["phase"] != "Failed") {
                if rows.iter().all(|row: &Value| row["version"] != old["version"]) {
                    let mut old = old.clone();
                    old["phase"] = "Staged".into();
                    rows.push(old);
                }
            }
            object["status"] = json!({"observedGeneration": object["spec"]["generation"], "entries": rows});
        });
    }

    fn annotate(&self, name: &str, value: &str) {
        self.edit(|object| {
            if object["kind"] == "PlacementPolicy" {
                object["metadata"]["annotations"] = json!({name: value});
            }
        });
    }
}

fn told_before(entry: &Value, row: &Value) -> bool {
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    time(&entry["toldAt"]) <= time(&row["since"])
}

fn row(entry: &Value, phase: &str, since: &str) -> Value {
    json!({"namespace": entry["namespace"], "model": entry["model"], "version": entry["version"],
           "phase": phase, "digest": entry["manifestDigest"], "since": since})
}

fn state(document: &Value) -> &str {
    document["policies"]["vision/bridges"]["step"]["state"].as_str().unwrap()
}

fn names<'a>(document: &'a Value, list: &str) -> Vec<&'a str> {
    let list = &document["policies"]["vision/bridges"][list];
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn api_a_rollout_is_played_through_with_nothing_but_plans() {
    let mut play = Play::new(&[
        cluster("bridge-a", "True"),
        cluster("bridge-b", "True"),
        cluster("bridge-c", "True"),
        cluster("bridge-d", "False"),
        version("1", "1"),
        policy("1"),
    ]);
    let mut story = Vec::new();
    for _ in 0..20 {
        let document = play.plan();
        story.push(format!("{} tells [{}]", state(&document), names(&document, "tell").join(" ")));
        assert_eq!(names(&document, "deferred"), ["bridge-d"]);
        if state(&document) == "Complete" {
            assert_eq!(names(&document, "serving"), ["bridge-a", "bridge-b", "bridge-c"]);
            break;
        }
        // What moves a rollout on: a spoke that answers, a person, or time.
        if state(&document) == "AwaitingApproval" {
            play.annotate("nave.dev/approve", "1/1");
        } else if state(&document) == "Soaking" {
            play.at = document["recheckAt"].as_str().unwrap().to_owned();
        } else {
            play.report();
        }
    }
    let expected = [
        "Updating tells [bridge-a]",
        "Soaking tells []",
        "AwaitingApproval tells []",
        "Updating tells [bridge-b]",
        "Updating tells [bridge-c]",
        "Complete tells []",
    ];
    assert_eq!(story, expected);
    assert_eq!(play.at, "2026-11-24T12:10:00Z");

    // The site that was away comes back, and catches up.
    let mut returned = cluster("bridge-d", "True");
    returned["status"]["conditions"][0]["lastTransitionTime"] = "2026-12-01T00:00:00Z".into();
    play.at = "2026-12-01T00:00:00Z".to_owned();
    play.write(
        "world.json",
        &[
            cluster("bridge-a", "True"),
            cluster("bridge-b", "True"),
            cluster("bridge-c", "True"),
            returned,
            version("1", "1"),
        ],
    );
    let document = play.plan();
    assert_eq!(names(&document, "tell"), ["bridge-d"]);
}

/// State, who is told, who failed, who was sent back, and what is waited for.
fn told(document: &Value) -> String {
    let lists =
        ["tell", "failed", "rolledBack"].map(|list| format!("{list} [{}]", names(document, list).join(" ")));
    let waits = document["policies"]["vision/bridges"]["waitingOn"].as_array().unwrap().iter();
    let rules: Vec<&str> = waits.map(|wait| wait["rule"].as_str().unwrap()).collect();
    format!("{} {} waits [{}]", state(document), lists.join(" "), rules.join(" "))
}

#[test]
fn api_prefetch_failure_rollback_and_retry_are_played_through_with_nothing_but_plans() {
    let mut first = policy("1");
    first["spec"]["rollout"] = json!({});
    let mut play = Play::new(&[
        cluster("bridge-a", "True"),
        cluster("bridge-b", "True"),
        cluster("bridge-c", "True"),
        version("1", "1"),
        version("2", "2"),
        first,
    ]);
    play.plan();
    play.work(("", ""));
    assert_eq!(state(&play.plan()), "Complete");

    play.edit(|object| {
        if object["kind"] == "PlacementPolicy" {
            object["metadata"]["generation"] = 2.into();
            object["spec"]["model"]["version"] = "2".into();
            object["spec"]["rollout"] = json!({"prefetch": true, "steps": [{"clusters": 1}], "maxConcurrent": 1,
                                              "onFailure": "Rollback"});
        }
    });
    let mut story = Vec::new();
    for fails in ["", "", "bridge-b", "", "", ""] {
        story.push(told(&play.plan()));
        play.work((fails, "2"));
    }
    let expected = [
        "Prefetching tell [] failed [] rolledBack [] waits [Prefetch]",
        "Updating tell [bridge-a] failed [] rolledBack [] waits [Soak InFlight]",
        "Updating tell [bridge-b] failed [] rolledBack [] waits [MaxConcurrent InFlight]",
        "RollingBack tell [] failed [bridge-b] rolledBack [bridge-b] waits [FailureBudget MaxConcurrent InFlight]",
        "RollingBack tell [] failed [] rolledBack [bridge-a bridge-b] waits [FailureBudget InFlight]",
        "RolledBack tell [] failed [] rolledBack [bridge-a bridge-b] waits [FailureBudget]",
    ];
    assert_eq!(story, expected);
    assert_eq!(state(&play.plan()), "RolledBack", "nothing more until somebody asks for it");

    play.annotate("nave.dev/retry", "cable-mended");
    let mut story = Vec::new();
    for _ in 0..5 {
        story.push(told(&play.plan()));
        play.work(("", ""));
    }
    let expected = [
        "Prefetching tell [] failed [] rolledBack [] waits [Prefetch]",
        "Updating tell [bridge-a] failed [] rolledBack [] waits [Soak InFlight]",
        "Updating tell [bridge-b] failed [] rolledBack [] waits [MaxConcurrent InFlight]",
        "Updating tell [bridge-c] failed [] rolledBack [] waits [InFlight]",
        "Complete tell [] failed [] rolledBack [] waits []",
    ];
    assert_eq!(story, expected);
    let last = play.plan();
    assert_eq!(names(&last, "serving"), ["bridge-a", "bridge-b", "bridge-c"]);
    let previous =
        last["objects"].as_array().unwrap().iter().find(|object| object["kind"] == "PlacementPolicy");
    assert_eq!(previous.unwrap()["status"]["previousVersion"], "1");
}

#[test]
fn api_the_same_objects_in_any_order_and_form_give_the_same_plan() {
    let objects = [cluster("bridge-b", "True"), policy("1"), version("1", "1"), cluster("bridge-a", "True")];
    let folder = tempfile::tempdir().unwrap();
    let (json, yaml) = (folder.path().join("a.json"), folder.path().join("b.yaml"));
    fs::write(&json, serde_json::to_string(&objects).unwrap()).unwrap();
    let documents: Vec<String> =
        objects.iter().rev().map(|object| serde_yaml::to_string(object).unwrap()).collect();
    fs::write(&yaml, documents.join("---\n")).unwrap();
    let at = "2026-11-24T12:00:00Z";
    let first = plan(&[&json], at).unwrap();
    assert_eq!(first, plan(&[&yaml], at).unwrap());
    let keys: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["at", "objects", "policies", "recheckAt"]);
    let kinds: BTreeMap<&str, usize> =
        first["objects"].as_array().unwrap().iter().fold(BTreeMap::new(), |mut kinds, object| {
            *kinds.entry(object["kind"].as_str().unwrap()).or_default() += 1;
            kinds
        });
    assert_eq!(kinds, BTreeMap::from([("ClusterAssignment", 2), ("PlacementPolicy", 1)]));
}
