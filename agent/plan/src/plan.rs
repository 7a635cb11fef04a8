//! The steps to take next. At most one step per model and one pull per version are named at a time: after each, the
//! shell writes down what is so and plans again, so there is no sequence that a crash could leave half done.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nave_names::{Digest, ModelName};

use crate::{
    attempts::Subject,
    entry::{Action, Entry, Vouch},
    evict::{Watermarks, evict},
    inventory::{Active, Inventory, Job, ModelInventory},
    ledger::Ledger,
    refuse::{refusals, refuse, refuse_unread, serve_entries},
    rows::{Row, plan_rows},
    step::Step,
    tiers::{Blocked, Tiering, plan_tiers},
};

/// For a version that is put back without an entry that says how long it may take.
const DEFAULT_PROBE_SECONDS: u32 = 60;

/// What to do, what to say, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Signatures first, then pulls (Serve before Prefetch), then by model.
    pub steps: Vec<Step>,
    /// One row for each (namespace, model, version) that is desired, held or served.
    pub rows: Vec<Row>,
    /// What the store keeps.
    pub roots: BTreeSet<Digest>,
    /// What it keeps on the hot tier, where it has two.
    pub hot: BTreeSet<Digest>,
    /// The move between the tiers that is under way is to stop: something that is needed sooner waits for it.
    pub gives_way: bool,
    /// What should be on the cold tier, and finds no room there.
    pub blocked: Option<Blocked>,
    /// When time alone changes the plan.
    pub recheck_at: Option<Timestamp>,
}

/// What to do now. See the crate's header.
pub fn plan(ledger: &Ledger, inventory: &Inventory, now: Timestamp) -> Plan {
    let wanted = serve_entries(ledger, inventory);
    let refused = refusals(ledger, inventory);
    let mut steps = plan_signatures(ledger, inventory, now);
    steps.extend(plan_pulls(ledger, inventory, now));
    let models: BTreeSet<&ModelName> = inventory.models.keys().chain(wanted.keys()).collect();
    for model in models {
        let empty = ModelInventory::default();
        let state = inventory.models.get(model).unwrap_or(&empty);
        let held_back = || {
            ledger.entries().iter().any(|entry| {
                entry.key.model == *model
                    && entry.action != Action::Prefetch
                    && refused.contains_key(&entry.key)
            })
        };
        let goal = match wanted.get(model) {
            // Nothing is touched before its signature was checked; what is served until then stays.
            Some(entry) if !inventory.is_vouched(entry) => Goal::Hold,
            Some(entry) => Goal::Serve(Active::of(entry), entry.probe_timeout_seconds),
            None if !ledger.is_told() || held_back() => Goal::Hold,
            None if state.record.serving.as_ref().is_some_and(|serving| serving.keep_on_removal) => {
                Goal::Hold
            }
            None => Goal::Remove,
        };
        let step = plan_model(model, &goal, state, inventory, now);
        let step = step.or_else(|| plan_retire(model, &goal, state, ledger));
        let due = |step: &Step| inventory.attempts.is_due(&step.subject(), now);
        if !inventory.running.contains(&Job::Model(model.clone())) {
            steps.extend(step.filter(due));
        }
    }
    let roots = plan_roots(ledger, inventory);
    let hot = plan_hot(ledger, inventory);
    let tiering = plan_tiers(&inventory.shelf, &roots, &hot);
    let promotion = plan_promotion(ledger, inventory, &hot, now);
    steps.extend(promotion.or_else(|| plan_demotion(ledger, inventory, &tiering, now)));
    steps.extend(plan_collect(ledger, inventory, &roots, &tiering, now));
    Plan {
        steps,
        rows: plan_rows(ledger, inventory, &refused),
        roots,
        gives_way: gives_way(ledger, inventory, &hot, now),
        hot,
        blocked: tiering.blocked,
        recheck_at: inventory.attempts.next_retry(now),
    }
}

/// What shall become of a model.
enum Goal {
    Serve(Active, u32),
    /// Nobody says otherwise, or what is said cannot be followed: as it is.
    Hold,
    Remove,
}

