//! What must hold for any plan, whatever led to it. The tests run it after every step; it shares no code with the
//! planner, so that one mistake cannot hide in both.

use std::collections::BTreeSet;

use nave_names::Digest;

use crate::{
    entry::Action,
    inventory::{Inventory, Job},
    ledger::Ledger,
    plan::Plan,
    step::Step,
};

/// Every rule that `plan` breaks, as sentences; empty = sound.
pub fn check(ledger: &Ledger, inventory: &Inventory, plan: &Plan) -> Vec<String> {
    let mut broken = Vec::new();
    let mut jobs = BTreeSet::new();
    for step in &plan.steps {
        check_step(ledger, inventory, plan, step, &mut broken);
        let is_cancel = matches!(step, Step::CancelPull { .. });
        if !is_cancel && inventory.running.contains(&step.job()) {
            broken.push(format!("planned twice: {step:?}"));
        }
        if !jobs.insert(step.job()) {
            broken.push(format!("two steps at once on {:?}", step.job()));
        }
    }
    check_moves(ledger, inventory, plan, &mut broken);
    check_roots(ledger, inventory, plan, &mut broken);
    broken
}

fn check_step(ledger: &Ledger, inventory: &Inventory, plan: &Plan, step: &Step, broken: &mut Vec<String>) {
    let mut must = |holds: bool, rule: &str| {
        if !holds {
            broken.push(format!("{rule}: {step:?}"));
        }
    };
    match step {
        Step::Pull { digest, key, .. } => {
            must(!inventory.held.contains(digest), "pulls what is held");
            must(!inventory.importing.contains(digest), "pulls what is being imported");
            let asked = |entry: &crate::Entry| entry.key == *key && entry.manifest_digest == *digest;
            must(ledger.entries().iter().any(asked), "pulls what nobody asks for");
            let mut askers = ledger.entries().iter().filter(|entry| asked(entry));
            must(askers.any(|entry| is_signed(entry, inventory)), "pulls what is not signed");
        }
        Step::Verify { vouch, .. } => {
            must(!inventory.signed.contains(vouch), "verifies again what was verified");
            let asked = ledger.entries().iter().any(|entry| {
                entry.manifest_digest == vouch.manifest && !entry.signature_public_key.is_empty()
            });
            must(asked, "verifies what nobody asks for");
        }
        Step::CancelPull { digest } => {
            must(inventory.running.contains(&Job::Pull(*digest)), "cancels what is not running");
        }
        Step::Stage { model, active } => {
            must(inventory.held.contains(&active.digest), "stages what is not verified");
            must(!inventory.shelf.is_cold(&active.digest), "stages from the cold tier");
            let served = inventory.models.get(model).and_then(|state| state.record.serving.as_ref());
            let repaired = served.is_some_and(|serving| serving.digest == active.digest);
            let mut askers = ledger
                .entries()
                .iter()
                .filter(|entry| entry.key.model == *model && entry.manifest_digest == active.digest);
            let signed = askers.any(|entry| is_signed(entry, inventory));
            must(repaired || signed, "stages what is not signed");
        }
        Step::Activate { model, active, .. } | Step::Probe { model, active, .. } => {
            let state = inventory.models.get(model);
            let folder = active.folder();
            must(state.is_some_and(|state| state.has_folder(&folder)), "serves what is not staged");
            let known = state.is_some_and(|state| {
                [&state.record.serving, &state.record.switching]
                    .into_iter()
                    .flatten()
                    .any(|a| a.same_content(active))
            });
            let asked = ledger.entries().iter().any(|entry| {
                entry.key.model == *model
                    && entry.action == Action::Serve
                    && entry.manifest_digest == active.digest
                    && inventory.runtimes.contains(&entry.runtime)
                    && is_signed(entry, inventory)
            });
            must(known || asked, "serves what nobody asks for");
        }
        Step::Retire { model, folder } => {
            must(ledger.is_told(), "drops something without being told");
            let state = inventory.models.get(model);
            must(state.is_some_and(|state| state.record.switching.is_none()), "drops during a switch");
            let in_use = state.and_then(|state| state.record.serving.as_ref()).map(|a| a.folder());
            must(in_use.is_some_and(|in_use| in_use != *folder), "drops what is served");
            let linked = state.and_then(|state| state.linked.as_ref());
            must(linked != Some(folder), "drops what is linked");
        }
        Step::Remove { model } => {
            must(ledger.is_told(), "removes without being told");
            let asked = |entry: &crate::Entry| entry.key.model == *model && entry.action != Action::Prefetch;
            must(!ledger.entries().iter().any(asked), "removes what is asked for");
            let state = inventory.models.get(model);
            let keep =
                state.and_then(|state| state.record.serving.as_ref()).is_some_and(|a| a.keep_on_removal);
            must(!keep, "removes what shall be kept");
        }
        Step::Collect { roots, versions } => {
            must(ledger.is_told(), "collects without being told");
            must(versions.is_disjoint(&plan.roots), "evicts what must stay");
            must(*roots == plan.roots, "collects by other roots than the plan's");
        }
        Step::Promote { .. } | Step::Demote { .. } | Step::Revert { .. } | Step::Adopt { .. } => {}
    }
}

