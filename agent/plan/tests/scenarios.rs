//! What the spoke does, story by story: told, steps taken, rows reported.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.
#![allow(clippy::wildcard_enum_match_arm)]

mod spoke;

use nave_agent_plan::{Action, Kept, Refusal, Step, Watermarks};
use nave_names::{Generation, VersionName};
use spoke::{Outcome, Spoke, entry, prefetch, serve, snapshot};

fn done(_: &Step) -> Outcome {
    Outcome::Done
}

fn probes_fail_of(version: &'static str) -> impl Fn(&Step) -> Outcome {
    move |step| match step {
        Step::Probe { active, .. } if active.version.as_str() == version => Outcome::Fails,
        _ => Outcome::Done,
    }
}

/// A spoke that serves version 1 of `defects`.
fn serving_one() -> Spoke {
    let mut spoke = Spoke::new();
    spoke.tell(&snapshot(1, &[serve("defects", "1")])).unwrap();
    spoke.settle(done);
    spoke.trace.clear();
    spoke
}

#[test]
fn what_was_imported_is_kept_until_it_is_asked_for_and_then_needs_no_pull() {
    let mut spoke = serving_one();
    let brought = spoke::digest("defects", "2");
    spoke.inventory.importing.insert(brought);
    spoke.tell(&snapshot(2, &[serve("defects", "1"), prefetch("defects", "2")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace, [""; 0], "what is being imported is not pulled");
    spoke.tell(&snapshot(3, &[serve("defects", "1")])).unwrap();
    spoke.inventory.importing.clear();
    spoke.inventory.held.insert(brought);
    spoke.inventory.imported.insert(brought);
    spoke.settle(done);
    assert_eq!(spoke.trace, [""; 0], "nobody asks for it yet, and it is not collected");
    spoke.tell(&snapshot(4, &[serve("defects", "2")])).unwrap();
    spoke.inventory.imported.clear();
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Staged"]);
    spoke.settle(done);
    assert_eq!(spoke.trace[..3], ["stage defects 2", "activate defects 2", "probe defects 2"]);
}

#[test]
fn first_version_then_the_next() {
    let mut spoke = Spoke::new();
    spoke.tell(&snapshot(1, &[serve("defects", "1")])).unwrap();
    assert_eq!(spoke.rows(), ["defects 1 Pending"]);
    spoke.settle(done);
    let first = ["pull defects 1 (Serve)", "stage defects 1", "activate defects 1", "probe defects 1"];
    assert_eq!(spoke.trace, first);
    assert_eq!(spoke.rows(), ["defects 1 Serving"]);

    spoke.trace.clear();
    spoke.tell(&snapshot(2, &[serve("defects", "2")])).unwrap();
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Pending"]);
    spoke.settle(done);
    assert_eq!(
        spoke.trace,
        [
            "pull defects 2 (Serve)",
            "stage defects 2",
            "activate defects 2",
            "probe defects 2",
            "retire defects 1",
        ]
    );
    // The version before is kept in the store, to go back to.
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 2 Serving"]);

    spoke.trace.clear();
    spoke.tell(&snapshot(3, &[serve("defects", "1")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace, ["stage defects 1", "activate defects 1", "probe defects 1", "retire defects 2"]);
}

#[test]
fn the_version_before_the_previous_goes_unless_it_is_named() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(2, &[serve("defects", "2")])).unwrap();
    spoke.settle(done);
    let named = VersionName::new("1").unwrap();
    let third = nave_agent_plan::Entry { previous_version: Some(named), ..serve("defects", "3") };
    spoke.tell(&snapshot(3, &[third])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 2 Staged", "defects 3 Serving"]);
    spoke.tell(&snapshot(4, &[serve("defects", "3")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.rows(), ["defects 2 Staged", "defects 3 Serving"]);
}

/// The spoke's store as the shell would see it: ten bytes for each version, needed last in the order of their names.
fn fill_shelf(spoke: &mut Spoke, versions: std::ops::RangeInclusive<u8>) {
    let shelf = &mut spoke.inventory.shelf;
    shelf.versions = versions
        .map(|version| {
            let digest = spoke::digest("defects", &version.to_string());
            let last_needed = jiff::Timestamp::from_second(version.into()).unwrap();
            (digest, Kept { files: [(digest, 10)].into(), last_needed, ..Kept::default() })
        })
        .collect();
    shelf.taken = 10 * shelf.versions.len() as u64;
}

#[test]
fn between_the_watermarks_old_versions_stay_and_above_the_oldest_go_but_never_what_is_needed() {
    let mut spoke = serving_one();
    spoke.inventory.shelf.marks = Watermarks { high: 50, low: 30 };
    for version in 2..=5 {
        spoke.tell(&snapshot(version.into(), &[serve("defects", &version.to_string())])).unwrap();
        spoke.settle(done);
        fill_shelf(&mut spoke, 1..=version);
        spoke.settle(done);
    }
    assert_eq!(spoke.inventory.held.len(), 5, "50 bytes are taken, and 50 may be");
    assert!(!spoke.trace.iter().any(|step| step == "collect"), "{:#?}", spoke.trace);

    let named = VersionName::new("1").unwrap();
    let sixth = nave_agent_plan::Entry { previous_version: Some(named), ..serve("defects", "6") };
    spoke.tell(&snapshot(6, &[sixth, prefetch("defects", "2")])).unwrap();
    spoke.settle(done);
    fill_shelf(&mut spoke, 1..=6);
    spoke.settle(done);
    // 1 is named, 2 asked for, 5 the one before, 6 served: of 3 and 4 both go, and it is still more than the low mark.
    let left: std::collections::BTreeSet<_> =
        ["1", "2", "5", "6"].iter().map(|version| spoke::digest("defects", version)).collect();
    assert_eq!(spoke.inventory.held, left);
    assert_eq!(spoke.plan().steps, [], "it does not go on trying");
}

#[test]
fn a_version_that_does_not_answer_leaves_the_old_one_serving() {
    let mut spoke = serving_one();
    let linked = spoke.linked("defects");
    spoke.tell(&snapshot(2, &[serve("defects", "2")])).unwrap();
    spoke.settle(probes_fail_of("2"));
    assert_eq!(
        spoke.trace,
        [
            "pull defects 2 (Serve)",
            "stage defects 2",
            "activate defects 2",
            "probe defects 2 fails",
            "revert defects",
        ]
    );
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Failed Broken"]);
    assert_eq!(spoke.linked("defects"), linked);

    // Tried again after a wait, which grows, and then no more until something is told.
    let mut tries = 1;
    while let Some(at) = spoke.plan().recheck_at {
        spoke.now = at;
        spoke.settle(probes_fail_of("2"));
        tries += 1;
    }
    assert_eq!(tries, nave_agent_plan::attempts::SWITCH_TRIES);
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Failed Broken"]);
    spoke.tell(&snapshot(3, &[serve("defects", "3")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 3 Serving"]);
}

#[test]
fn a_first_version_that_does_not_answer_leaves_nothing_linked() {
    let mut spoke = Spoke::new();
    spoke.tell(&snapshot(1, &[serve("defects", "1")])).unwrap();
    spoke.settle(probes_fail_of("1"));
    assert_eq!(spoke.linked("defects"), None);
    assert_eq!(spoke.rows(), ["defects 1 Failed Broken"]);
}

#[test]
fn a_prefetch_stands_beside_what_is_served_and_becomes_it() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(2, &[serve("defects", "1"), prefetch("defects", "2")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace, ["pull defects 2 (Prefetch)"]);
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Staged"]);
    spoke.tell(&snapshot(3, &[serve("defects", "2")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 2 Serving"]);
}

#[test]
fn serve_is_pulled_before_prefetch() {
    let mut spoke = Spoke::new();
    spoke.tell(&snapshot(1, &[prefetch("a", "1"), serve("b", "1")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace[0], "pull b 1 (Serve)");
}

#[test]
fn removal_takes_the_model_away_or_keeps_it() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(2, &[])).unwrap();
    assert_eq!(spoke.rows(), ["defects 1 Removing"]);
    spoke.settle(done);
    assert_eq!(spoke.trace, ["remove defects", "collect"]);
    assert!(spoke.rows().is_empty() && spoke.inventory.held.is_empty());

    let mut spoke = serving_one();
    let kept = nave_agent_plan::Entry { keep_on_removal: true, ..serve("defects", "1") };
    spoke.tell(&snapshot(2, &[kept])).unwrap();
    spoke.settle(done);
    spoke.tell(&snapshot(3, &[])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace, ["adopt defects for line"]);
    assert_eq!(spoke.rows(), ["defects 1 Serving"]);
}

#[test]
fn an_unknown_runtime_or_action_is_refused_and_takes_nothing_away() {
    let mut spoke = serving_one();
    let triton = nave_agent_plan::Entry { runtime: "triton".into(), ..serve("defects", "2") };
    spoke.tell(&snapshot(2, &[triton])).unwrap();
    spoke.settle(done);
    assert!(spoke.trace.is_empty(), "{:?}", spoke.trace);
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Rejected RuntimeUnknown"]);

    let newer = entry("line", "defects", "2", Action::Unknown(7));
    spoke.tell(&snapshot(3, &[newer])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Rejected ActionUnknown"]);
}

fn signed(model: &str, version: &str) -> nave_agent_plan::Entry {
    nave_agent_plan::Entry { signature_public_key: "PEM".into(), ..serve(model, version) }
}

#[test]
fn a_signature_is_checked_before_anything_of_a_version_is_touched() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(2, &[signed("defects", "2")])).unwrap();
    spoke.settle(done);
    let steps = ["verify", "pull", "stage", "activate", "probe", "retire"];
    let began = spoke.trace.iter().zip(steps).all(|(step, word)| step.starts_with(word));
    assert!(began, "{:?}", spoke.trace);
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 2 Serving"]);

    // A start checks again, and disturbs nothing.
    spoke.restart();
    spoke.trace.clear();
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 2 Serving"]);
    spoke.settle(done);
    assert_eq!(spoke.trace, ["verify defects 2"]);
}

#[test]
fn what_is_not_rightly_signed_is_rejected_and_what_is_served_stays() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(2, &[signed("defects", "2")])).unwrap();
    let fails = |step: &Step| match step {
        Step::Verify { .. } => Outcome::Fails,
        _ => Outcome::Done,
    };
    spoke.settle(fails);
    assert_eq!(spoke.trace, ["verify defects 2 fails"]);
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Rejected Broken"]);
    // It is looked at again, for its publisher may sign it.
    spoke.wait(600);
    spoke.settle(done);
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 2 Serving"]);
}

#[test]
fn weights_that_are_held_already_wait_for_their_signature_too() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(2, &[serve("defects", "1"), prefetch("defects", "2")])).unwrap();
    spoke.settle(done);
    spoke.trace.clear();
    spoke.tell(&snapshot(3, &[signed("defects", "2")])).unwrap();
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Verifying"]);
    let only_verify = |step: &Step| match step {
        Step::Verify { .. } => Outcome::Fails,
        _ => Outcome::Done,
    };
    spoke.settle(only_verify);
    assert_eq!(spoke.trace, ["verify defects 2 fails"]);
    assert_eq!(spoke.linked("defects").unwrap()[..2], *"1-");
}

#[test]
fn one_policys_signature_is_not_anothers() {
    let mut spoke = Spoke::new();
    let mut other = signed("defects", "1");
    other.key.policy = nave_names::PolicyName::new("other").unwrap();
    other.signature_public_key = "another PEM".into();
    spoke.tell(&snapshot(1, &[other, signed("signs", "1")])).unwrap();
    let steps = spoke.plan().steps;
    assert!(steps.len() == 2 && steps.iter().all(|step| matches!(step, Step::Verify { .. })), "{steps:?}");
}

#[test]
fn of_two_policies_that_serve_one_model_the_one_that_is_served_stays() {
    let mut spoke = serving_one();
    let other = entry("another", "defects", "9", Action::Serve);
    spoke.tell(&snapshot(2, &[serve("defects", "1"), other])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 9 Rejected ModelTaken"]);
}

#[test]
fn the_same_version_for_another_policy_is_only_written_down() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(2, &[entry("other", "defects", "1", Action::Serve)])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace, ["adopt defects for other"]);
}

#[test]
fn told_something_else_while_switching_goes_back_first() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(2, &[serve("defects", "2")])).unwrap();
    for _ in 0..3 {
        let step = spoke.plan().steps.remove(0);
        spoke.take(&step, Outcome::Done);
    }
    spoke.tell(&snapshot(3, &[serve("defects", "1")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace[2..], ["activate defects 2", "revert defects", "retire defects 2", "collect"]);
    assert_eq!(spoke.rows(), ["defects 1 Serving"]);
}

#[test]
fn a_lost_ledger_drops_nothing() {
    let mut spoke = serving_one();
    spoke.ledger = Default::default();
    spoke.restart();
    spoke.trace.clear();
    spoke.settle(done);
    assert!(spoke.trace.is_empty(), "{:?}", spoke.trace);
    assert_eq!(spoke.rows(), ["defects 1 Serving"]);
}

#[test]
fn a_damaged_folder_is_said_and_laid_out_anew() {
    let mut spoke = serving_one();
    let model = spoke.inventory.models.values_mut().next().unwrap();
    for right in model.folders.values_mut() {
        *right = false;
    }
    assert_eq!(spoke.rows(), ["defects 1 Staged"]);
    spoke.settle(done);
    assert_eq!(spoke.trace, ["stage defects 1"]);
    assert_eq!(spoke.rows(), ["defects 1 Serving"]);
}

#[test]
fn a_pull_that_nobody_asks_for_any_more_is_stopped() {
    let mut spoke = Spoke::new();
    spoke.tell(&snapshot(1, &[serve("defects", "1")])).unwrap();
    spoke.inventory.running.insert(nave_agent_plan::Job::Pull(spoke::digest("defects", "1")));
    assert!(spoke.plan().steps.is_empty());
    assert_eq!(spoke.rows(), ["defects 1 Pulling"]);
    spoke.tell(&snapshot(2, &[])).unwrap();
    assert!(matches!(spoke.plan().steps[..], [Step::CancelPull { .. }]));
}

#[test]
fn generations_that_do_not_follow_are_refused_by_name() {
    let mut spoke = serving_one();
    spoke.tell(&snapshot(5, &[serve("defects", "2")])).unwrap();
    let held = spoke.ledger.clone();
    let mut delta = snapshot(6, &[serve("defects", "3")]);
    delta.base = Some(Generation(4));
    let refused = |result: Result<(), Refusal>| result.unwrap_err().reason();
    assert_eq!(refused(spoke.tell(&snapshot(4, &[]))), "StaleGeneration");
    assert_eq!(refused(spoke.tell(&snapshot(5, &[]))), "ConflictingContent");
    assert_eq!(refused(spoke.tell(&delta)), "WrongBase");
    assert_eq!(refused(spoke.tell(&snapshot(0, &[]))), "Malformed");
    let twice = snapshot(6, &[serve("defects", "3"), serve("defects", "3")]);
    assert_eq!(refused(spoke.tell(&twice)), "Malformed");
    assert_eq!(spoke.ledger, held);

    assert_eq!(spoke.tell(&snapshot(5, &[serve("defects", "2")])), Ok(()));
    delta.base = Some(Generation(5));
    delta.removed = vec![serve("defects", "2").key];
    spoke.tell(&delta).unwrap();
    assert_eq!(spoke.ledger.entries(), [serve("defects", "3")]);
}