fn plan_signatures(ledger: &Ledger, inventory: &Inventory, now: Timestamp) -> Vec<Step> {
    let mut steps: BTreeMap<Vouch, Step> = BTreeMap::new();
    for entry in ledger.entries() {
        let Some(vouch) = entry.vouch() else { continue };
        let under_way = inventory.running.contains(&Job::Verify(vouch));
        let is_due = inventory.attempts.is_due(&Subject::Verify(vouch), now);
        if inventory.is_vouched(entry) || under_way || !is_due || refuse_unread(entry, inventory).is_some() {
            continue;
        }
        steps.entry(vouch).or_insert_with(|| Step::Verify {
            key: entry.key.clone(),
            vouch,
            trust: entry.signature_public_key.clone(),
            transfer: entry.transfer.clone(),
        });
    }
    steps.into_values().collect()
}

fn plan_pulls(ledger: &Ledger, inventory: &Inventory, now: Timestamp) -> Vec<Step> {
    let mut wanted: BTreeMap<Digest, &Entry> = BTreeMap::new();
    for entry in ledger.entries().iter().filter(|entry| needs_pull(entry, inventory)) {
        let slot = wanted.entry(entry.manifest_digest).or_insert(entry);
        if entry.action > slot.action {
            *slot = entry;
        }
    }
    let mut steps = Vec::new();
    for job in &inventory.running {
        match job {
            Job::Pull(digest) if !wanted.contains_key(digest) => {
                steps.push(Step::CancelPull { digest: *digest });
            }
            Job::Pull(_)
            | Job::Verify(_)
            | Job::Model(_)
            | Job::Collect
            | Job::Promote(_)
            | Job::Demote(_) => {}
        }
    }
    let mut pulls: Vec<&Entry> = wanted
        .iter()
        .filter(|(digest, _)| !inventory.running.contains(&Job::Pull(**digest)))
        .filter(|(digest, _)| inventory.attempts.is_due(&Subject::Pull(**digest), now))
        .map(|(_, entry)| *entry)
        .collect();
    pulls.sort_by(|a, b| b.action.cmp(&a.action).then_with(|| a.key.cmp(&b.key)));
    steps.extend(pulls.into_iter().map(|entry| Step::Pull {
        key: entry.key.clone(),
        digest: entry.manifest_digest,
        action: entry.action,
        transfer: entry.transfer.clone(),
    }));
    steps
}

fn needs_pull(entry: &Entry, inventory: &Inventory) -> bool {
    if inventory.held.contains(&entry.manifest_digest)
        || inventory.importing.contains(&entry.manifest_digest)
        || !inventory.is_vouched(entry)
        || refuse(entry, inventory).is_some()
    {
        return false;
    }
    let state = inventory.models.get(&entry.key.model);
    !state.is_some_and(|state| state.serves(&Active::of(entry)))
}

fn plan_model(
    model: &ModelName,
    goal: &Goal,
    state: &ModelInventory,
    inventory: &Inventory,
    now: Timestamp,
) -> Option<Step> {
    if let Some(switching) = &state.record.switching {
        return Some(plan_switching(model, goal, state, switching, inventory));
    }
    let (active, timeout_seconds) = match goal {
        Goal::Serve(active, timeout) => (active, *timeout),
        Goal::Hold => (state.record.serving.as_ref()?, DEFAULT_PROBE_SECONDS),
        Goal::Remove => return (!state.is_empty()).then(|| Step::Remove { model: model.clone() }),
    };
    if state.serves(active) {
        let adopt = Step::Adopt { model: model.clone(), active: active.clone() };
        return (state.record.serving.as_ref() != Some(active)).then_some(adopt);
    }
    if !inventory.attempts.is_due(&Subject::Switch(model.clone(), active.digest), now) {
        // The version does not come up; what is served must be right all the same.
        return plan_repair(model, state, inventory);
    }
    if state.has_folder(&active.folder()) {
        return Some(Step::Activate { model: model.clone(), active: active.clone(), timeout_seconds });
    }
    let at_hand = inventory.is_at_hand(&active.digest);
    let stage = || Step::Stage { model: model.clone(), active: active.clone() };
    at_hand.then(stage).or_else(|| plan_repair(model, state, inventory))
}

