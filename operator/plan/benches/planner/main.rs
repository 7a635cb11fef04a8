//! What planning costs: from scratch, and after one change at fleets of 100 to 100,000 clusters. `make bench ARGS=planner`
//! prints the table; one core, no I/O. Nothing here asserts.

#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stdout, clippy::cast_possible_truncation)]

mod fleet;
mod table;

use std::{collections::BTreeSet, hint::black_box, path::Path, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion};
use fleet::Kind;
use nave_crds::{Action, Phase};
use nave_operator_plan::{Planner, VersionKey, World};

/// Whole fleets at once.
fn from_scratch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scratch, 10,000 clusters, 100 policies");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    let cases: [(&str, Fleet, Kind); 6] = [
        ("placing each on a region of 1,000", fleet::unplaced, Kind::Region),
        ("placing each on all 10,000", fleet::unplaced, Kind::Everywhere),
        ("placing each on the best 100", fleet::unplaced, Kind::Hundred),
        ("placing each on the best 100 that are left, all of one model", fleet::unplaced, Kind::Rivals),
        ("a hub starts, 100,000 entries", fleet::settled, Kind::Region),
        ("a hub starts, 1,000,000 entries", fleet::settled, Kind::Everywhere),
    ];
    for (what, make, kind) in cases {
        let mut world = None;
        group.bench_function(what, |bencher| {
            let world = world.get_or_insert_with(|| make(10_000, 100, kind));
            bencher.iter_with_large_drop(|| {
                let mut planner = Planner::new(black_box(world));
                let decisions = planner.decide(fleet::start());
                (planner, decisions)
            });
        });
    }
    group.finish();
}

/// Makes so many clusters and policies of a kind.
type Fleet = fn(usize, usize, Kind) -> World;

/// One cluster changes, at fleets of four sizes, whose rollouts are complete but where the name says otherwise.
fn one_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one change");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let kinds = [
        (4, Kind::Everywhere, "for all"),
        (4, Kind::UnderWay, "that wait for an approval"),
        (4, Kind::InTurn, "with a tenth in flight"),
        (4, Kind::Back, "with a tenth on its way back"),
        (4, Kind::Hundred, "for the best 100"),
        (4, Kind::Canary, "for the best 100, ten told"),
        (4, Kind::Roomiest, "for the 100 with the most room"),
        (4, Kind::Movable, "for the 100 with the most room, Steady"),
        (4, Kind::Ranked, "for all, those with the most room first"),
        (4, Kind::Spread, "for the 100 with the most room, spread"),
        (4, Kind::Untold, "for the 100 with the most room, spread, none told"),
        (4, Kind::SpreadMovable, "for the 100 with the most room, spread, Steady"),
        (10, Kind::Neighbours, "of one model, each for a region"),
        (5, Kind::Rivals, "of one model, each for 100 of those that are left"),
    ];
    let sizes = [100, 1_000, 10_000, 100_000];
    let cases = kinds.into_iter().flat_map(|kind| sizes.map(|clusters| (clusters, kind)));
    for (clusters, (policies, kind, whom)) in cases.chain([(10_000, (100, Kind::Everywhere, "for all"))]) {
        let mut settled = None;
        let changes = [
            Happening::Reports,
            Happening::GoesOrComes,
            Happening::RoomGoesOrComes,
            // Before one that is chosen leaves: who takes its place is not stored here.
            Happening::BystanderLeavesOrJoins,
            Happening::LeavesOrJoins,
            Happening::IsCounted,
            Happening::VersionComesOrGoes,
        ];
        // Where everybody is chosen there is no bystander; and versions are the same to all kinds.
        let some_wait = clusters > 100 && kind.is_of_the_best();
        let there = |change: &Happening| match change {
            Happening::RoomGoesOrComes => kind.is_by_room(),
            Happening::Reports => kind != Kind::Untold,
            Happening::BystanderLeavesOrJoins => some_wait,
            Happening::IsCounted | Happening::VersionComesOrGoes => kind == Kind::Everywhere,
            Happening::GoesOrComes | Happening::LeavesOrJoins => true,
        };
        let changes = changes.into_iter().filter(there);
        for change in changes {
            let size = format!("{clusters} clusters, {policies} policies {whom}");
            group.bench_function(BenchmarkId::new(change.words(), size), |bencher| {
                let Settled { planner, world, chosen, told, bystander, turn } =
                    settled.get_or_insert_with(|| Settled::new(clusters, policies, kind));
                let number = match change {
                    Happening::BystanderLeavesOrJoins | Happening::RoomGoesOrComes => *bystander,
                    Happening::Reports => *told,
                    Happening::GoesOrComes
                    | Happening::LeavesOrJoins
                    | Happening::IsCounted
                    | Happening::VersionComesOrGoes => *chosen,
                };
                let now = fleet::start() + jiff::SignedDuration::from_hours(1);
                let changes = change.both(world, number);
                bencher.iter(|| {
                    *turn += 1;
                    (changes[*turn % 2])(planner);
                    black_box(planner.decide(now))
                });
            });
        }
    }
    group.finish();
}