fn check_moves(ledger: &Ledger, inventory: &Inventory, plan: &Plan, broken: &mut Vec<String>) {
    let mut moves = 0;
    for step in &plan.steps {
        let (Step::Promote { digest } | Step::Demote { digest }) = step else { continue };
        let is_demotion = matches!(step, Step::Demote { .. });
        let asked = ledger.entries().iter().any(|entry| entry.manifest_digest == *digest);
        let mut records = inventory.models.values().map(|state| &state.record);
        let in_use =
            records.any(|r| r.serving.iter().chain(&r.switching).any(|active| active.digest == *digest));
        moves += 1;
        for (is_so, rule) in [
            (moves > 1, "two moves between the tiers at once"),
            (!inventory.held.contains(digest), "moves what is not verified"),
            (!is_demotion && !inventory.shelf.is_cold(digest), "promotes what is hot"),
            (is_demotion && !ledger.is_told(), "demotes without being told"),
            (is_demotion && asked, "demotes what is asked for"),
            (is_demotion && in_use, "demotes what is served"),
        ] {
            if is_so {
                broken.push(format!("{rule}: {step:?}"));
            }
        }
    }
    check_giving_way(ledger, inventory, plan, broken);
}

fn check_giving_way(ledger: &Ledger, inventory: &Inventory, plan: &Plan, broken: &mut Vec<String>) {
    let jobs: Vec<_> =
        inventory.running.iter().filter(|job| matches!(job, Job::Promote(_) | Job::Demote(_))).collect();
    if plan.gives_way && jobs.is_empty() {
        broken.push("stops a move that is not running".to_owned());
    }
    let serves = |digest: &Digest| {
        let asks = |entry: &crate::Entry| entry.manifest_digest == *digest && entry.action == Action::Serve;
        ledger.entries().iter().any(asks)
    };
    for job in jobs {
        if let Job::Promote(digest) = job
            && plan.gives_way
            && serves(digest)
        {
            broken.push(format!("stops what is to serve on its way: {job:?}"));
        }
    }
}

fn is_signed(entry: &crate::Entry, inventory: &Inventory) -> bool {
    let trust = Digest::of(entry.signature_public_key.as_bytes());
    entry.signature_public_key.is_empty()
        || inventory.signed.iter().any(|v| v.manifest == entry.manifest_digest && v.trust == trust)
}

fn check_roots(ledger: &Ledger, inventory: &Inventory, plan: &Plan, broken: &mut Vec<String>) {
    for digest in inventory.imported.union(&inventory.importing) {
        if !plan.roots.contains(digest) {
            broken.push(format!("would evict what was imported: {digest}"));
        }
    }
    for entry in ledger.entries() {
        if !plan.roots.contains(&entry.manifest_digest) {
            broken.push(format!("would evict what is asked for: {}", entry.key));
        }
    }
    for (model, state) in &inventory.models {
        for active in
            state.record.serving.iter().chain(&state.record.switching).chain(state.record.previous.first())
        {
            if !plan.roots.contains(&active.digest) {
                broken.push(format!("would evict {} of {model}, which is in use", active.version));
            }
        }
    }
}