/// A switch that began: on with it, or back. One that failed stands in the attempts with `switched` false, and so does
/// none that a restart interrupted.
fn plan_switching(
    model: &ModelName,
    goal: &Goal,
    state: &ModelInventory,
    switching: &Active,
    inventory: &Inventory,
) -> Step {
    let model = model.clone();
    let timeout_seconds = match goal {
        Goal::Serve(active, timeout) if active.same_content(switching) => *timeout,
        Goal::Hold => DEFAULT_PROBE_SECONDS,
        Goal::Serve(..) | Goal::Remove => return Step::Revert { model },
    };
    // Of the entry where there is one: its owner may have changed since the switch began.
    let active = match goal {
        Goal::Serve(active, _) => active.clone(),
        Goal::Hold | Goal::Remove => switching.clone(),
    };
    if !state.has_folder(&switching.folder()) {
        return Step::Revert { model };
    }
    if state.switched {
        return Step::Probe { model, active, timeout_seconds };
    }
    let failed = inventory.attempts.get(&Subject::Switch(model.clone(), switching.digest)).is_some();
    if failed { Step::Revert { model } } else { Step::Activate { model, active, timeout_seconds } }
}

/// What is served is damaged, or its link is gone, and something else is wanted but not to be had yet.
fn plan_repair(model: &ModelName, state: &ModelInventory, inventory: &Inventory) -> Option<Step> {
    let serving = state.record.serving.as_ref().filter(|serving| !state.serves(serving))?;
    let (model, active) = (model.clone(), serving.clone());
    if state.has_folder(&serving.folder()) {
        return Some(Step::Activate { model, active, timeout_seconds: DEFAULT_PROBE_SECONDS });
    }
    inventory.is_at_hand(&serving.digest).then_some(Step::Stage { model, active })
}

/// Old folders go one by one, and only while what is wanted is what is served.
fn plan_retire(model: &ModelName, goal: &Goal, state: &ModelInventory, ledger: &Ledger) -> Option<Step> {
    let Goal::Serve(active, _) = goal else { return None };
    if !ledger.is_told() || state.record.switching.is_some() || !state.serves(active) {
        return None;
    }
    let keep = active.folder();
    let folder = state.folders.keys().find(|folder| **folder != keep)?;
    Some(Step::Retire { model: model.clone(), folder: folder.clone() })
}

/// What the store keeps: what is asked for, what is served or being switched to, what each model can go back to, and
/// what was brought here before the hub could ask for it.
fn plan_roots(ledger: &Ledger, inventory: &Inventory) -> BTreeSet<Digest> {
    let mut roots: BTreeSet<Digest> = ledger.entries().iter().map(|entry| entry.manifest_digest).collect();
    roots.extend(inventory.imported.iter().chain(&inventory.importing));
    for (model, state) in &inventory.models {
        roots.extend(state.record.serving.iter().chain(&state.record.switching).map(|active| active.digest));
        roots.extend(state.record.previous.first().map(|active| active.digest));
        for entry in ledger.entries().iter().filter(|entry| entry.key.model == *model) {
            let named = |active: &&Active| Some(&active.version) == entry.previous_version.as_ref();
            roots.extend(state.record.previous.iter().filter(named).map(|active| active.digest));
        }
    }
    roots
}

/// What belongs on the hot tier: what is asked for, be it only to be ready; what is served, being switched to or brought;
/// and what lies in a runtime's folder, where it is the same file.
fn plan_hot(ledger: &Ledger, inventory: &Inventory) -> BTreeSet<Digest> {
    let mut hot: BTreeSet<Digest> = ledger.entries().iter().map(|entry| entry.manifest_digest).collect();
    hot.extend(&inventory.importing);
    for state in inventory.models.values() {
        hot.extend(state.record.serving.iter().chain(&state.record.switching).map(|active| active.digest));
        let laid_out = |digest: &&Digest| state.folders.keys().any(|folder| folder.is_of(digest));
        hot.extend(inventory.held.iter().filter(laid_out));
    }
    hot
}

/// One version at a time, what is to be served first: two would only make each other slow.
fn plan_promotion(
    ledger: &Ledger,
    inventory: &Inventory,
    hot: &BTreeSet<Digest>,
    now: Timestamp,
) -> Option<Step> {
    if is_moving(inventory) {
        return None;
    }
    let digest = next_promotion(ledger, inventory, hot, now)?;
    Some(Step::Promote { digest })
}

