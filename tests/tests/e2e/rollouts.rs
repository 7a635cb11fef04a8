//! Rollouts on six real agents: a canary that fails, an approval, a site that is away, a hub that dies twice.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nave_crds::{PlacementPolicyStatus, RolloutPhase, StepState, WaitRule, view::conditions};
use serde_json::json;

use crate::six::{SITES, Six};

/// Longer than the writes that follow a switch take (counts are written once a second): when a soak ends, nothing happens
/// in the fleet, and only the time that the plan named moves the rollout.
const SOAK: &str = "8s";
/// Long enough for a hub that told too much to have told it.
const TOO_MUCH: Duration = Duration::from_secs(3);

fn condition(status: &PlacementPolicyStatus, kind: &str) -> (String, String) {
    let found = conditions::find(&status.conditions, kind);
    found.map(|found| (found.status.clone(), found.reason.clone())).unwrap_or_default()
}

fn says(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn e2e_rollout_canary_rolls_back_and_an_approval_is_waited_for() -> Result<()> {
    let six = Six::start().await?;
    tokio::try_join!(canary_that_fails(&six), approval(&six)).map(drop)
}

/// The canary passes its soak by time alone; the next version's canary fails its health URL, goes back, and is the only one
/// that ever saw that version.
async fn canary_that_fails(six: &Six) -> Result<()> {
    let model = "cracks";
    let [first, bad, good] = [
        six.publish(model, "1.0.0").await?,
        six.publish(model, "2.0.0").await?,
        six.publish(model, "2.0.1").await?,
    ];
    let rollout = json!({
        "steps": [{"clusters": 1, "soak": SOAK}, {"clusters": "100%"}],
        "maxFailures": 0,
        "onFailure": "Rollback",
    });
    six.roll_out(model, &first, &rollout).await?;
    six.wait_state(model, StepState::Soaking).await?;
    assert_eq!(six.told(model, &first)?, SITES[..1], "the canary alone before its soak is over");
    six.wait_serving(&SITES, model, &first).await?;
    six.wait_state(model, StepState::Complete).await?;

    six.runtime.break_version(SITES[0], bad.name);
    six.roll_out(model, &bad, &rollout).await?;
    let status = six.wait_state(model, StepState::RolledBack).await?;
    assert_eq!(condition(&status, conditions::DEGRADED), says("True", "RolledBack"));
    assert_eq!(status.run.as_ref().map(|run| run.phase), Some(RolloutPhase::RolledBack));
    let why = conditions::find(&status.conditions, conditions::DEGRADED).map(|degraded| &*degraded.message);
    let because =
        why.and_then(|why| why.split_once("was rolled back: 1 cluster failed, 0 may: site-0: Failed: "));
    assert!(because.is_some_and(|(_, said)| !said.is_empty()), "it says which site failed, and why: {why:?}");
    six.wait_serving(&SITES, model, &first).await?;
    tokio::time::sleep(TOO_MUCH).await;
    assert_eq!(six.told(model, &bad)?, SITES[..1], "nobody but the canary was told the version that failed");
    for site in &SITES[1..] {
        assert_eq!(six.activations(site, model, &first)?, 1, "{site} had no part in it");
    }

    six.roll_out(model, &good, &rollout).await?;
    six.wait_serving(&SITES, model, &good).await?;
    let status = six.wait_state(model, StepState::Complete).await?;
    assert_eq!(condition(&status, conditions::DEGRADED), says("False", "None"));
    assert_eq!(condition(&status, conditions::AVAILABLE), says("True", "AllServing"));
    let rolled_out = ["RolloutStarted", "AllServing", "RolloutComplete"];
    let rolled_back = ["RolloutStarted", "FailureBudgetUsedUp", "RollingBack", "RolledBack"];
    let expected: Vec<_> = [&rolled_out[..], &rolled_back[..], &rolled_out[..]].concat();
    six.wait_events(model, &expected).await?;
    let started = ["1.0.0", "2.0.0", "2.0.1"].map(|version| format!("rolling out {model} {version}"));
    assert_eq!(six.notes(model, "RolloutStarted").await?, started, "an Event for each of them");
    Ok(())
}

async fn approval(six: &Six) -> Result<()> {
    let model = "rust";
    let version = six.publish(model, "1.0.0").await?;
    let rollout = json!({"steps": [{"clusters": 2, "approval": true}, {"clusters": "100%"}]});
    six.roll_out(model, &version, &rollout).await?;
    let status = six.wait_state(model, StepState::AwaitingApproval).await?;
    assert!(status.waiting_on.iter().any(|waits| waits.rule == WaitRule::Approval), "{status:?}");
    tokio::time::sleep(TOO_MUCH).await;
    assert_eq!(six.told(model, &version)?, SITES[..2], "nobody else without it");
    six.stack.kubectl.run(&["nave", "rollout", "approve", model]).await?;
    six.wait_serving(&SITES, model, &version).await?;
    six.wait_state(model, StepState::Complete).await?;
    // One for each transition, none for waiting.
    six.wait_events(model, &["RolloutStarted", "AwaitingApproval", "RolloutComplete", "AllServing"]).await
}

#[tokio::test]
async fn e2e_rollout_defers_a_site_that_is_away_and_goes_on_over_a_hub_that_dies() -> Result<()> {
    let mut six = Six::start().await?;
    site_that_is_away(&mut six).await?;
    hub_that_dies(&mut six).await?;
    hub_that_dies_in_a_rollback(&mut six).await
}

/// The site whose turn would be first is away: it holds nobody up, fails nothing, and catches up.
async fn site_that_is_away(six: &mut Six) -> Result<()> {
    let model = "cracks";
    let [first, second] = [six.publish(model, "1.0.0").await?, six.publish(model, "1.1.0").await?];
    let rollout = json!({"steps": [{"clusters": 1, "soak": "1s"}, {"clusters": "100%"}], "maxConcurrent": 2});
    six.roll_out(model, &first, &rollout).await?;
    six.wait_serving(&SITES, model, &first).await?;

    let (away, others) = (SITES[0], &SITES[1..]);
    six.spokes.get_mut(away).context("the first site")?.stop().await?;
    six.stack.wait_connected(away, false).await?;
    six.roll_out(model, &second, &rollout).await?;
    six.wait_serving(others, model, &second).await?;
    let status = six.wait_state(model, StepState::Complete).await?;
    let counts = status.clusters.unwrap_or_default();
    assert_eq!((counts.selected, counts.serving, counts.deferred, counts.failed), (6, 5, 1, 0));
    assert_eq!(condition(&status, conditions::AVAILABLE), says("Unknown", "Deferred"));
    assert_eq!(condition(&status, conditions::DEGRADED), says("False", "None"));
    assert_eq!(six.served(away, model)?, first.weights, "it keeps what it has");

    six.spokes.get_mut(away).context("the first site")?.restart()?;
    six.wait_serving(&[away], model, &second).await?;
    six.wait_status(model, "to have all of them", |status| {
        condition(status, conditions::AVAILABLE) == says("True", "AllServing")
    })
    .await
    .map(drop)
}

/// The hub is killed while the canary soaks and again between two switches. It goes on where it was: same run, same soak,
/// nobody switched twice, one at a time.
async fn hub_that_dies(six: &mut Six) -> Result<()> {
    let model = "rust";
    let [first, second] = [six.publish(model, "1.0.0").await?, six.publish(model, "1.1.0").await?];
    let rollout = json!({"steps": [{"clusters": 1, "soak": SOAK}, {"clusters": "100%"}], "maxConcurrent": 1});
    six.roll_out(model, &first, &json!({})).await?;
    six.wait_serving(&SITES, model, &first).await?;

    six.roll_out(model, &second, &rollout).await?;
    let before = six.wait_state(model, StepState::Soaking).await?;
    let canary = six.stack.reported(SITES[0], model).await?;
    six.stack.hub.kill();
    assert_eq!(six.told(model, &second)?, SITES[..1]);
    six.stack.hub.restart().await?;
    six.wait_serving(&SITES[..2], model, &second).await?;
    six.stack.hub.kill();
    let at_death = six.told(model, &second)?.len();
    assert!(at_death < SITES.len(), "it died too late to show anything");
    six.stack.hub.restart().await?;
    six.wait_serving(&SITES, model, &second).await?;
    let after = six.wait_state(model, StepState::Complete).await?;

    let run = |status: &PlacementPolicyStatus| status.run.clone().map(|run| (run.target, run.started_at));
    assert_eq!(run(&before), run(&after), "the same run");
    let since = |rows: &[serde_json::Value]| {
        rows.iter().find(|row| row["version"] == second.name).map(|row| row["since"].clone())
    };
    assert_eq!(
        since(&canary),
        since(&six.stack.reported(SITES[0], model).await?),
        "its soak did not begin anew"
    );
    let mut told_at = Vec::new();
    for site in SITES {
        assert_eq!(six.activations(site, model, &second)?, 1, "{site} was switched once");
        let assignment = six.stack.kubectl.json(&["get", "clusterassignment", site]).await?;
        let entries = assignment["spec"]["entries"].as_array().cloned().unwrap_or_default();
        let entry = entries.into_iter().find(|entry| entry["model"] == model).context("no entry")?;
        told_at.push(entry["toldAt"].as_str().context("no toldAt")?.to_owned());
    }
    assert!(told_at.is_sorted(), "one after the other, in order: {told_at:?}");
    Ok(())
}

/// The third site fails, and the second takes its time to go back, when the hub is killed. It brings back those that are left,
/// knows why, and the others have no part in it.
async fn hub_that_dies_in_a_rollback(six: &mut Six) -> Result<()> {
    let model = "paint";
    let [first, second] = [six.publish(model, "3.0.0").await?, six.publish(model, "3.1.0").await?];
    six.roll_out(model, &first, &json!({})).await?;
    six.wait_serving(&SITES, model, &first).await?;

    six.runtime.break_version(SITES[2], second.name);
    six.runtime.break_version(SITES[1], first.name);
    six.roll_out(model, &second, &json!({"maxConcurrent": 1, "onFailure": "Rollback"})).await?;
    let phase = |status: &PlacementPolicyStatus| status.run.as_ref().map(|run| run.phase);
    let turned = six
        .wait_status(model, "to turn back", |status| phase(status) == Some(RolloutPhase::RollingBack))
        .await?;
    six.stack.hub.kill();
    six.runtime.mend_version(SITES[1], first.name);
    assert_eq!(six.activations(SITES[0], model, &first)?, 1, "it died too late to show anything");
    six.stack.hub.restart().await?;

    let back = six.wait_state(model, StepState::RolledBack).await?;
    six.wait_serving(&SITES, model, &first).await?;
    let started = |status: &PlacementPolicyStatus| status.run.clone().map(|run| run.started_at);
    assert_eq!(started(&turned), started(&back), "the same run");
    assert_eq!(six.told(model, &second)?, SITES[..3], "nobody was told after it failed");
    for site in &SITES[3..] {
        assert_eq!(six.activations(site, model, &first)?, 1, "{site} had no part in it");
    }
    let why = conditions::find(&back.conditions, conditions::DEGRADED).map(|degraded| &*degraded.message);
    assert!(why.is_some_and(|why| why.contains("1 cluster failed, 0 may: site-2: Failed: ")), "{why:?}");
    Ok(())
}
