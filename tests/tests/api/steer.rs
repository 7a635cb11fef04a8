//! What `kubectl nave rollout approve` and `undo` refuse: a step of another run, and a version that nobody would be told.

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use nave_crds::PlacementPolicy;
use serde_json::{Value, json};

use crate::{
    cli::{make_new_policy, make_policy, make_version, run_in},
    server::{Server, nave, run},
};

async fn patch(policies: &Api<PlacementPolicy>, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    policies.patch("bridges", &PatchParams::default(), &patch).await.unwrap();
}

async fn approved(policies: &Api<PlacementPolicy>) -> Option<String> {
    policies.get("bridges").await.unwrap().annotations().get("nave.dev/approve").cloned()
}

#[tokio::test]
async fn api_a_step_of_an_older_generation_is_not_approved_for_the_present_one() {
    let server = Server::start().await;
    let policies = make_policy(&server, run_in("Rolling", "AwaitingApproval")).await;
    let approve = |more: &[&str]| {
        server.nave(&[&["rollout", "approve", "bridges", "-n", &server.namespace][..], more].concat())
    };
    patch(&policies, json!({"model": {"name": "defects", "version": "3"}})).await;
    let said = approve(&[]).unwrap_err();
    let expected = format!(
        "PlacementPolicy {}/bridges: the hub has not looked at its latest change yet: name the step with --step",
        server.namespace
    );
    assert!(said.contains(&expected), "{said}");
    assert_eq!(approved(&policies).await, None);
    approve(&["--step", "1"]).unwrap();
    assert_eq!(approved(&policies).await.as_deref(), Some("1/2"));
}

#[tokio::test]
async fn api_steps_are_counted_as_the_present_spec_has_them() {
    let server = Server::start().await;
    let policies = make_new_policy(&server).await;
    let approve =
        |step: &str| server.nave(&["rollout", "approve", "bridges", "-n", &server.namespace, "--step", step]);
    let named = format!("PlacementPolicy {}/bridges", server.namespace);
    let said = approve("3").unwrap_err();
    assert!(said.contains(&format!("{named} has no step 3: it has 2")), "without a status: {said}");
    assert_eq!(approved(&policies).await, None);
    approve("2").unwrap();

    let stale = make_status(&policies).await;
    assert_eq!(stale, json!({"index": 1, "of": 2, "state": "AwaitingApproval"}));
    let steps = json!([{"clusters": 1}, {"clusters": "50%"}, {"clusters": 3}, {"clusters": "100%"}]);
    patch(&policies, json!({"rollout": {"steps": steps}})).await;
    approve("4").unwrap();
    assert_eq!(approved(&policies).await.as_deref(), Some("4/2"));
    let said = approve("5").unwrap_err();
    assert!(said.contains(&format!("{named} has no step 5: it has 4")), "{said}");
    patch(&policies, json!({"rollout": {"steps": null}})).await;
    let said = approve("2").unwrap_err();
    assert!(said.contains(&format!("{named} has no step 2: it has 1")), "{said}");
}

/// The step that the status tells of from now on.
async fn make_status(policies: &Api<PlacementPolicy>) -> Value {
    crate::cli::set_status(policies, run_in("Rolling", "AwaitingApproval")).await;
    let status = policies.get("bridges").await.unwrap().status.unwrap();
    serde_json::to_value(status.step).unwrap()
}

#[tokio::test]
async fn api_an_undo_goes_to_a_version_that_can_be_told() {
    let server = Server::start().await;
    let policies = make_policy(&server, run_in("Rolling", "Updating")).await;
    let namespace = server.namespace.as_str();
    let undo =
        |more: &[&str]| server.nave(&[&["rollout", "undo", "bridges", "-n", namespace][..], more].concat());
    let cannot = |version: &str, why: &str| {
        format!("PlacementPolicy {namespace}/bridges cannot go back to version {version}: {why}")
    };
    let missing = |version: &str| {
        cannot(version, &format!("no ModelVersion in {namespace} is version {version} of model defects"))
    };
    for (arguments, version) in [(&["--to-version", "0"][..], "0"), (&[], "1")] {
        let said = undo(arguments).unwrap_err();
        assert!(said.contains(&missing(version)), "{said}");
    }

    let versions = make_version(&server, "zero", "0").await;
    make_version(&server, "one", "1").await;
    for name in ["zero", "one"] {
        let withdrawn = Patch::Merge(json!({"spec": {"withdrawn": true}}));
        versions.patch(name, &PatchParams::default(), &withdrawn).await.unwrap();
    }
    for (arguments, version, name) in [(&["--to-version", "0"][..], "0", "zero"), (&[], "1", "one")] {
        let said = undo(arguments).unwrap_err();
        assert!(said.contains(&cannot(version, &format!("ModelVersion {name} is withdrawn"))), "{said}");
    }
    assert_eq!(policies.get("bridges").await.unwrap().spec.model.version, "2");

    versions.delete("one", &DeleteParams::default()).await.unwrap();
    make_version(&server, "one-again", "1").await;
    undo(&[]).unwrap();
    assert_eq!(policies.get("bridges").await.unwrap().spec.model.version, "1");
}

#[tokio::test]
async fn api_an_undo_by_somebody_who_may_not_read_versions_says_so() {
    let server = Server::start().await;
    let policies = make_policy(&server, run_in("Rolling", "Updating")).await;
    let namespace = server.namespace.as_str();
    make_version(&server, "one", "1").await;
    let rules =
        json!([{"apiGroups": ["nave.dev"], "resources": ["placementpolicies"], "verbs": ["get", "patch"]}]);
    let kubeconfig = server.kubeconfig_of("steersman", rules).await;
    let arguments = ["rollout", "undo", "bridges", "-n", namespace];
    let said = run(nave().args(arguments).env("KUBECONFIG", kubeconfig.path())).unwrap_err();
    let expected = format!(
        "error: PlacementPolicy {namespace}/bridges cannot go back to version 1: listing ModelVersions: \
         modelversions.nave.dev is forbidden: User \"steersman\" cannot list resource"
    );
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(policies.get("bridges").await.unwrap().spec.model.version, "2");
}

#[tokio::test]
async fn api_a_budget_that_another_version_used_up_is_not_lifted_for_this_one() {
    let server = Server::start().await;
    let mut stopped = run_in("Rolling", "FailureBudget");
    stopped["conditions"] = json!([{"type": "Degraded", "status": "True", "reason": "FailureBudget", "message": "",
                                    "lastTransitionTime": "2026-11-24T12:00:00Z"}]);
    let policies = make_policy(&server, stopped).await;
    let resume = || server.nave(&["rollout", "resume", "bridges", "-n", &server.namespace]);
    let resumed =
        async || policies.get("bridges").await.unwrap().annotations().get("nave.dev/resume").cloned();

    patch(&policies, json!({"model": {"name": "defects", "version": "3"}})).await;
    let said = resume().unwrap_err();
    assert!(said.contains("bridges is neither paused nor stopped by its failure budget"), "{said}");
    patch(&policies, json!({"rollout": {"paused": true}})).await;
    resume().unwrap();
    assert!(!policies.get("bridges").await.unwrap().spec.rollout.paused);
    assert_eq!(resumed().await, None);

    patch(&policies, json!({"model": {"name": "defects", "version": "2"}})).await;
    resume().unwrap();
    assert_eq!(resumed().await.as_deref(), Some("5"));
}