/// What comes back to the hot tier next, but for what is on its way there.
fn next_promotion(
    ledger: &Ledger,
    inventory: &Inventory,
    hot: &BTreeSet<Digest>,
    now: Timestamp,
) -> Option<Digest> {
    let is_due = |digest: &&Digest| {
        inventory.attempts.is_due(&Subject::Promote(**digest), now)
            && !inventory.running.contains(&Job::Promote(**digest))
    };
    let held = hot.intersection(&inventory.held).filter(|digest| inventory.shelf.is_cold(digest));
    held.filter(is_due).min_by_key(|digest| (!is_to_serve(ledger, digest), **digest)).copied()
}

fn is_to_serve(ledger: &Ledger, digest: &Digest) -> bool {
    let mut entries = ledger.entries().iter();
    entries.any(|entry| entry.manifest_digest == *digest && entry.action == Action::Serve)
}

/// A move may take as long as a disk is slow: on the way to the cold tier nothing is in a hurry, and what is only to be
/// ready waits for what is to serve.
fn gives_way(ledger: &Ledger, inventory: &Inventory, hot: &BTreeSet<Digest>, now: Timestamp) -> bool {
    let next = || next_promotion(ledger, inventory, hot, now);
    inventory.running.iter().any(|job| match job {
        Job::Demote(_) => next().is_some(),
        Job::Promote(digest) => {
            let is_sooner = |next: Digest| is_to_serve(ledger, &next) && !is_to_serve(ledger, digest);
            !hot.contains(digest) || next().is_some_and(is_sooner)
        }
        Job::Pull(_) | Job::Verify(_) | Job::Model(_) | Job::Collect => false,
    })
}

/// After what has to go from the cold tier to make room there.
fn plan_demotion(ledger: &Ledger, inventory: &Inventory, tiering: &Tiering, now: Timestamp) -> Option<Step> {
    if !ledger.is_told() || is_moving(inventory) || !tiering.evict.is_empty() {
        return None;
    }
    let is_due = |digest: &&Digest| inventory.attempts.is_due(&Subject::Demote(**digest), now);
    let digest = *tiering.demote.iter().filter(|digest| inventory.held.contains(*digest)).find(is_due)?;
    Some(Step::Demote { digest })
}

fn is_moving(inventory: &Inventory) -> bool {
    inventory.running.iter().any(|job| match job {
        Job::Promote(_) | Job::Demote(_) | Job::Collect => true,
        Job::Pull(_) | Job::Verify(_) | Job::Model(_) => false,
    })
}

fn plan_collect(
    ledger: &Ledger,
    inventory: &Inventory,
    roots: &BTreeSet<Digest>,
    tiering: &Tiering,
    now: Timestamp,
) -> Option<Step> {
    let garbage = |digest: &Digest| !roots.contains(digest);
    let busy = inventory.running.iter().any(|job| match job {
        Job::Collect | Job::Model(_) | Job::Promote(_) | Job::Demote(_) => true,
        Job::Pull(digest) => garbage(digest),
        Job::Verify(vouch) => garbage(&vouch.manifest),
    });
    let is_due = inventory.attempts.is_due(&Subject::Collect, now);
    if !ledger.is_told() || busy || !is_due {
        return None;
    }
    let versions = plan_evictions(inventory, roots, tiering);
    let any = !versions.is_empty() || inventory.partial.iter().any(garbage);
    any.then(|| Step::Collect { roots: roots.clone(), versions })
}

/// What nothing needs stays as long as there is room: it may be asked for again, and newer versions share chunks with it.
fn plan_evictions(inventory: &Inventory, roots: &BTreeSet<Digest>, tiering: &Tiering) -> BTreeSet<Digest> {
    let shelf = &inventory.shelf;
    if shelf.cold.is_some() {
        return tiering.evict.intersection(&inventory.held).copied().collect();
    }
    if shelf.marks == Watermarks::default() {
        return inventory.held.difference(roots).copied().collect();
    }
    let gone = evict(&shelf.versions, roots, shelf.marks.excess(shelf.taken)).versions.into_iter();
    gone.filter(|digest| inventory.held.contains(digest)).collect()
}
