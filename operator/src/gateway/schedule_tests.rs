//! Tests of `schedule`: when what is due, and that it says the same as a look at everything.

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

fn name() -> ClusterName {
    ClusterName::new("a").unwrap()
}

#[test]
fn changes_are_gathered_and_writes_are_spaced() {
    let mut schedule = Schedule::default();
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    schedule.mark(&name(), start);
    schedule.mark(&name(), at(20));
    assert!(schedule.take(at(49)).is_empty());
    assert_eq!(schedule.take(at(50)), [name()]);
    schedule.mark(&name(), at(60));
    assert!(schedule.take(at(200)).is_empty(), "not twice at a time");
    schedule.ended(&name(), Ended::Written, at(210));
    assert_eq!(schedule.take(at(210)), [name()], "what came meanwhile was due already");
    schedule.ended(&name(), Ended::Written, at(220));
    schedule.mark(&name(), at(230));
    assert_eq!(schedule.next(), Some(at(720)), "half a second after the last write");
}

#[test]
fn failures_are_tried_again_ever_later_and_nothing_is_forgotten() {
    let mut schedule = Schedule::default();
    let mut now = Instant::now();
    schedule.mark(&name(), now);
    now += GATHER;
    for wait in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        assert_eq!(schedule.take(now), [name()]);
        schedule.ended(&name(), Ended::Failed, now);
        assert_eq!(schedule.next(), Some(now + Duration::from_millis(wait)));
        now += Duration::from_millis(wait);
    }
    assert!(schedule.has_failures());
    schedule.take(now);
    schedule.ended(&name(), Ended::Unchanged, now);
    assert!(!schedule.has_failures() && schedule.next().is_none());
}

/// What the schedule is to say, found by looking at everything each time.
#[derive(Default)]
struct Plain {
    due: BTreeMap<ClusterName, Instant>,
    written: BTreeMap<ClusterName, Instant>,
    running: BTreeSet<ClusterName>,
}

impl Plain {
    fn mark_at(&mut self, cluster: &ClusterName, at: Instant) {
        let due = self.due.entry(cluster.clone()).or_insert(at);
        *due = (*due).min(at);
    }

    fn waiting(&self) -> impl Iterator<Item = (&ClusterName, &Instant)> {
        self.due.iter().filter(|(name, _)| !self.running.contains(*name))
    }

    fn take(&mut self, now: Instant) -> BTreeSet<ClusterName> {
        let due = self.waiting().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone());
        let due: BTreeSet<_> = due.collect();
        self.due.retain(|name, _| !due.contains(name));
        self.running.extend(due.iter().cloned());
        due
    }
}

/// What happens to one of a few clusters, some time after what happened before.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Mark,
    MarkAt(u64),
    Take,
    Ended(Ended),
    Hurry,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Mark),
        2 => (0..900u64).prop_map(Happens::MarkAt),
        4 => Just(Happens::Take),
        3 => Just(Happens::Ended(Ended::Written)),
        1 => Just(Happens::Ended(Ended::Unchanged)),
        1 => Just(Happens::Hurry),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_says_what_a_look_at_everything_says(
        story in prop::collection::vec((happens(), 0..4usize, 0..200u64), 1..80),
    ) {
        let names = ["a", "b", "c", "d"].map(|name| ClusterName::new(name).unwrap());
        let (mut schedule, mut plain) = (Schedule::default(), Plain::default());
        let mut now = Instant::now();
        for (happens, at, wait) in story {
            now += Duration::from_millis(wait);
            let name = &names[at];
            match happens {
                Happens::Mark => {
                    schedule.mark(name, now);
                    let floor = plain.written.get(name).map_or(now, |at| *at + FLOOR);
                    plain.mark_at(name, floor.max(now + GATHER));
                }
                Happens::MarkAt(wait) => {
                    let at = now + Duration::from_millis(wait);
                    schedule.mark_at(name, at);
                    plain.mark_at(name, at);
                }
                Happens::Take => {
                    let taken = schedule.take(now);
                    prop_assert_eq!(taken.iter().cloned().collect::<BTreeSet<_>>(), plain.take(now));
                }
                Happens::Ended(how) if plain.running.remove(name) => {
                    schedule.ended(name, how, now);
                    if how == Ended::Written {
                        plain.written.insert(name.clone(), now);
                    }
                }
                Happens::Ended(_) => {}
                Happens::Hurry => {
                    schedule.hurry(now);
                    plain.due.values_mut().for_each(|at| *at = (*at).min(now));
                }
            }
            prop_assert_eq!(schedule.next(), plain.waiting().map(|(_, at)| *at).min());
            // It holds what is due or was written a moment ago.
            prop_assert_eq!(&schedule.due, &plain.due);
            prop_assert!(schedule.queue.len() <= names.len());
        }
        now += FLOOR;
        schedule.take(now);
        prop_assert!(schedule.written.is_empty() && schedule.expiring.is_empty());
    }
}