/// A planner that has decided everything about a fleet, and one of the clusters that policies chose, one that they told,
/// and one that they did not choose.
struct Settled {
    planner: Planner,
    world: World,
    chosen: usize,
    told: usize,
    bystander: usize,
    turn: usize,
}

impl Settled {
    fn new(clusters: usize, policies: usize, kind: Kind) -> Self {
        let world = fleet::settled(clusters, policies, kind);
        let mut planner = Planner::new(&world);
        planner.decide(fleet::start() + jiff::SignedDuration::from_hours(1));
        let report = planner.report(fleet::start() + jiff::SignedDuration::from_hours(1));
        let selected: BTreeSet<&str> =
            report.policies.values().flat_map(|policy| &policy.selected).map(|name| &**name).collect();
        let is_chosen = |number: &usize| selected.contains(fleet::name(*number).as_str());
        let is_told = |number: &usize| {
            let assignment = world.assignments().get(fleet::name(*number).as_str());
            let mut entries = assignment.iter().flat_map(|assignment| &assignment.spec.entries);
            entries.any(|entry| entry.action == Action::Serve)
        };
        let told = (0..clusters).rev().find(is_told);
        let chosen = (0..clusters).rev().find(is_chosen).unwrap();
        let bystander = (0..clusters).rev().find(|number| !is_chosen(number)).unwrap_or(chosen);
        Self { planner, world, chosen, told: told.unwrap_or(chosen), bystander, turn: 0 }
    }
}

/// What happens to one cluster or version, and is undone.
#[derive(Clone, Copy, PartialEq)]
enum Happening {
    Reports,
    GoesOrComes,
    RoomGoesOrComes,
    LeavesOrJoins,
    BystanderLeavesOrJoins,
    IsCounted,
    VersionComesOrGoes,
}

type Change = Box<dyn Fn(&mut Planner)>;

impl Happening {
    fn words(self) -> &'static str {
        match self {
            Self::Reports => "a spoke reports that a model fails, or serves",
            Self::GoesOrComes => "a spoke's connection goes, or comes",
            Self::RoomGoesOrComes => "one has the least room of all, or the most",
            Self::LeavesOrJoins => "a cluster leaves, or joins",
            Self::BystanderLeavesOrJoins => "one that no policy chose leaves, or joins",
            Self::IsCounted => "on how many clusters a version is is written",
            Self::VersionComesOrGoes => "a version that no policy names comes, or goes",
        }
    }

    fn both(self, world: &World, number: usize) -> [Change; 2] {
        let name = fleet::name(number);
        let stored = world.assignments().get(name.as_str()).cloned();
        let connection = |connected| -> Change {
            let cluster = fleet::cluster(number, connected);
            Box::new(move |planner| planner.upsert_cluster(Arc::clone(&cluster)))
        };
        match self {
            Self::Reports => [Phase::Failed, Phase::Serving].map(|phase| -> Change {
                let assignment = fleet::reported(stored.as_ref().unwrap(), phase);
                Box::new(move |planner| planner.upsert_assignment(Arc::clone(&assignment)))
            }),
            Self::GoesOrComes => [connection(false), connection(true)],
            Self::RoomGoesOrComes => [1_u64 << 38, 1 << 40].map(|bytes| -> Change {
                let cluster = fleet::with_room(number, true, bytes);
                Box::new(move |planner| planner.upsert_cluster(Arc::clone(&cluster)))
            }),
            Self::LeavesOrJoins | Self::BystanderLeavesOrJoins => {
                [Box::new(move |planner| planner.remove_cluster(&name)), connection(true)]
            }
            Self::IsCounted => [1, 2].map(|serving| -> Change {
                let version = fleet::counted(0, serving);
                Box::new(move |planner| planner.upsert_version(Arc::clone(&version)))
            }),
            Self::VersionComesOrGoes => {
                let version = fleet::another(0);
                let key = VersionKey::of(&version);
                [
                    Box::new(move |planner| planner.upsert_version(Arc::clone(&version))),
                    Box::new(move |planner| planner.remove_version(&key)),
                ]
            }
        }
    }
}

fn main() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planner");
    let mut criterion = Criterion::default().output_directory(&folder).configure_from_args();
    from_scratch(&mut criterion);
    one_change(&mut criterion);
    criterion.final_summary();
    table::print(&folder);
}
