//! Flags of `kubectl nave`, each by what it does to an answer.

use std::{io::Write as _, process::Stdio};

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use nave_crds::PlacementPolicy;
use serde_json::{Value, json};

use crate::{
    cli::{make_policy, make_version, run_in, set_status},
    live::Fleet,
    plan::{cluster, policy, version},
    server::{Server, nave},
};

#[tokio::test]
async fn api_steering_verbs_take_a_step_and_a_version_and_answer_in_json() {
    let server = Server::start().await;
    let policies = make_policy(&server, run_in("Rolling", "AwaitingApproval")).await;
    let namespace = server.namespace.as_str();
    let rollout = |verb: &str, more: &[&str]| {
        server.nave(&[&["rollout", verb, "bridges", "-n", namespace][..], more].concat())
    };
    let done = |verb: &str, more: &[&str]| -> Value {
        let text = rollout(verb, &[more, &["-o", "json"]].concat()).unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&answer["namespace"], &answer["policy"]),
            (&json!(namespace), &json!("bridges")),
            "{verb}"
        );
        answer["done"].clone()
    };
    let annotation =
        async |name: &str| policies.get("bridges").await.unwrap().annotations().get(name).cloned();

    let said = rollout("approve", &["--step", "3"]).unwrap_err();
    assert!(said.contains(&format!("PlacementPolicy {namespace}/bridges has no step 3: it has 2")), "{said}");
    assert_eq!(annotation("nave.dev/approve").await, None);
    assert_eq!(done("approve", &["--step", "2"]), "approved: step 2, generation 1");
    assert_eq!(annotation("nave.dev/approve").await.as_deref(), Some("2/1"));

    let status: Value = serde_json::from_str(&rollout("status", &["-o", "json"]).unwrap()).unwrap();
    assert_eq!(status["status"]["step"], json!({"index": 1, "of": 2, "state": "AwaitingApproval"}));
    assert_eq!((&status["generation"], &status["model"]["version"]), (&json!(1), &json!("2")));
    assert_eq!(done("pause", &[]), "paused");
    assert_eq!(done("resume", &[]), "resumed");
    make_version(&server, "zero", "0").await;
    assert_eq!(done("undo", &["--to-version", "0"]), "moves from 2 back to 0");
    assert_eq!(policies.get("bridges").await.unwrap().spec.model.version, "0");
    let said = rollout("undo", &["--to-version", "0"]).unwrap_err();
    assert!(said.contains("names version 0 already"), "{said}");
    set_status(&policies, run_in("RolledBack", "RolledBack")).await;
    assert_eq!(done("retry", &[]), "starts its rollout anew");
}

#[tokio::test]
async fn api_explain_and_live_plans_are_of_the_moment_that_is_asked_for() {
    let fleet = Fleet::new().await;
    let (server, [a, b]) = (&fleet.server, &fleet.clusters);
    let key = format!("{}/bridges", server.namespace);
    let policies: Api<PlacementPolicy> = Api::namespaced(server.client.clone(), &server.namespace);
    let windows = json!([{"start": "10:00", "end": "11:00", "timeZone": "UTC"}]);
    let patch = Patch::Merge(json!({"spec": {"rollout": {"windows": windows}}}));
    policies.patch("bridges", &PatchParams::default(), &patch).await.unwrap();

    let explain = ["explain", "policy", "bridges", "-n", &server.namespace, "--at"];
    let open = server.nave_json(&[&explain[..], &["2031-03-04T10:30:00Z"]].concat());
    let shut = server.nave_json(&[&explain[..], &["2031-03-04T12:00:00Z"]].concat());
    assert_eq!(shut["at"], "2031-03-04T12:00:00Z");
    let told = |document: &Value| -> Vec<(Value, Value, Value)> {
        let clusters = document["clusters"].as_array().unwrap().iter();
        clusters
            .map(|one| (one["cluster"].clone(), one["selected"].clone(), one["toldNow"].clone()))
            .collect()
    };
    let [a, b] = [a, b].map(|name| json!(name));
    assert_eq!(told(&open), [(a.clone(), true.into(), true.into()), (b.clone(), false.into(), false.into())]);
    assert_eq!(told(&shut), [(a.clone(), true.into(), false.into()), (b, false.into(), false.into())]);
    assert_eq!(
        shut["waitingOn"],
        json!([{"rule": "Window", "clusters": [a], "until": "2031-03-05T10:00:00Z"}])
    );
    let table = server.nave(&[&explain[..], &["2031-03-04T12:00:00Z"]].concat()).unwrap();
    assert!(table.contains("Window") && table.contains("2031-03-05T10:00:00Z"), "{table}");

    // Without files a live plan is what the hub does next, and changes nothing.
    let plan = ["plan", "--live", "--at", "2031-03-04T10:30:00Z"];
    let document = server.nave_json(&plan);
    assert_eq!(document["policies"][&key]["tell"], json!([a]));
    assert_eq!(document["difference"]["policies"].get(&key), None, "{}", document["difference"]);
    let table = server.nave(&plan).unwrap();
    assert!(table.contains(&key) && table.contains(a.as_str().unwrap()), "{table}");
    assert!(
        table.ends_with("\nNo files were given to compare with: this is what the hub does next.\n"),
        "{table}"
    );
    assert!(!table.contains("Applying"), "{table}");
}

