//! What the spoke of a site with two tiers does, story by story: what moves, when, and what is said where it cannot.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.
#![allow(clippy::wildcard_enum_match_arm)]

mod spoke;

use nave_agent_plan::{ColdShelf, Job, Step, Watermarks};
use spoke::{Outcome, Spoke, prefetch, serve, snapshot};

fn done(_: &Step) -> Outcome {
    Outcome::Done
}

/// A spoke with a cold tier for so many bytes, in which every version takes 10; it serves version 1.
fn with_cold_tier(most: u64) -> Spoke {
    let mut spoke = Spoke::new();
    let marks = Watermarks { high: u64::MAX, low: u64::MAX };
    spoke.inventory.shelf.cold = Some(ColdShelf { taken: 0, most, marks });
    spoke.tell(&snapshot(1, &[serve("defects", "1")])).unwrap();
    spoke.settle(done);
    spoke.trace.clear();
    spoke
}

#[test]
fn what_is_not_served_any_more_goes_to_the_cold_tier_and_comes_back_before_it_is() {
    let mut spoke = with_cold_tier(1_000);
    spoke.tell(&snapshot(2, &[serve("defects", "2")])).unwrap();
    spoke.settle(done);
    let switch = ["pull defects 2 (Serve)", "stage defects 2", "activate defects 2", "probe defects 2"];
    assert_eq!(spoke.trace[..4], switch);
    assert_eq!(spoke.trace[4..], ["retire defects 1", "demote"], "not while a folder has the same files");
    spoke.trace.clear();
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 2 Serving"]);

    spoke.tell(&snapshot(3, &[serve("defects", "1")])).unwrap();
    // On its way nobody lays it out.
    for job in [Job::Promote, Job::Demote] {
        spoke.inventory.running = [job(spoke::digest("defects", "1"))].into();
        assert_eq!(spoke.plan().steps, []);
    }
    spoke.inventory.running.clear();
    spoke.settle(done);
    let back = ["promote", "stage defects 1", "activate defects 1", "probe defects 1"];
    assert_eq!(spoke.trace[..4], back);
    assert_eq!(spoke.trace[4..], ["retire defects 2", "demote"]);
}

#[test]
fn a_prefetched_version_is_brought_to_the_hot_tier_and_stays_there() {
    let mut spoke = with_cold_tier(1_000);
    spoke.tell(&snapshot(2, &[serve("defects", "2")])).unwrap();
    spoke.settle(done);
    spoke.trace.clear();
    spoke.tell(&snapshot(3, &[serve("defects", "2"), prefetch("defects", "1")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace, ["promote"]);
}

#[test]
fn a_move_gives_way_to_what_is_needed_sooner_and_to_nothing_else() {
    let mut spoke = with_cold_tier(1_000);
    spoke.tell(&snapshot(2, &[serve("defects", "2"), serve("bolts", "1")])).unwrap();
    spoke.settle(done);
    spoke.tell(&snapshot(3, &[serve("defects", "2"), serve("bolts", "2")])).unwrap();
    spoke.settle(done);
    // Version 1 of both is cold; versions 2 serve.
    let [old, bolt, new] =
        [("defects", "1"), ("bolts", "1"), ("defects", "2")].map(|(m, v)| spoke::digest(m, v));
    let gives_way = |spoke: &mut Spoke, generation, entries: &[_], job| {
        spoke.tell(&snapshot(generation, entries)).unwrap();
        spoke.inventory.running = [job].into();
        spoke.plan().gives_way
    };
    let [two, bolts_two] = [serve("defects", "2"), serve("bolts", "2")];
    let both = [two.clone(), bolts_two.clone()];
    let prefetched = [two.clone(), bolts_two.clone(), prefetch("bolts", "1")];
    let two_prefetched = [two.clone(), bolts_two, prefetch("bolts", "1"), prefetch("defects", "1")];
    let served = [two, serve("bolts", "1")];
    let served_and_prefetched = [prefetch("defects", "1"), serve("defects", "2"), serve("bolts", "1")];
    for (generation, (entries, job, expected)) in (4..).zip([
        (&both[..], Job::Demote(old), false),
        (&prefetched, Job::Demote(old), true),
        (&served, Job::Demote(old), true),
        (&prefetched, Job::Promote(bolt), false),
        (&two_prefetched, Job::Promote(bolt), false),
        (&served, Job::Promote(bolt), false),
        (&served_and_prefetched, Job::Promote(old), true),
        (&served_and_prefetched, Job::Promote(bolt), false),
        (&both, Job::Promote(bolt), true),
        (&served, Job::Pull(new), false),
    ]) {
        assert_eq!(
            gives_way(&mut spoke, generation, entries, job.clone()),
            expected,
            "{generation}: {job:?}"
        );
    }
    spoke.inventory.running.clear();
    assert!(!spoke.plan().gives_way);
}

#[test]
fn a_promotion_that_fails_is_said_and_tried_again() {
    let mut spoke = with_cold_tier(1_000);
    spoke.tell(&snapshot(2, &[serve("defects", "2")])).unwrap();
    spoke.settle(done);
    spoke.tell(&snapshot(3, &[serve("defects", "1")])).unwrap();
    let mut tries = 0;
    spoke.settle(|step| match step {
        Step::Promote { .. } if tries == 0 => {
            tries += 1;
            Outcome::Fails
        }
        _ => Outcome::Done,
    });
    assert_eq!(spoke.rows(), ["defects 1 Failed Broken", "defects 2 Serving"]);
    spoke.wait(10);
    spoke.settle(done);
    assert_eq!(spoke.rows(), ["defects 1 Serving", "defects 2 Staged"]);
}

#[test]
fn a_cold_tier_without_room_is_said_and_what_is_kept_stays_hot() {
    let mut spoke = with_cold_tier(9);
    spoke.tell(&snapshot(2, &[serve("defects", "2")])).unwrap();
    spoke.settle(done);
    assert_eq!(spoke.trace.last().unwrap(), "retire defects 1");
    let blocked = spoke.plan().blocked.unwrap();
    assert_eq!((blocked.bytes, blocked.free), (10, 9));
    assert_eq!(spoke.rows(), ["defects 1 Staged", "defects 2 Serving"]);
}
