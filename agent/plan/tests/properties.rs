//! Whatever is told, fails or is killed: the rules of `check` hold in every plan, what was served goes on being served
//! until it is told away, and when nothing fails any more the spoke gets where it was told.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_in_result,
    clippy::unwrap_used
)] // Helpers of tests are not seen as tests.

mod spoke;

use nave_agent_plan::{Action, Entry, Step};
use nave_names::{Digest, ModelName};
use proptest::{prelude::*, test_runner::RngSeed};
use spoke::{Outcome, Spoke, entry, snapshot};

#[derive(Clone, Debug)]
enum Event {
    Tell(Vec<Entry>),
    Steps(Vec<Outcome>),
    Restart,
    LoseLedger,
    Damage,
    Wait(i64),
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let one =
        (0..2u8, 0..2u8, 0..3u8, 0..8u8, any::<bool>()).prop_map(|(policy, model, version, action, keep)| {
            let action = match action {
                0..=4 => Action::Serve,
                5 | 6 => Action::Prefetch,
                _ => Action::Unknown(9),
            };
            let mut entry = entry(&format!("p{policy}"), &format!("m{model}"), &version.to_string(), action);
            entry.keep_on_removal = keep;
            if keep && version == 1 {
                entry.signature_public_key = format!("PEM {policy}");
            }
            if version == 2 && policy == 1 {
                entry.runtime = "triton".into();
            }
            entry
        });
    prop::collection::vec(one, 0..5).prop_map(|mut entries| {
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        entries
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![12 => Just(Outcome::Done), 2 => Just(Outcome::Fails), 1 => Just(Outcome::KilledMidway)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => entries().prop_map(Event::Tell),
        6 => prop::collection::vec(outcome(), 1..16).prop_map(Event::Steps),
        1 => Just(Event::Restart),
        2 => Just(Event::LoseLedger),
        1 => Just(Event::Damage),
        2 => (1..1000i64).prop_map(Event::Wait),
    ]
}

/// What a model serves, and what it is being switched to.
struct Before {
    model: ModelName,
    served: Digest,
    switching: Option<Digest>,
}

/// A model that is served may stop being served only because it was told away: by an entry, or by one that was there when
/// the switch began, be it lost since. None begins without one, but to what is served.
fn assert_still_served(spoke: &Spoke, before: &Before) {
    let record = &spoke.inventory.models.get(before.model.as_str()).expect("its record is gone").record;
    let is_wanted = |digest: &Digest| spoke.ledger.entries().iter().any(|e| e.manifest_digest == *digest);
    let may_be = |digest: &Digest| {
        *digest == before.served || before.switching.as_ref() == Some(digest) || is_wanted(digest)
    };
    let serving = record.serving.as_ref().expect("nothing is served");
    assert!(may_be(&serving.digest), "{:#?}", spoke.trace);
    let switching = record.switching.as_ref().map(|active| active.digest);
    assert!(switching.is_none_or(|digest| may_be(&digest)), "begins by itself: {:#?}", spoke.trace);
}

fn is_asked(spoke: &Spoke, model: &ModelName) -> bool {
    let asked = |entry: &Entry| entry.key.model == *model && entry.action != Action::Prefetch;
    !spoke.ledger.is_told() || spoke.ledger.entries().iter().any(asked)
}

fn run(spoke: &mut Spoke, event: Event, generation: u64) {
    match event {
        Event::Tell(entries) => spoke.tell(&snapshot(generation, &entries)).unwrap(),
        Event::Restart => spoke.restart(),
        Event::LoseLedger => spoke.ledger = Default::default(),
        Event::Damage => {
            let models = spoke.inventory.models.values_mut();
            models.flat_map(|model| model.folders.values_mut()).for_each(|right| *right = false);
        }
        Event::Wait(seconds) => spoke.wait(seconds),
        Event::Steps(outcomes) => {
            for outcome in outcomes {
                let Some(step) = spoke.plan().steps.into_iter().next() else { return };
                let before: Vec<Before> = spoke
                    .inventory
                    .models
                    .iter()
                    .filter(|(model, _)| is_asked(spoke, model))
                    .filter_map(|(model, state)| {
                        let served = state.record.serving.as_ref()?.digest;
                        let switching = state.record.switching.as_ref().map(|active| active.digest);
                        Some(Before { model: model.clone(), served, switching })
                    })
                    .collect();
                spoke.take(&step, outcome);
                before.iter().for_each(|before| assert_still_served(spoke, before));
            }
        }
    }
}

/// The same stories in every run, unless `NAVE_SEED` asks for others.
fn seed() -> u64 {
    std::env::var("NAVE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, rng_seed: RngSeed::Fixed(seed()), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_hold_and_the_spoke_arrives(
        events in prop::collection::vec(event(), 1..25), last in entries(), tiers in any::<bool>(),
    ) {
        let mut spoke = Spoke::new();
        let marks = nave_agent_plan::Watermarks { high: 20, low: 10 };
        let cold = nave_agent_plan::ColdShelf { taken: 0, most: 1_000, marks };
        spoke.inventory.shelf.cold = tiers.then_some(cold);
        for (index, event) in events.into_iter().enumerate() {
            run(&mut spoke, event, index as u64 + 1);
            spoke.plan();
        }
        spoke.tell(&snapshot(1000, &last)).unwrap();
        spoke.restart();
        spoke.settle(|_: &Step| Outcome::Done);
        for entry in &last {
            let key = format!("{} {} ", entry.key.model, entry.key.version);
            let rows = spoke.rows();
            let row = rows.iter().find(|row| row.starts_with(&key)).expect("no row");
            let fine = ["Serving", "Staged", "Rejected"].iter().any(|phase| row.contains(phase));
            prop_assert!(fine, "{row}\n{:#?}", spoke.trace);
        }
        // Nothing is left over: what the store holds is what the plan wants it to hold.
        let plan = spoke.plan();
        prop_assert!(tiers || spoke.inventory.held.iter().all(|digest| plan.roots.contains(digest)));
        for (digest, kept) in &spoke.inventory.shelf.versions {
            prop_assert!(kept.cold.is_empty() || !plan.hot.contains(digest), "what is hot lies cold");
            prop_assert!(!kept.cold.is_empty() || plan.hot.contains(digest), "what is cold lies hot");
        }
        prop_assert_eq!(plan.recheck_at, None);
    }
}