#[tokio::test]
async fn api_a_context_is_the_one_that_was_named() {
    let server = Server::start().await;
    make_policy(&server, run_in("Rolling", "Updating")).await;
    let file = server.kubeconfig_but(|config| {
        let mut here = config["contexts"][0].clone();
        here["name"] = "here".into();
        here["context"]["namespace"] = server.namespace.clone().into();
        let mut elsewhere = config["clusters"][0].clone();
        elsewhere["name"] = "elsewhere".into();
        elsewhere["cluster"]["server"] = "https://127.0.0.1:1".into();
        let mut there = here.clone();
        there["name"] = "there".into();
        there["context"]["cluster"] = "elsewhere".into();
        config["clusters"].as_array_mut().unwrap().push(elsewhere);
        config["contexts"].as_array_mut().unwrap().extend([here, there]);
        config["current-context"] = "there".into();
    });

    let status = |more: &[&str]| {
        let common = ["rollout", "status", "bridges", "--kubeconfig", file.path().to_str().unwrap()];
        crate::server::run(nave().args(common).args(more))
    };
    assert!(status(&["--context", "here"]).unwrap().contains("step 1 of 2: Updating"));
    let said = status(&[]).unwrap_err();
    assert!(said.contains(&format!("PlacementPolicy {}/bridges", server.namespace)), "{said}");
    let said = status(&["--context", "nowhere"]).unwrap_err();
    let mut there = vec!["here".to_owned(), "there".to_owned()];
    server.kubeconfig_but(|config| there.push(config["contexts"][0]["name"].as_str().unwrap().to_owned()));
    there.sort_unstable();
    let expected = format!(
        "error: reading the kubeconfig: no context is called nowhere; there are: {}\n",
        there.join(", ")
    );
    assert_eq!(said, expected);
}

#[test]
fn api_plan_reads_the_standard_input_and_shows_a_table() {
    let mut bridges = policy("1");
    bridges["metadata"].as_object_mut().unwrap().remove("namespace");
    let mut ready = version("1", "1");
    ready["metadata"].as_object_mut().unwrap().remove("namespace");
    let objects = [cluster("bridge-a", "True"), cluster("bridge-b", "False"), ready, bridges];
    let documents = objects.map(|object| serde_yaml::to_string(&object).unwrap()).join("---\n");
    let plan = |more: &[&str]| {
        let mut command = nave();
        command.args(["plan", "-f", "-", "--at", "2026-11-24T12:00:00Z"]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        process.stdin.take().unwrap().write_all(documents.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let document: Value = serde_json::from_str(&plan(&["-n", "bridges-ns", "-o", "json"])).unwrap();
    assert_eq!(document["policies"]["bridges-ns/bridges"]["tell"], json!(["bridge-a"]));
    let table = plan(&["-n", "bridges-ns"]);
    for part in [
        "bridges-ns/bridges: version 1, step 1 of 2: Updating",
        "1 in flight",
        "bridge-a",
        "bridge-b",
        "Connected",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(plan(&[]).contains("default/bridges"), "without a namespace objects are of the default one");
}
